"""What a search does one after the other: its trials, the leaders again under other seeds, the winner refitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from automl.models import family_folder
from automl.search.budget import ENOUGH, Stop
from automl.search.confirmation import Confirmation
from automl.search.ledger import Ledger
from automl.search.memory_watch import MemoryWatch
from automl.search.publishing import Publisher
from automl.search.sharing import Sharing
from automl.search.standing import Proposal
from automl.search.trackers import tracked
from automl.search.trainable import Assignment, TrialWorker
from automl.search.tuning import run_trials
from automl.space import SearchSpec
from automl.training.answers import COMPARED
from automl.training.confirmed import by_confirmed_mean, read_confirmed
from automl.training.run_directory import RunDirectory, TrialDirectory


@dataclass(frozen=True)
class Drive:
    """A run being driven: what was asked, where it is written, what decides, and what each trial gets."""

    spec: SearchSpec
    run: RunDirectory
    ledger: Ledger
    stop: Stop
    publisher: Publisher
    cache: Path
    shared_cache: str | None
    sharing: Sharing
    worker: type[TrialWorker]
    memory: MemoryWatch
    files: str | None
    """The digest of the data files that the run began with."""
    named_files: Mapping[str, str]
    """Those of other files that trials take weights from."""
    run_id: str
    """That of the manifest; none in a run of an earlier version."""


def search_trials(drive: Drive) -> None:
    """Run the ledger's trials; at the end of a budget, rank those that still run at what they reached."""
    on_close = _weight_keeper(drive)

    def assign(proposal: Proposal) -> Assignment:
        training_seed = drive.spec.search.seed * 1_000_003 + proposal.number
        assignment = _assignment(drive, proposal, drive.run.trial(proposal.number), training_seed)
        return replace(assignment, pauses=drive.ledger.pauses(proposal.number), keeps_answers=True)

    with tracked(drive.ledger, drive.spec, drive.run) as book:
        run_trials(book, assign, on_close, drive.stop, drive.sharing, drive.worker, drive.memory)
        on_close(0)
        exhausted = drive.ledger.exhausted()
        if exhausted and drive.stop.reason is None:
            if drive.ledger.leaders(1):
                drive.stop.finish(exhausted)
            else:
                drive.stop.request(exhausted)
        elif drive.stop.reason is None or drive.stop.reason in ENOUGH:
            for number in drive.ledger.end_of_budget(drive.stop.reason) if drive.stop.reason else []:
                on_close(number)
            drive.stop.finish()


def confirm_leaders(drive: Drive) -> None:
    """Train the best trials again under other seeds, where the file asks for that."""
    asked = drive.spec.search.confirm
    leaders = drive.ledger.leaders(asked.top) if asked else []
    reruns = Confirmation(
        drive.run, drive.spec, {number: drive.ledger.config(number) for number in leaders}, asked.seeds if asked else 0
    )

    def assign(proposal: Proposal) -> Assignment:
        rerun = reruns.reruns[proposal.number]
        training_seed = drive.spec.search.seed * 1_000_003 + rerun.trial + 500_009 * rerun.repetition
        folder = drive.run.trial(rerun.trial).rerun(rerun.repetition)
        return _assignment(drive, proposal, folder, training_seed)

    def on_close(number: int) -> None:
        rerun = reruns.reruns[number]
        folder = drive.run.trial(rerun.trial).rerun(rerun.repetition)
        drive.publisher.discard(folder, folder.checkpoint)

    run_trials(reruns, assign, on_close, drive.stop, drive.sharing, drive.worker, drive.memory)


def refit_winner(drive: Drive) -> None:
    """Train the trial that ranks first on train and validation rows together, where the file asks for that."""
    winner = _winner(drive)
    if not drive.spec.search.refit or winner is None or drive.stop.reason is not None:
        return
    from automl.search.refit import refit, validation_losses

    training_seed = drive.spec.search.seed * 1_000_003 + winner
    proposal = Proposal(winner, drive.ledger.config(winner), 0)
    losses = validation_losses(drive.run.trial(winner), drive.ledger.best_epoch(winner))
    refit(drive.run, _assignment(drive, proposal, drive.run.refitted(), training_seed), losses=losses)


def _winner(drive: Drive) -> int | None:
    """The trial that ranks first, by the mean under other seeds where the file lets that decide."""
    asked = drive.spec.search.confirm
    leaders = drive.ledger.leaders(asked.top if asked and asked.decides else 1)
    if asked and asked.decides:
        maximize = drive.spec.search.mode == "max"
        leaders = by_confirmed_mean(leaders, read_confirmed(drive.run), seeds=asked.seeds, maximize=maximize) or leaders
    return leaders[0] if leaders else None


def _assignment(drive: Drive, proposal: Proposal, folder: TrialDirectory, training_seed: int) -> Assignment:
    """What a worker needs to know of a proposal."""
    return Assignment(
        number=proposal.number,
        config=proposal.config,
        epochs_known=proposal.epochs,
        max_epochs=drive.spec.search.max_epochs,
        seed=drive.spec.search.seed,
        training_seed=training_seed,
        metric=drive.spec.search.metric,
        measure_latency="latency_ms" in drive.spec.search.sought,
        maximize=drive.spec.search.mode == "max",
        folder=str(folder.path.resolve()),
        url=folder.url,
        run_folder=str(drive.run.path.resolve()),
        run_url=drive.run.url,
        run_id=drive.run_id,
        cache=str(drive.cache.resolve()),
        shared_cache=drive.shared_cache,
        working_directory=str(Path.cwd()),
        family_folder=family_folder(next(iter(proposal.config["model"]))),
        threads=max(1, int(drive.sharing.asked.cpus)),
        stall_timeout=drive.spec.search.stall_timeout_seconds,
        files=drive.files,
        named_files=dict(drive.named_files),
        workers=drive.sharing.asked.workers,
        worker_resources=drive.sharing.asked.worker_resources(),
    )


def _weight_keeper(drive: Drive) -> Callable[[int], None]:
    """A function to call when a trial has ended: removes its checkpoint and the weights of all but the finalists.

    And what it says of the validation rows, of all but those that are compared with the best.
    """
    run, ledger = drive.run, drive.ledger
    unfinished = set(ledger.unfinished())
    kept = run.with_weights() - unfinished
    heard = run.with_answers() - unfinished

    def on_close(_: int) -> None:
        for number in ledger.take_ended():  # a trial that waits at a rung has not, and others end with it
            drive.publisher.discard(run.trial(number), run.trial(number).checkpoint)
            kept.add(number)
            heard.add(number)
        leaders = set(ledger.finalists())
        for other in kept - leaders:
            drive.publisher.discard(run.trial(other), run.trial(other).weights)
        kept.intersection_update(leaders)
        compared = leaders | set(ledger.leaders(COMPARED))
        for other in heard - compared:
            drive.publisher.discard(run.trial(other), run.trial(other).answers)
        heard.intersection_update(compared)

    return on_close
