"""The search itself: Ray Tune runs what the ledger proposes until the budget is used or the user stops it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl.data import Prepared
from automl.search.budget import ENOUGH, INTERRUPTED, Stop, Usage
from automl.search.feasibility import Costs, judge_of
from automl.search.journal import open_study
from automl.search.ledger import Ledger
from automl.search.linear_floor import start_floor, wait_for_floor
from automl.search.lost_nodes import Losses
from automl.search.manifest import update_manifest
from automl.search.memory_watch import watch_memory
from automl.search.phases import Drive, confirm_leaders, refit_winner, search_trials
from automl.search.progress import Status, show
from automl.search.publishing import Publisher
from automl.search.ray_session import node_check, ray_session
from automl.search.reasons import FULL, NOT_WRITTEN, first_line, not_written, nothing_reached
from automl.search.resources import check_request
from automl.search.sharing import Sharing
from automl.search.signals import on_interrupt
from automl.search.stop_file import StopFile
from automl.search.trainable import TrialWorker
from automl.search.waiting import WAITED, Waiting
from automl.search.warm_start import read_beginning
from automl.space import SearchSpec, UserError
from automl.training.run_directory import RunDirectory
from automl.training.run_files import Floor, read_manifest, read_part

MAX_SESSIONS = 3  # Ray and Tune are started afresh from the journal so often, should they die
SAVE_USAGE_SECONDS = 5.0


@dataclass(frozen=True)
class Outcome:
    """How a search ended: `finished`, `interrupted` or `failed`, and why where it did not use its trials.

    `note` is what went wrong after a search that is finished.
    """

    status: str
    reason: str = ""
    note: str = ""


def search(
    spec: SearchSpec,
    run: RunDirectory,
    prepared: Prepared,
    *,
    publisher: Publisher,
    prepared_from: Mapping[str, Any],
    cache: Path,
    address: str | None,
    shared_cache: str | None = None,
    quiet: bool = False,
    worker: type[TrialWorker] = TrialWorker,
) -> Outcome:
    """Run trials until the budget of `spec` is used, going on from what `run`'s journal holds.

    `prepared` is what the linear floor is trained on, made for the section `data` of a configuration, `prepared_from`.
    The caller holds the run (`driving`, which gives `publisher`) and has written its manifest. Ctrl-C or SIGTERM ends
    it in good order. `worker` is what trains a trial.
    Raises UserError where the resources that a trial asks for are not there.
    """
    costs = Costs(prepared, prepared_from)
    beginning = read_beginning(spec, run.warm_start)
    journal = open_study(run, modes=spec.search.modes)
    ledger = Ledger(journal, spec, judge_of(spec, costs), beginning)
    usage = Usage.resumed(read_manifest(run)["used"])
    usage.hold(usage.started)  # until the first trial runs
    waiting = Waiting(spec.resources.wait_seconds)
    stop = Stop(spec, ledger, usage, StopFile(run.path, run.url, publisher.holds), waiting)
    stop.lost = publisher.lost
    if publisher.lease is not None:
        publisher.lease.on_loss = stop.request
    stop.stop_file.clear()
    save_usage = _usage_saver(run, ledger, usage, stop)
    news: list[str] = []
    losses = Losses(news.append)

    def look() -> Status:
        save_usage()
        there = read_part(run.floor, Floor)
        floor = there["validation"].get(spec.search.metric) if there else None
        confirming = stop.search_ended is not None and spec.search.confirm is not None
        message = f"stopping: {stop.reason}" if stop.reason else "confirming the best" if confirming else ""
        if publisher.failure and not message:
            message = f"the store is not up to date: {publisher.failure}"
        message = message or waiting.message()
        return Status(
            ledger.progress,
            spec.search.metric,
            usage.seconds(),
            spec.search.time_budget_seconds,
            floor,
            message,
            waiting.places,
            news,
        )

    try:
        with on_interrupt(stop.interrupt), show(look, quiet=quiet), watch_memory(here=address is None) as memory:
            for session in range(1, MAX_SESSIONS + 1):
                try:
                    with ray_session(address, losses) as capacity:
                        stop.check_node = node_check(losses=losses)
                        sharing = Sharing(check_request(spec, capacity))
                        drive = Drive(
                            spec,
                            run,
                            ledger,
                            stop,
                            publisher,
                            cache,
                            shared_cache,
                            sharing,
                            worker,
                            memory,
                            prepared.files or None,
                            read_manifest(run).get("named_files", {}),
                            read_manifest(run).get("id", ""),
                        )
                        floor = None if run.floor.exists() else start_floor(spec, run, prepared, prepared_from)
                        if stop.search_ended is None:
                            search_trials(drive)
                            wait_for_floor(run, floor, stop)
                        if stop.search_ended is not None:
                            confirm_leaders(drive)
                            refit_winner(drive)
                    break
                except Exception as error:  # whatever Ray dies of; what a trial does wrong is a result
                    if isinstance(error, UserError) and stop.search_ended is None:
                        raise
                    if _is_over(error, session, stop, ledger):
                        break
    finally:
        waiting.end()
        stop.stop_file.clear()
        save_usage(at_once=True)
    return _outcome(stop, ledger)


def _is_over(error: Exception, session: int, stop: Stop, ledger: Ledger) -> bool:
    """Whether a search ends with what its session ended of; else another session goes on from the journal.

    A budget that is used is used, whatever happens while trials are ended or the best are confirmed.
    """
    if isinstance(error, OSError) and error.errno in FULL:
        stop.reason = not_written(error)
        return True
    if stop.search_ended is None and stop.reason in ENOUGH:
        ledger.end_of_budget(stop.reason)
        stop.finish()
    elif stop.reason is not None:
        return True
    if stop.search_ended is not None:
        stop.note = f"after the search: {first_line(error)}"
        return session == MAX_SESSIONS or stop.reason is not None
    if session == MAX_SESSIONS:
        stop.request(f"Ray ended unexpectedly {session} times, the last time of: {first_line(error)}")
    ledger.requeue()
    return False


def _outcome(stop: Stop, ledger: Ledger) -> Outcome:
    if stop.reason is None:
        if not ledger.leaders(1):  # a leaderboard without a row is no result
            return Outcome("failed", nothing_reached(stop.search_ended or "", ledger.failures(), stop.search))
        return Outcome("finished", stop.search_ended or "", stop.note or "")
    resumable = stop.reason in (INTERRUPTED, stop.lost()) or stop.reason.startswith((*NOT_WRITTEN, WAITED))
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
                    "infeasible": ledger.progress.infeasible,
                    **usage.entry(),
                }
                try:
                    update_manifest(run, used=used, waiting=stop.waiting.entry(), best=ledger.progress.best_entry())
                except OSError as error:
                    stop.request(not_written(error))

    return save
