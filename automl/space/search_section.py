"""The sections `search` and `resources`: what is looked for, for how long, how, and on what."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from automl.space.ranges import Number, Whole
from automl.space.sections import Alternatives, NumberOrAuto, Section, WholeOrAuto
from automl.space.wording import shown


class Stopping(Section):
    """What every way of early stopping has: the epochs of a trial, and an end for trials that have converged."""

    max_epochs: Annotated[Whole, Field(ge=1)] = Field(9, description="Epochs of a trial that is never stopped.")
    patience: Annotated[Whole | None, Field(ge=1)] = Field(
        None, description="End a trial as converged after so many epochs without an improvement."
    )
    min_delta: Annotated[Number, Field(ge=0)] = Field(
        0.0, description="What counts as an improvement: more than this over the best so far."
    )

    @model_validator(mode="after")
    def _patience(self) -> Stopping:
        if self.patience is None and self.min_delta > 0:
            raise PydanticCustomError(
                "patience", "min_delta says what patience counts as an improvement; give patience"
            )
        if self.patience is not None and self.patience >= self.max_epochs:
            raise PydanticCustomError(
                "patience",
                "patience {patience} is not less than max_epochs {most}, so no trial would be ended by it",
                {"patience": self.patience, "most": self.max_epochs},
            )
        return self

    def brackets_of_rungs(self) -> tuple[tuple[int, ...], ...]:
        """For each bracket its rungs: epochs after which its trials are compared. Most rungs first."""
        return ((),)


class Asha(Stopping):
    """Asynchronous successive halving: of the trials that reach a rung the best 1/reduction_factor go on."""

    grace_period: Annotated[Whole, Field(ge=1)] = Field(1, description="The first rung: epochs that every trial has.")
    reduction_factor: Annotated[Whole, Field(ge=2)] = Field(
        3, description="From a rung to the next, and how few go on."
    )
    brackets: Annotated[Whole, Field(ge=1)] = Field(
        1, description="More than one hedges: each further one lets some of the trials start a rung later."
    )

    @model_validator(mode="after")
    def _rungs(self) -> Asha:
        if self.grace_period > self.max_epochs:
            raise PydanticCustomError(
                "asha",
                "grace_period {grace} is more than max_epochs {most}, so nothing would be stopped early",
                {"grace": self.grace_period, "most": self.max_epochs},
            )
        rungs = self.rungs()
        if self.brackets > max(1, len(rungs)):
            raise PydanticCustomError(
                "asha",
                "each bracket begins a rung later and there are {count} ({rungs}), so brackets can be at most {count}",
                {"count": len(rungs), "rungs": ", ".join(map(str, rungs)) or "max_epochs is the first"},
            )
        return self

    def rungs(self) -> tuple[int, ...]:
        """Epochs after which a trial may be stopped, all below `max_epochs`."""
        found, epoch = [], self.grace_period
        while epoch < self.max_epochs:
            found.append(epoch)
            epoch *= self.reduction_factor
        return tuple(found)

    def brackets_of_rungs(self) -> tuple[tuple[int, ...], ...]:
        """All rungs, then all but the first, and so on."""
        rungs = self.rungs()
        return tuple(rungs[first:] for first in range(self.brackets))


class Hyperband(Stopping):
    """Hyperband: successive halving from every rung on, so that none is too early for all trials.

    A bracket has the more trials the earlier it begins, so that all use about as many epochs.
    """

    reduction_factor: Annotated[Whole, Field(ge=2)] = Field(
        3, description="From a rung to the next, and how few go on."
    )

    @model_validator(mode="after")
    def _rungs(self) -> Hyperband:
        if self.max_epochs < self.reduction_factor:
            raise PydanticCustomError(
                "hyperband",
                "max_epochs {most} is less than reduction_factor {factor}, so nothing would be stopped early",
                {"most": self.max_epochs, "factor": self.reduction_factor},
            )
        return self

    def brackets_of_rungs(self) -> tuple[tuple[int, ...], ...]:
        """Rungs at max_epochs / reduction_factor^k, rounded down; the last bracket stops nothing."""
        rungs: list[int] = []
        divisor = self.reduction_factor
        while divisor <= self.max_epochs:
            rungs.insert(0, self.max_epochs // divisor)
            divisor *= self.reduction_factor
        return tuple(tuple(rungs[first:]) for first in range(len(rungs) + 1))


class Median(Stopping):
    """The median rule: a trial stops where its best is worse than what half of the others had on average by then."""

    grace_period: Annotated[Whole, Field(ge=1)] = Field(1, description="Epochs that every trial has.")
    min_trials: Annotated[Whole, Field(ge=1)] = Field(
        5, description="How many others must have come as far before a trial may be stopped."
    )

    @model_validator(mode="after")
    def _grace(self) -> Median:
        if self.grace_period >= self.max_epochs:
            raise PydanticCustomError(
                "median",
                "grace_period {grace} is not less than max_epochs {most}, so nothing would be stopped early",
                {"grace": self.grace_period, "most": self.max_epochs},
            )
        return self


class NoStopping(Stopping):
    """Every trial runs all its epochs."""


class EarlyStopping(Alternatives):
    """Which trials are stopped early: exactly one way."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    asha: Asha | None = None
    hyperband: Hyperband | None = None
    median: Median | None = None
    none: NoStopping | None = None

    @model_validator(mode="after")
    def _one(self) -> EarlyStopping:
        if len(self.named()) > 1:
            raise PydanticCustomError(
                "alternatives",
                "expected one way of early stopping, {ways}, not several",
                {"ways": "asha, hyperband, median or none"},
            )
        return self

    @property
    def way(self) -> Stopping:
        """The one that is named."""
        way = self.asha or self.hyperband or self.median or self.none
        assert way is not None
        return way

    @property
    def max_epochs(self) -> int:
        """Epochs of a trial that is never stopped."""
        return self.way.max_epochs

    def rungs(self) -> tuple[int, ...]:
        """Epochs after which trials are compared, of all brackets; none where there are no rungs."""
        return tuple(sorted({rung for rungs in self.way.brackets_of_rungs() for rung in rungs}))


class Confirm(Section):
    """The best trials are trained again, to full budget, under seeds that the search did not choose them by."""

    top: Annotated[Whole, Field(ge=1)] = Field(3, description="How many of the best.")
    seeds: Annotated[Whole, Field(ge=1)] = Field(3, description="How often each.")


class Ensemble(Section):
    """Several models averaged, which are the best model together where they are better on validation than one."""

    top: Annotated[Whole, Field(ge=1, le=10)] = Field(5, description="How many of the best trials.")
    linear: Annotated[bool, Strict()] = Field(
        True, description="Whether the linear floor is one half of the average; its errors are of another kind."
    )


FINALISTS = 3
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def duration_seconds(text: str) -> float:
    """Seconds of `90s`, `20m`, `2h` or `1h30m`; raises PydanticCustomError for anything else."""
    match = _DURATION.fullmatch(text.replace(" ", "").lower())
    seconds = (
        sum(float(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    )
    if not 0 < seconds < math.inf:
        raise PydanticCustomError(
            "duration", "expected a time such as 90s, 20m, 2h or 1h30m; got {text}", {"text": shown(text)}
        )
    return float(seconds)


def _duration(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise PydanticCustomError(
            "duration", "say the unit of {value}: {value}s, {value}m or {value}h", {"value": value}
        )
    if isinstance(value, str):
        duration_seconds(value)
    return value


class Search(Section):
    """What is looked for, for how long, and how."""

    metric: Literal["accuracy", "balanced_accuracy", "macro_f1", "loss"] = Field(
        "accuracy", description="On validation; maximised, but loss is minimised."
    )
    trials: Annotated[Whole, Field(ge=1)] = Field(20, description="How many trials.")
    time_budget: Annotated[str | None, BeforeValidator(_duration)] = Field(
        None, description="How long, e.g. 90s, 20m, 1h30m; the search ends with whichever comes first."
    )
    gpu_hours: Annotated[Number | None, Field(gt=0)] = Field(
        None, description="How many hours of GPUs held by trials; the search ends with whichever comes first."
    )
    plateau: Annotated[Whole | None, Field(ge=1)] = Field(
        None, description="End once so many trials in a row have not improved on the best score."
    )
    stall_timeout: Annotated[str | None, BeforeValidator(_duration)] = Field(
        "15m", description="A trial without progress for so long is ended; null for never."
    )
    sampler: Literal["tpe", "random"] = Field("tpe", description="How trials are proposed.")
    early_stopping: EarlyStopping = Field(
        default_factory=lambda: EarlyStopping(asha=Asha()), description="Which trials are stopped early."
    )
    confirm: Confirm | None = Field(
        None, description="After the search, train the best again under other seeds; {} for the three best, thrice."
    )
    ensemble: Ensemble | None = Field(
        None, description="Average the best models; {} for the five best trials and the linear floor."
    )
    refit: Annotated[bool, Strict()] = Field(
        False, description="At the end, train the winner on train and validation rows together; that is the best model."
    )
    seed: Annotated[Whole, Field(ge=0, le=2**31 - 1)] = Field(0, description="Of everything random.")

    @model_validator(mode="after")
    def _one_best_model(self) -> Search:
        if self.refit and self.ensemble:
            raise PydanticCustomError(
                "refit", "refit makes the best model of the winner alone and ensemble of several; give one of them"
            )
        return self

    @property
    def finalists(self) -> int:
        """How many of the best trials are measured on the test set; their weights are kept."""
        return max(FINALISTS, self.ensemble.top if self.ensemble else 0)

    @property
    def mode(self) -> str:
        """`max`, or `min` for loss."""
        return "min" if self.metric == "loss" else "max"

    @property
    def max_epochs(self) -> int:
        """Epochs of a trial that is never stopped."""
        return self.early_stopping.max_epochs

    @property
    def time_budget_seconds(self) -> float | None:
        """The time budget in seconds."""
        return None if self.time_budget is None else duration_seconds(self.time_budget)

    @property
    def stall_timeout_seconds(self) -> float | None:
        """The time without progress after which a trial is ended, in seconds."""
        return None if self.stall_timeout is None else duration_seconds(self.stall_timeout)


class PerTrial(Section):
    """What one trial uses: its workers, and what each of them has."""

    workers: Annotated[Whole, Field(ge=1)] = Field(
        1, description="Processes that train one network together, each on its share of every batch."
    )
    cpus: Annotated[Number, Field(gt=0)] = Field(1.0, description="CPU cores.")
    gpus: NumberOrAuto = Field(
        0.0, description="GPUs; a fraction shares one; auto measures how many trials fit on one (none without GPUs)."
    )
    custom: dict[str, Annotated[Number, Field(gt=0)]] = Field(
        default_factory=dict, description="Ray resources that nodes were started with, by name."
    )

    @model_validator(mode="after")
    def _whole_gpus(self) -> PerTrial:
        if self.workers > 1 and self.gpus not in (0, 1):
            raise PydanticCustomError(
                "gpus", "each of several workers has one GPU or none; got {gpus}", {"gpus": str(self.gpus)}
            )
        return self


class Resources(Section):
    """What the search may use."""

    per_trial: PerTrial = Field(default_factory=PerTrial, description="What one trial uses.")
    max_concurrent: WholeOrAuto = Field("auto", description="Trials at once; auto is as many as fit.")
