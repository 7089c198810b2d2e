"""Ray Tune's searcher and scheduler as thin glue around a book that decides everything: the ledger, as a rule."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from automl.data.store import Store
from automl.search.ray_session import release_workers
from automl.search.reasons import DISK_FULL, not_written, out_of_gpu_memory, worker_end
from automl.search.sharing import is_part
from automl.search.standing import Proposal
from automl.search.trainable import Assignment
from automl.search.waiting import NOWHERE, Places
from automl.search.watchdog import stall_of

Assign = Callable[[Proposal], Assignment]
START_SECONDS = 10.0  # so long after the first result workers may still be starting
LOOK_SECONDS = 5.0  # between two looks whether the workers of a trial have started
REMEMBERED_TRIALS = 100  # finished trials that Ray Tune keeps


class Book(Protocol):
    """What hands out trials and hears of them: the ledger of a search, or the list of its finalists."""

    def next(self, *, alone: bool = False) -> Proposal | None:
        """The next trial to run; None where there is none now. Those of `retry_alone` are given out `alone` only."""

    def record(self, number: int, result: Mapping[str, Any]) -> bool:
        """Write the result of an epoch; true if the trial goes on."""

    def restart(self, number: int, reason: str) -> bool:
        """A trial lost its worker; true if it is to run again."""

    def retry_alone(self, number: int) -> bool:
        """A trial ran out of a GPU's memory beside others; true if it is to run again without them."""

    def waiting_alone(self) -> int:
        """Trials that wait for that."""

    def running(self) -> int:
        """Trials that have been given out."""

    def remaining(self) -> int:
        """Trials still to end."""


class BookSearcher(Searcher):  # type: ignore[misc]
    """Proposes the book's next trial, never more at once than may run, and none any more once it is `over`."""

    def __init__(
        self,
        book: Book,
        assign: Assign,
        stop: Callable[[str], None],
        max_concurrent: int,
        over: Callable[[], bool] = lambda: False,
        *,
        alone: bool = False,
    ) -> None:
        super().__init__()
        self.over = over
        self.alone = alone
        self.book = book
        self.assign = assign
        self.stop = stop
        self.max_concurrent = max_concurrent

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's assignment; None while there is none to start; FINISHED after the last has ended."""
        if self.over() or self.book.remaining() == 0:
            return str(Searcher.FINISHED)
        if self.book.running() >= self.max_concurrent:
            return None
        try:
            proposal = self.book.next(alone=self.alone)
        except OSError as error:
            self.stop(not_written(error))
            return None
        if proposal is None:
            return None
        return {"assignment": json.dumps(asdict(self.assign(proposal)))}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the scheduler hears of every end first and tells the book."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the truth."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class BookScheduler(FIFOScheduler):  # type: ignore[misc]
    """Writes each result to the book, which says whether the trial goes on."""

    def __init__(
        self,
        book: Book,
        stop: Callable[[str], None],
        on_close: Callable[[int], None],
        out_of_memory: Callable[[BaseException | None], str | None] = lambda error: None,
        on_epoch: Callable[[Mapping[str, Any], float], None] = lambda result, gpus: None,
    ) -> None:
        """`out_of_memory` says why a worker died, where it was for its memory. `on_epoch` hears each result, and how
        many GPUs the trial has."""
        super().__init__()
        self.on_epoch = on_epoch
        self.out_of_memory = out_of_memory
        self.book = book
        self.stop = stop
        self.on_close = on_close
        self._workers = 1
        self._held: list[Any] = []
        self._all_started_by: float | None = None
        self._controller: Any = None
        self._reserved: dict[int, tuple[float, bool]] = {}  # when it was looked whether a trial's workers have started

    def begin(self, workers: int) -> None:
        """A run of Ray Tune with so many workers begins."""
        self._workers = workers
        self._held = []
        self._all_started_by = None
        self._controller = None

    def at_work(self, workers: int) -> int:
        """Trials, of so many workers each, that have their resources; others wait for a node, or for those that run."""
        if self._controller is None:
            return 0
        running = [trial for trial in self._controller.get_live_trials() if trial.status == "RUNNING"]
        return len(running) if workers == 1 else sum(self._has_places(trial) for trial in running)

    def places(self, workers: int) -> Places:
        """Where the trials are that have been given out, of so many workers each."""
        if self._controller is None:
            return NOWHERE
        resetting = getattr(self._controller, "_resetting_trials", ())  # they are given to a worker that is there
        live = [trial for trial in self._controller.get_live_trials() if trial not in self._held]
        running = [trial for trial in live if trial.status == "RUNNING" or trial in resetting]
        begun = running if workers == 1 else [trial for trial in running if self._has_places(trial)]
        pending = sum(trial.status == "PENDING" and trial not in resetting for trial in live)
        lacking = min(pending, self._controller._actor_manager.num_pending_actors)
        return Places(len(begun), pending - lacking, lacking + len(running) - len(begun))

    def _has_places(self, trial: Any) -> bool:
        """Whether the several workers of a trial have started, for which it waits after it has started itself."""
        assignment = _assignment(trial)
        now, folder = time.monotonic(), assignment.directory()
        looked, there = self._reserved.get(assignment.number, (-math.inf, False))
        if now - looked >= LOOK_SECONDS:
            there = folder.reserved.exists() or (folder.url is not None and Store(folder.url).has(folder.reserved.name))
            self._reserved[assignment.number] = now, there
        return there

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Let the trial keep its errors in memory."""
        trial.__class__ = UnfiledTrial

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """A trial that waits to be started; Ray's own looks through all trials there ever were, for each event."""
        if self._held and not self._workers_are_starting(tune_controller):
            for trial in self._held:
                tune_controller.stop_trial(trial)
            self._held = []
        self._controller = tune_controller
        _forget_finished(tune_controller)
        return next((trial for trial in tune_controller.get_live_trials() if trial.status == "PENDING"), None)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Continue or stop."""
        assignment = _assignment(trial)
        number = assignment.number
        if "interrupted" in result:
            return str(TrialScheduler.CONTINUE)
        if "disk_full" in result:
            self.stop(f"{DISK_FULL}: {result['disk_full']}")
            return str(TrialScheduler.CONTINUE)
        self.on_epoch(result, _gpus(assignment))
        try:
            if not ("out_of_gpu_memory" in result and self._again_alone(assignment)):
                if self.book.record(number, result):
                    return str(TrialScheduler.CONTINUE)
                self.on_close(number)
        except OSError as error:
            self.stop(not_written(error))
        if self._workers_are_starting(tune_controller):
            self._held.append(trial)
            return str(TrialScheduler.NOOP)
        return str(TrialScheduler.STOP)

    def _again_alone(self, assignment: Assignment) -> bool:
        """Whether a trial that ran out of a GPU's memory had neighbours there, and is to run again without them."""
        return is_part(_gpus(assignment)) and self.book.retry_alone(assignment.number)

    def _workers_are_starting(self, tune_controller: Any) -> bool:
        """Whether a trial that has ended is to keep its worker until the others have started.

        Ray Tune gives a free worker to the trial that waits for a starting one, which it then drops: where trials
        take less time than the start of a worker, no second worker would ever be there.
        """
        now = time.monotonic()
        if self._all_started_by is None:
            self._all_started_by = now + START_SECONDS
        if now >= self._all_started_by:
            return False
        count = Counter(trial.status for trial in tune_controller.get_live_trials())
        if count["RUNNING"] >= self._workers:
            self._all_started_by = now
        return count["PENDING"] > 0 and count["RUNNING"] < self._workers

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A worker that died: its trial is run again from its checkpoint, unless it had stalled."""
        assignment = _assignment(trial)
        number, folder = assignment.number, assignment.directory()
        release_workers(folder)
        said = getattr(trial.temporary_state, "failure", None)
        hopeless = self.out_of_memory(said) or stall_of(folder, folder.stalled)
        try:
            if out_of_gpu_memory(said) and self._again_alone(assignment):
                again = True
            elif hopeless:
                again = self.book.record(number, {"error": hopeless})
            else:
                again = self.book.restart(number, worker_end(said))
            if not again:
                self.on_close(number)
        except OSError as error:
            self.stop(not_written(error))

    def __getstate__(self) -> dict[str, Any]:
        return {}


class UnfiledTrial(Trial):  # type: ignore[misc]
    """A trial of Ray Tune whose errors are in no file.

    Ray Tune's own trials pickle an error into the session's folder and load it from there again (Ray 2.60), where on a
    cluster's machine others can write.
    """

    def handle_error(self, exc: Any = None) -> None:
        """Remember what ended the trial, until Ray Tune forgets the trial."""
        self.temporary_state.failure = exc  # is in no snapshot
        self.run_metadata.num_failures += 1
        self.run_metadata.invalidate_cache()

    def get_pickled_error(self) -> None:
        """None, so that nothing is unpickled."""


class Silent(TrialProgressCallback):  # type: ignore[misc]
    """In the place of Ray Tune's own, which is always there and remembers every trial, to print it or not."""

    def on_trial_result(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the progress view looks at the ledger."""

    def on_trial_error(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def on_trial_complete(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""


def _forget_finished(tune_controller: Any) -> None:
    """Let Ray Tune forget trials that have ended: 37 kB each, and a snapshot of them all when it ends."""
    trials = tune_controller.get_trials()
    if len(trials) <= REMEMBERED_TRIALS:
        return
    finished = {trial for trial in trials[:-1] if trial.is_finished()}  # it cannot end without any trial
    trials[:] = [trial for trial in trials if trial not in finished]
    tune_controller.get_live_trials().difference_update(finished)
    for name in ("_stopped_trials", "_failed_trials", "_trials_to_cache"):
        getattr(tune_controller, name, set()).difference_update(finished)


def _assignment(trial: Any) -> Assignment:
    return Assignment(**json.loads(trial.config["assignment"]))


def _gpus(assignment: Assignment) -> float:
    """How many GPUs each worker of a trial has."""
    return assignment.worker_resources.get("GPU", 0.0)
