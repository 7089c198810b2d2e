"""Where a cluster is, and where its runs lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from automl.cluster.client import connect
from automl.cluster.submission import FOLDER, Runs
from automl.data.store import is_url

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

STORE_SECONDS = 10.0  # that a person waits for a store which does not answer


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster by its dashboard's address, and where its runs lie where this machine is told so.

    `runs` is needed only where the cluster itself does not say so (AUTOML_RUNS on its head), or is down.
    """

    address: str
    runs: str | None = None

    def client(self) -> JobSubmissionClient:
        """The Job API; raises UserError where it does not answer or refuses the token."""
        return connect(self.address)

    def seen(self) -> Runs | None:
        """The runs where this machine can read them itself."""
        if self.runs and (is_url(self.runs) or (Path(self.runs) / FOLDER).is_dir()):
            return Runs(self.runs, STORE_SECONDS)
        return None

    def sees(self, name: str) -> Runs | None:
        """The same, where this run is among them."""
        runs = self.seen()
        return runs if runs is not None and runs.has(name) else None
