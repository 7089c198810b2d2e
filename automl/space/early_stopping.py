"""`search.early_stopping`: the ways of stopping trials early, and the rungs that they have."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from automl.space.ranges import Number, Whole
from automl.space.sections import Alternatives, Section


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

    promotion: bool = Field(
        False,
        description="Whether trials pause at a rung until they are among the best there, and go on from a checkpoint; "
        "else they stop or go on at once.",
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
