"""The search itself: Ray Tune runs what the ledger proposes until the budget is used or the user stops it."""

from __future__ import annotations

import os
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
from automl.search.budget import ENOUGH, INTERRUPTED, Stop, Usage
from automl.search.confirmation import Confirmation
from automl.search.journal import open_journal
from automl.search.ledger import Ledger, Proposal
from automl.search.manifest import update_manifest
from automl.search.progress import Status, show
from automl.search.ray_session import node_check, ray_session
from automl.search.reasons import first_line
from automl.search.resources import Share, check_request, packed
from automl.search.trainable import Assignment, TrialWorker
from automl.search.tune_adapters import DISK_FULL, Assign, Book, BookScheduler, BookSearcher, Silent
from automl.space import SearchSpec, UserError
from automl.training.floor import fit_floor
from automl.training.run_directory import RunDirectory, TrialDirectory, read_json, write_json

FINALISTS = 3  # the trials whose weights are kept
MAX_SESSIONS = 3  # Ray and Tune are started afresh from the journal so often, should they die
SAVE_USAGE_SECONDS = 5.0
FLOOR_GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Outcome:
    """How a search ended: `finished`, `interrupted` or `failed`, and why where it did not use its trials."""

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
    worker: type[TrialWorker] = TrialWorker,
) -> Outcome:
    """Run trials until the budget of `spec` is used, going on from what `run`'s journal holds.

    `prepared` and `clean` are what the linear floor is trained on. The caller holds the run (`driving`) and has
    written its manifest. Ctrl-C or SIGTERM ends it in good order. `worker` is what trains a trial.
    Raises UserError where the resources that a trial asks for are not there.
    """
    ledger = Ledger(open_journal(run.journal, mode=spec.search.mode), spec)
    usage = Usage.resumed(read_json(run.manifest)["used"])
    stop = Stop(spec, ledger, usage, run.path / ".stop")
    stop.stop_file.unlink(missing_ok=True)
    save_usage = _usage_saver(run, ledger, usage, stop)

    def look() -> Status:
        save_usage()
        floor = read_json(run.floor)["validation"][spec.search.metric] if run.floor.exists() else None
        confirming = stop.search_ended is not None and spec.search.confirm is not None
        message = f"stopping: {stop.reason}" if stop.reason else "confirming the best" if confirming else ""
        seconds = usage.seconds()
        return Status(ledger.progress, spec.search.metric, seconds, spec.search.time_budget_seconds, floor, message)

    try:
        with _signals(stop), show(look, quiet=quiet):
            for session in range(1, MAX_SESSIONS + 1):
                try:
                    with ray_session(address) as capacity:
                        stop.check_node = node_check()
                        share = check_request(spec, capacity)
                        floor = None if run.floor.exists() else _start_floor(spec, run, prepared, clean)
                        if stop.search_ended is None:
                            _search_trials(spec, run, ledger, stop, cache, share, worker)
                            _wait_for_floor(run, floor, stop)
                        if stop.search_ended is not None:
                            _confirm_leaders(spec, run, ledger, stop, cache, share, worker)
                            _refit_winner(spec, run, ledger, stop, cache, share)
                    break
                except UserError:
                    raise
                except Exception as error:  # whatever Ray dies of; what a trial does wrong is a result
                    if stop.reason is not None:
                        break
                    if session == MAX_SESSIONS:
                        stop.request(f"Ray ended unexpectedly {session} times, the last time of: {first_line(error)}")
                    ledger.requeue()
    finally:
        stop.stop_file.unlink(missing_ok=True)
        save_usage(at_once=True)
    return _outcome(stop)


def _search_trials(
    spec: SearchSpec,
    run: RunDirectory,
    ledger: Ledger,
    stop: Stop,
    cache: Path,
    share: Share,
    worker: type[TrialWorker],
) -> None:
    """Run the ledger's trials; at the end of a budget, rank those that still run at what they reached."""
    on_close = _weight_keeper(run, ledger)

    def assign(proposal: Proposal) -> Assignment:
        training_seed = spec.search.seed * 1_000_003 + proposal.number
        return _assignment(spec, proposal, run.trial(proposal.number), training_seed, stop, cache, share)

    _run_trials(ledger, assign, on_close, stop, share, worker)
    if stop.reason is None or stop.reason in ENOUGH:
        for number in ledger.end_of_budget(stop.reason) if stop.reason else []:
            on_close(number)
        stop.finish()


def _confirm_leaders(
    spec: SearchSpec,
    run: RunDirectory,
    ledger: Ledger,
    stop: Stop,
    cache: Path,
    share: Share,
    worker: type[TrialWorker],
) -> None:
    """Train the best trials again under other seeds, where the file asks for that."""
    asked = spec.search.confirm
    leaders = ledger.leaders(asked.top) if asked else []
    reruns = Confirmation(run, spec, {number: ledger.config(number) for number in leaders}, asked.seeds if asked else 0)

    def assign(proposal: Proposal) -> Assignment:
        rerun = reruns.reruns[proposal.number]
        training_seed = spec.search.seed * 1_000_003 + rerun.trial + 500_009 * rerun.repetition
        folder = run.trial(rerun.trial).rerun(rerun.repetition)
        return _assignment(spec, proposal, folder, training_seed, stop, cache, share)

    def on_close(number: int) -> None:
        rerun = reruns.reruns[number]
        run.trial(rerun.trial).rerun(rerun.repetition).checkpoint.unlink(missing_ok=True)

    _run_trials(reruns, assign, on_close, stop, share, worker)


def _refit_winner(spec: SearchSpec, run: RunDirectory, ledger: Ledger, stop: Stop, cache: Path, share: Share) -> None:
    """Train the best trial on train and validation rows together, where the file asks for that."""
    leaders = ledger.leaders(1)
    if not spec.search.refit or not leaders or stop.reason is not None:
        return
    from automl.search.refit import refit

    winner = leaders[0]
    training_seed = spec.search.seed * 1_000_003 + winner
    proposal = Proposal(winner, ledger.config(winner), 0)
    refit(
        run,
        _assignment(spec, proposal, TrialDirectory(run.refit), training_seed, stop, cache, share),
        epochs=ledger.best_epoch(winner),
    )


def _run_trials(
    book: Book,
    assign: Assign,
    on_close: Callable[[int], None],
    stop: Stop,
    share: Share,
    worker: type[TrialWorker],
) -> None:
    """Give the book's trials to Ray Tune until it has no more or `stop` ends it."""
    scheduler = BookScheduler(book, stop.request, on_close)
    if share.measure_first:  # one trial for each GPU tells how many of them fit
        first = BookSearcher(book, assign, stop.request, share.concurrent)
        first.limit = share.concurrent
        _fit(first, scheduler, stop, share, worker)
        share = packed(share, scheduler.gpu_memory)
    _fit(BookSearcher(book, assign, stop.request, share.concurrent), scheduler, stop, share, worker)


def _fit(searcher: BookSearcher, scheduler: BookScheduler, stop: Stop, share: Share, worker: type[TrialWorker]) -> None:
    """One run of Ray Tune, always a fresh one."""
    if searcher.book.remaining() == 0 or stop.stop_all():
        return
    stop.gpus_in_use = lambda: share.gpus * share.workers * searcher.book.running()
    scheduler.begin(searcher.max_concurrent)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(searcher.max_concurrent)  # else workers start one after the other
    with tempfile.TemporaryDirectory(prefix="automl-tune-") as scratch:
        tune.Tuner(
            _trainable(share, worker),
            tune_config=tune.TuneConfig(search_alg=searcher, scheduler=scheduler, num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(
                name="search",
                storage_path=scratch,
                verbose=0,
                callbacks=[Silent()],
                stop=stop,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        ).fit()


def _trainable(share: Share, worker: type[TrialWorker]) -> Any:
    """What Ray Tune runs, with the resources of one trial."""
    if share.workers == 1:
        return tune.with_resources(worker, share.request())
    from automl.search.data_parallel import data_parallel_trial

    return data_parallel_trial()


def _assignment(
    spec: SearchSpec,
    proposal: Proposal,
    folder: TrialDirectory,
    training_seed: int,
    stop: Stop,
    cache: Path,
    share: Share,
) -> Assignment:
    """What a worker needs to know of a proposal."""
    return Assignment(
        number=proposal.number,
        config=proposal.config,
        epochs_known=proposal.epochs,
        max_epochs=spec.search.max_epochs,
        seed=spec.search.seed,
        training_seed=training_seed,
        metric=spec.search.metric,
        maximize=spec.search.mode == "max",
        folder=str(folder.path.resolve()),
        stop_file=str(stop.stop_file.resolve()),
        cache=str(cache.resolve()),
        working_directory=str(Path.cwd()),
        threads=max(1, int(share.cpus)),
        stall_timeout=spec.search.stall_timeout_seconds,
        workers=share.workers,
        worker_resources=share.worker_resources(),
    )


def _start_floor(spec: SearchSpec, run: RunDirectory, prepared: Prepared, clean: Mapping[str, Any]) -> Any:
    """Train the linear floor as a task beside the trials; it writes its figures itself.

    It holds no core, or one worker less would start with the search; it takes what the trials leave.
    """
    path = run.floor.resolve()
    metric, maximize = spec.search.metric, spec.search.mode == "max"

    def task() -> None:
        os.nice(10)
        write_json(path, fit_floor(prepared, clean, metric=metric, maximize=maximize))

    return ray.remote(num_cpus=0, max_calls=1)(task).remote()  # no trial gets its process after it


def _wait_for_floor(run: RunDirectory, floor: Any, stop: Stop) -> None:
    """Wait for the linear floor, but not long where the budget of time is used; a run goes on without it."""
    if floor is None or stop.search_ended is None:
        return
    try:
        ray.get(floor, timeout=FLOOR_GRACE_SECONDS if stop.search_ended else None)
    except ray.exceptions.GetTimeoutError:
        update_manifest(run, floor_error="the time budget ended before it was trained")
    except ray.exceptions.RayTaskError as error:
        update_manifest(run, floor_error=first_line(error.cause))


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


def _outcome(stop: Stop) -> Outcome:
    if stop.reason is None:
        return Outcome("finished", stop.search_ended or "")
    resumable = stop.reason == INTERRUPTED or stop.reason.startswith(DISK_FULL)
    return Outcome("interrupted" if resumable else "failed", stop.reason)


def _usage_saver(run: RunDirectory, ledger: Ledger, usage: Usage, stop: Stop) -> Callable[..., None]:
    """A function that writes the budget used to the manifest, at most every few seconds unless told at once."""
    last = 0.0
    lock = threading.Lock()

    def save(at_once: bool = False) -> None:
        nonlocal last
        with lock:
            if at_once or time.monotonic() - last >= SAVE_USAGE_SECONDS:
                last = time.monotonic()
                used = {
                    "trials": ledger.progress.finished,
                    "seconds": round(usage.seconds(), 1),
                    "gpu_hours": round(usage.gpu_seconds / 3600, 4),
                }
                try:
                    update_manifest(run, used=used)
                except OSError as error:
                    stop.request(f"{DISK_FULL}: {error}")

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
        stop.request(INTERRUPTED)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
