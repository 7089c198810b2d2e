"""What a search also logs to, where the file asks for it: TensorBoard and MLflow. The journal stays the truth."""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from optuna.trial import TrialState

from automl.search.ledger import Ledger
from automl.search.standing import Proposal
from automl.search.tune_adapters import Book
from automl.space import SearchSpec, UserError
from automl.space.objectives import METRICS
from automl.space.printable import printable
from automl.space.urls import redacted_values
from automl.training.run_directory import RunDirectory

LOGGED = (*METRICS, "train_loss", "latency_ms")
LONGEST = 500  # characters of a parameter's value, as MLflow has it
STATUSES = {TrialState.COMPLETE: "completed", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}


class Tracker(Protocol):
    """Hears of trials; `status` is completed, stopped or failed, or interrupted where the search ended before."""

    def begin(self, number: int, config: Mapping[str, Any]) -> None:
        """A trial begins, or goes on after an interruption."""

    def log(self, number: int, epoch: int, figures: Mapping[str, float]) -> None:
        """What it has reached after an epoch."""

    def end(self, number: int, status: str) -> None:
        """It has ended."""

    def close(self) -> None:
        """No more comes."""


@contextmanager
def tracked(ledger: Ledger, spec: SearchSpec, run: RunDirectory) -> Iterator[Book]:
    """The ledger, whose trials are also told to the trackers that `log_to` names, by a thread of its own.

    A tracker that fails later is given up with a warning: it costs no trial. Raises UserError where one cannot be
    reached at the beginning.
    """
    if not spec.search.log_to:
        yield ledger
        return
    make: dict[str, Callable[[], Tracker]] = {"tensorboard": lambda: TensorBoard(run), "mlflow": lambda: MLflow(run)}
    trackers = {name: make[name]() for name in spec.search.log_to}
    book = _TrackedBook(ledger)
    thread = threading.Thread(target=_tell, args=(book.news, trackers), name="trackers", daemon=True)
    thread.start()
    try:
        yield book
    finally:
        book.end_all()
        thread.join()


class _TrackedBook:
    """The ledger, with news of what is asked and told."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.news: queue.Queue[Callable[[Tracker], None] | None] = queue.Queue()
        self._open: set[int] = set()

    def next(self, *, alone: bool = False) -> Proposal | None:
        proposal = self.ledger.next(alone=alone)
        if proposal is not None:
            number, config = proposal.number, redacted_values(proposal.config)
            self._open.add(number)
            self.news.put(lambda tracker: tracker.begin(number, config))
        return proposal

    def record(self, number: int, result: Mapping[str, Any]) -> bool:
        figures = {name: float(result[name]) for name in LOGGED if isinstance(result.get(name), int | float)}
        figures = {name: value for name, value in figures.items() if math.isfinite(value)}
        if number in self._open and figures:
            epoch = int(result["epoch"])
            self.news.put(lambda tracker: tracker.log(number, epoch, figures))
        goes_on = self.ledger.record(number, result)
        if not goes_on:
            self._end(number)
        return goes_on

    def restart(self, number: int, reason: str) -> bool:
        again = self.ledger.restart(number, reason)
        if not again:
            self._end(number)
        return again

    def retry_alone(self, number: int) -> bool:
        return self.ledger.retry_alone(number)

    def waiting_alone(self) -> int:
        return self.ledger.waiting_alone()

    def running(self) -> int:
        return self.ledger.running()

    def remaining(self) -> int:
        return self.ledger.remaining()

    def end_all(self) -> None:
        for number in sorted(self._open):
            self._end(number)
        self.news.put(None)

    def _end(self, number: int) -> None:
        if number in self._open:
            self._open.remove(number)
            status = STATUSES.get(self.ledger.journal.trial(number).state, "interrupted")
            self.news.put(lambda tracker: tracker.end(number, status))


def _tell(news: queue.Queue[Callable[[Tracker], None] | None], trackers: dict[str, Tracker]) -> None:
    """Give the news to all trackers until there is no more; one that raises is left out from then on."""

    def give(told: Callable[[Tracker], None]) -> None:
        for name, tracker in list(trackers.items()):
            try:
                told(tracker)
            except Exception as error:  # a server that is gone raises anything
                del trackers[name]
                reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
                logging.getLogger(__name__).warning("%s is not logged to any more: %s", name, printable(reason[0]))

    while (told := news.get()) is not None:
        give(told)
    give(lambda tracker: tracker.close())


class TensorBoard:
    """Event files in the run's folder `tensorboard`, a folder for each trial."""

    def __init__(self, run: RunDirectory) -> None:
        self._folder = run.path / "tensorboard"
        self._writers: dict[int, Any] = {}

    def begin(self, number: int, config: Mapping[str, Any]) -> None:
        """Open the trial's file; a trial that goes on gets another beside it."""
        from tensorboardX import SummaryWriter

        self._writers[number] = SummaryWriter(str(self._folder / str(number)))
        self._writers[number].add_text("config", f"```\n{json.dumps(config, indent=2)}\n```")

    def log(self, number: int, epoch: int, figures: Mapping[str, float]) -> None:
        """A scalar for each figure."""
        for name, value in figures.items():
            self._writers[number].add_scalar(name, value, epoch)
        self._writers[number].flush()

    def end(self, number: int, status: str) -> None:
        """Close the trial's file."""
        writer = self._writers.pop(number)
        writer.add_text("status", status)
        writer.close()

    def close(self) -> None:
        """Nothing is open any more."""


class MLflow:
    """An experiment for the run, a run of MLflow's for each trial, where `MLFLOW_TRACKING_URI` says.

    By default that is the SQLite file `mlflow.db` in the run's folder.
    """

    def __init__(self, run: RunDirectory) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would tell its makers of each run
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        from mlflow.tracking import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.path.resolve() / 'mlflow.db'}"
        try:
            self._client = MlflowClient(tracking_uri=uri)
            known = self._client.get_experiment_by_name(printable(run.name))
            self._experiment = known.experiment_id if known else self._client.create_experiment(printable(run.name))
        except Exception as error:  # whatever the server or the database says
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"log_to: MLflow does not answer at {uri.rpartition('@')[2]}: {reason}") from error
        self._runs: dict[int, str] = {}

    def begin(self, number: int, config: Mapping[str, Any]) -> None:
        """Start a run, or go on with the one of the trial."""
        from mlflow.entities import Param

        found = self._client.search_runs([self._experiment], f"tags.`automl.trial` = '{number}'", max_results=1)
        if found:
            self._runs[number] = found[0].info.run_id
            self._client.update_run(self._runs[number], status="RUNNING")
            return
        tags = {"automl.trial": str(number), "automl.family": next(iter(config["model"]))}
        self._runs[number] = self._client.create_run(
            self._experiment, tags=tags, run_name=f"trial {number}"
        ).info.run_id
        settings = {name: config[name] for name in ("model", "training", "data")}
        params = [Param(name, printable(value)[:LONGEST]) for name, value in _flat(settings)]
        self._client.log_batch(self._runs[number], params=params[:100])

    def log(self, number: int, epoch: int, figures: Mapping[str, float]) -> None:
        """A metric for each figure."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, epoch) for name, value in figures.items()]
        self._client.log_batch(self._runs[number], metrics=metrics)

    def end(self, number: int, status: str) -> None:
        """End the run; MLflow has no word for one that was stopped early, so a tag says that."""
        run = self._runs.pop(number)
        self._client.set_tag(run, "automl.status", status)
        self._client.set_terminated(run, {"failed": "FAILED", "interrupted": "KILLED"}.get(status, "FINISHED"))

    def close(self) -> None:
        """Nothing is open any more."""


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
