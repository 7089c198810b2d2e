"""Ray Tune's searcher, scheduler and stopper as thin glue around the ledger, which decides everything."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from automl.search.ledger import Ledger, Proposal
from automl.search.ray_session import release_workers
from automl.search.trainable import Assignment
from automl.search.watchdog import stall_reason
from automl.training.run_directory import TrialDirectory

Assign = Callable[[Proposal], Assignment]


class LedgerSearcher(Searcher):  # type: ignore[misc]
    """Proposes the ledger's next trial, never more at once than may run."""

    def __init__(self, ledger: Ledger, assign: Assign, max_concurrent: int) -> None:
        super().__init__()
        self.ledger = ledger
        self.assign = assign
        self.max_concurrent = max_concurrent

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's assignment; None while enough are running; FINISHED after the last."""
        if self.ledger.progress.running >= self.max_concurrent:
            return None
        proposal = self.ledger.next()
        if proposal is None:
            return str(Searcher.FINISHED)
        return {"assignment": json.dumps(asdict(self.assign(proposal)))}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the scheduler hears of every end first and tells the ledger."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the truth."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class LedgerScheduler(FIFOScheduler):  # type: ignore[misc]
    """Writes each result to the ledger, which says whether the trial goes on."""

    def __init__(self, ledger: Ledger, on_close: Callable[[int], None]) -> None:
        super().__init__()
        self.ledger = ledger
        self.on_close = on_close

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Continue or stop."""
        number = _number(trial)
        if "interrupted" in result or self.ledger.record(number, result):
            return str(TrialScheduler.CONTINUE)
        self.on_close(number)
        return str(TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A worker that died takes its trial with it."""
        number = _number(trial)
        folder = TrialDirectory(Path(json.loads(trial.config["assignment"])["folder"]))
        release_workers(folder)
        self.ledger.fail(number, stall_reason(folder.stalled) or "its worker process ended unexpectedly")
        self.on_close(number)

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Stop(tune.Stopper):  # type: ignore[misc]
    """Ends the search at a deadline, at a request, or once too many trials in a row fail of one cause.

    `reason` then says which. Workers learn of it from a file and stop in mid-epoch.
    """

    def __init__(self, ledger: Ledger, stop_file: Path, deadline: float | None, max_same_failures: int) -> None:
        self.ledger = ledger
        self.stop_file = stop_file
        self.deadline = deadline
        self.max_same_failures = max_same_failures
        self.reason: str | None = None

    def request(self, reason: str) -> None:
        """Stop as soon as possible; the first reason stays."""
        if self.reason is None:
            self.reason = reason
            self.stop_file.touch()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Single trials are the scheduler's business."""
        return False

    def stop_all(self) -> bool:
        """Whether the search is to end now."""
        if self.reason is None and self.deadline is not None and time.monotonic() >= self.deadline:
            self.request("time budget")
        same = self.ledger.same_failure()
        if self.reason is None and same is not None and same[1] >= self.max_same_failures:
            self.request(f"{same[1]} trials in a row failed of one cause: {same[0]}")
        return self.reason is not None

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _number(trial: Any) -> int:
    return int(json.loads(trial.config["assignment"])["number"])
