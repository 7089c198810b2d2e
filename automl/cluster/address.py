"""Where a cluster is, and where its runs lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from automl.cluster.client import connect
from automl.cluster.submission import FOLDER, Runs
from automl.data.store import is_url
from automl.space import UserError
from automl.space.urls import redacted

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ADDRESS = "AUTOML_ADDRESS"
STORE_SECONDS = 10.0  # that a person waits for a store which does not answer


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster by its dashboard's address, and where its runs lie where this machine is told so.

    `runs` is needed only where the cluster itself does not say so (AUTOML_RUNS on its head), is down, or is not asked
    (without an address).
    """

    address: str | None
    runs: str | None = None

    def client(self) -> JobSubmissionClient:
        """The Job API; raises UserError where it does not answer or refuses the token, or there is no address."""
        if self.address is None:
            raise UserError(f"name the cluster with --address http://HOST:8265, or in {ADDRESS}")
        return connect(self.address)

    def client_if_up(self) -> JobSubmissionClient | None:
        """The same; None where the cluster is not to be asked, or does not answer, and this machine reads the runs."""
        try:
            return self.client()
        except UserError as error:
            if self.seen() is not None and (self.address is None or "answer" in str(error)):
                return None
            if self.address is None and self.runs is not None:
                raise UserError(
                    f"no run was submitted to {redacted(self.runs)}, as far as this machine sees it; to ask the "
                    f"cluster, name it with --address or in {ADDRESS}"
                ) from error
            raise

    def seen(self) -> Runs | None:
        """The runs where this machine can read them itself."""
        if self.runs and (is_url(self.runs) or (Path(self.runs) / FOLDER).is_dir()):
            return Runs(self.runs, STORE_SECONDS)
        return None

    def sees(self, name: str) -> Runs | None:
        """The same, where this run is among them."""
        runs = self.seen()
        return runs if runs is not None and runs.has(name) else None
