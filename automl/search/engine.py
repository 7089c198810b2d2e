"""The search itself: Ray Tune runs what the ledger proposes until the budget is used or the user stops it."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock, Timeout
from ray import tune

from automl.data import Prepared
from automl.search.journal import open_study
from automl.search.ledger import Ledger, Proposal
from automl.search.manifest import update_manifest
from automl.search.progress import Clock, Status, show
from automl.search.ray_session import check_request, ray_session
from automl.search.trainable import Assignment, TrialWorker
from automl.search.tune_adapters import LedgerScheduler, LedgerSearcher, Stop
from automl.space import SearchSpec, UserError
from automl.training.floor import fit_floor
from automl.training.run_directory import RunDirectory, read_json, write_json

FINALISTS = 3  # the trials whose weights are kept
MAX_SAME_FAILURES = 5
MAX_FIT_ATTEMPTS = 3
SAVE_USAGE_SECONDS = 5.0


@dataclass(frozen=True)
class Outcome:
    """How a search ended: `finished`, `interrupted` or `failed`, and why where it did not finish."""

    status: str
    reason: str = ""


@contextmanager
def driving(run: RunDirectory) -> Iterator[None]:
    """Hold the run for the time of the block; raises UserError where another process drives it."""
    lock = FileLock(run.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another process is driving {run.path}") from error
    try:
        yield
    finally:
        lock.release()


def search(
    spec: SearchSpec,
    run: RunDirectory,
    prepared: Prepared,
    *,
    clean: Mapping[str, Any],
    cache: Path,
    address: str | None,
    quiet: bool = False,
) -> Outcome:
    """Run trials until the budget of `spec` is used, going on from what `run`'s journal holds.

    `prepared` and `clean` are what the linear floor is trained on. The caller holds the run (`driving`) and has
    written its manifest. Ctrl-C or SIGTERM ends it in good order.
    Raises UserError where the resources that a trial asks for are not there.
    """
    study = open_study(run.journal, mode=spec.search.mode)
    ledger = Ledger(study, spec)
    clock = Clock(read_json(run.manifest)["used"]["seconds"])
    stop_file = run.path / ".stop"
    stop_file.unlink(missing_ok=True)
    budget = spec.search.time_budget_seconds
    deadline = None if budget is None else time.monotonic() + max(0.0, budget - clock.seconds())
    stop = Stop(ledger, stop_file, deadline, MAX_SAME_FAILURES)

    def assign(proposal: Proposal) -> Assignment:
        return Assignment(
            number=proposal.number,
            config=proposal.config,
            epochs_known=proposal.epochs,
            max_epochs=spec.search.max_epochs,
            seed=spec.search.seed,
            metric=spec.search.metric,
            maximize=ledger.maximize,
            folder=str(run.trial(proposal.number).path.resolve()),
            stop_file=str(stop_file.resolve()),
            cache=str(cache.resolve()),
            working_directory=str(Path.cwd()),
            threads=max(1, int(spec.resources.per_trial.cpus)),
            stall_timeout=spec.search.stall_timeout_seconds,
            workers=spec.resources.per_trial.workers,
            cpus=spec.resources.per_trial.cpus,
            gpus=spec.resources.per_trial.gpus,
        )

    save_usage = _usage_saver(run, ledger, clock)
    on_close = _weight_keeper(run, ledger)

    def look() -> Status:
        save_usage()
        floor = read_json(run.floor)["validation"][spec.search.metric] if run.floor.exists() else None
        message = f"stopping: {stop.reason}" if stop.reason else ""
        return Status(ledger.progress, spec.search.metric, clock.seconds(), budget, floor, message)

    try:
        with ray_session(address) as capacity, _signals(stop), show(look, quiet=quiet):
            concurrent = check_request(spec, capacity)
            floor = None if run.floor.exists() else _start_floor(spec, run, prepared, clean)
            searcher = LedgerSearcher(ledger, assign, concurrent)
            scheduler = LedgerScheduler(ledger, on_close)
            _fit(spec, ledger, searcher, scheduler, stop)
            if floor is not None and stop.reason in (None, "time budget"):
                ray.get(floor)
            if stop.reason == "time budget":
                for number in ledger.end_of_budget():
                    on_close(number)
    finally:
        stop_file.unlink(missing_ok=True)
        save_usage(at_once=True)
    return _outcome(ledger, stop)


def _fit(spec: SearchSpec, ledger: Ledger, searcher: LedgerSearcher, scheduler: LedgerScheduler, stop: Stop) -> None:
    """Give the ledger's trials to Ray Tune; start it afresh, a bounded number of times, should it die."""
    trainable = _trainable(spec)
    for attempt in range(1, MAX_FIT_ATTEMPTS + 1):
        remaining = ledger.remaining()
        if remaining == 0 or stop.stop_all():
            return
        with tempfile.TemporaryDirectory(prefix="automl-tune-") as scratch:
            tuner = tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=searcher, scheduler=scheduler, num_samples=remaining, reuse_actors=True
                ),
                run_config=tune.RunConfig(
                    name="search",
                    storage_path=scratch,
                    verbose=0,
                    stop=stop,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                ),
            )
            try:
                tuner.fit()
                return
            except Exception:
                if attempt == MAX_FIT_ATTEMPTS or stop.reason:
                    raise
                ledger.requeue()


def _trainable(spec: SearchSpec) -> Any:
    """What Ray Tune runs, with the resources of one trial."""
    per_trial = spec.resources.per_trial
    if per_trial.workers == 1:
        return tune.with_resources(TrialWorker, {"cpu": per_trial.cpus, "gpu": per_trial.gpus})
    from automl.search.data_parallel import data_parallel_trial

    return data_parallel_trial()


def _start_floor(spec: SearchSpec, run: RunDirectory, prepared: Prepared, clean: Mapping[str, Any]) -> Any:
    """Train the linear floor as a task beside the trials; it writes its figures itself."""
    path = run.floor.resolve()
    metric, maximize = spec.search.metric, spec.search.mode == "max"

    def task() -> None:
        write_json(path, fit_floor(prepared, clean, metric=metric, maximize=maximize))

    return ray.remote(num_cpus=1)(task).remote()


def _weight_keeper(run: RunDirectory, ledger: Ledger) -> Callable[[int], None]:
    """A function to call when a trial has ended: removes its checkpoint and the weights of all but the finalists."""
    unfinished = set(ledger.unfinished())
    kept = {number for number, folder in run.trials() if folder.weights.exists() and number not in unfinished}

    def on_close(number: int) -> None:
        run.trial(number).checkpoint.unlink(missing_ok=True)
        kept.add(number)
        leaders = set(ledger.leaders(FINALISTS))
        for other in kept - leaders:
            run.trial(other).weights.unlink(missing_ok=True)
        kept.intersection_update(leaders)

    return on_close


def _outcome(ledger: Ledger, stop: Stop) -> Outcome:
    if stop.reason in (None, "time budget"):
        return Outcome("finished", stop.reason or "")
    return Outcome("interrupted" if stop.reason == "interrupted" else "failed", stop.reason)


def _usage_saver(run: RunDirectory, ledger: Ledger, clock: Clock) -> Callable[..., None]:
    """A function that writes the budget used to the manifest, at most every few seconds unless told at once."""
    last = 0.0
    lock = threading.Lock()

    def save(at_once: bool = False) -> None:
        nonlocal last
        with lock:
            if at_once or time.monotonic() - last >= SAVE_USAGE_SECONDS:
                last = time.monotonic()
                used = {"trials": ledger.progress.finished, "seconds": round(clock.seconds(), 1)}
                update_manifest(run, used=used)

    return save


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM asks for an end in good order; the second ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: Any) -> None:
        if stop.reason is not None:
            raise KeyboardInterrupt
        stop.request("interrupted")

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
