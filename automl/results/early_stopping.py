"""What stopping trials early has saved, and what became of the trials at each rung."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from automl.results.study import RunRecord, TrialRecord
from automl.results.table import duration

RULES = ("asha", "hyperband", "median")  # how the reason begins of a trial that such a rule has stopped


@dataclass(frozen=True)
class Savings:
    """Epochs and seconds of training that trials took, and that those stopped by the rule would have taken besides."""

    trials: int
    stopped: int
    epochs: int
    epochs_spared: int
    seconds: float
    seconds_spared: float

    @property
    def share(self) -> float:
        """Of the training that all trials to their ends would have taken, how much was spared."""
        whole = self.epochs + self.epochs_spared
        return self.epochs_spared / whole if whole else 0.0


@dataclass(frozen=True)
class Rung:
    """What became of the trials that were judged after `epoch`; scores are the best and the median of that epoch."""

    epoch: int
    arrived: int
    stopped: int
    best: float
    middle: float


def stopped_by_rule(trial: TrialRecord) -> bool:
    """Whether the early-stopping rule ended the trial, and not the end of the budget."""
    return trial.status == "stopped" and trial.reason.startswith(RULES)


def savings(record: RunRecord) -> Savings:
    """What the stopped trials would have taken had each gone on to the last epoch as fast as it was."""
    judged = [trial for trial in record.trials if trial.status in ("completed", "stopped") and trial.epochs]
    stopped = [trial for trial in judged if stopped_by_rule(trial)]
    left = {trial.number: record.manifest["max_epochs"] - trial.epochs for trial in stopped}
    return Savings(
        trials=len(judged),
        stopped=len(stopped),
        epochs=sum(trial.epochs for trial in judged),
        epochs_spared=sum(left.values()),
        seconds=sum(trial.train_seconds or 0.0 for trial in judged),
        seconds_spared=sum((trial.train_seconds or 0.0) / trial.epochs * left[trial.number] for trial in stopped),
    )


def savings_text(record: RunRecord) -> str:
    """The savings in words; empty before a trial has ended."""
    found = savings(record)
    if not found.trials:
        return ""
    trained = f"{found.epochs:,} epochs were trained in {duration(found.seconds)} of the trials' time"
    if not found.stopped:
        return f"No trial was stopped by the early-stopping rule: {trained}."
    spared = (
        f"{found.stopped} of {found.trials} trials were stopped early. {trained}; on to the last epoch, at the pace "
        f"that each had, the stopped ones would have taken {found.epochs_spared:,} more epochs and "
        f"{duration(found.seconds_spared)} more"
    )
    if not found.seconds:
        return f"{spared}."
    return f"{spared}: {1 + found.seconds_spared / found.seconds:.1f} times as long in all."


def rungs(record: RunRecord) -> list[Rung]:
    """Each rung that a trial has come to, the first one first."""
    found = []
    for epoch in record.manifest["rungs"]:
        values = [trial.values[epoch] for trial in record.trials if epoch in trial.values and trial.status != "failed"]
        if values:
            stopped = sum(stopped_by_rule(trial) and trial.epochs == epoch for trial in record.trials)
            found.append(Rung(epoch, len(values), stopped, _best(values, record.maximize), median(values)))
    return found


def _best(values: Sequence[float], maximize: bool) -> float:
    return max(values) if maximize else min(values)
