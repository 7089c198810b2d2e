"""The section `search`: what is looked for, for how long, and how."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from automl.space.early_stopping import Asha, EarlyStopping
from automl.space.limits import Condition, Limits
from automl.space.objectives import METRICS, Metric, Objective, mode
from automl.space.ranges import Number, Whole
from automl.space.sections import Section
from automl.space.wording import shown


class Confirm(Section):
    """The best trials are trained again, to full budget, under seeds that the search did not choose them by."""

    top: Annotated[Whole, Field(ge=1)] = Field(3, description="How many of the best.")
    seeds: Annotated[Whole, Field(ge=1)] = Field(3, description="How often each.")
    decides: Annotated[bool, Strict()] = Field(
        False,
        description="Whether their mean score under these seeds, and not the search's score, says which of them is "
        "best: leaderboard, recommendation, best model and refit follow it. What is packed are the weights of the "
        "search.",
    )


class Ensemble(Section):
    """Several models averaged: the best model, unless one trial is ahead on validation by more than chance."""

    top: Annotated[Whole, Field(ge=1, le=10)] = Field(
        5, description="How many of the best trials; the best of each other family joins where it may be as good."
    )
    linear: Annotated[bool, Strict()] = Field(
        True, description="Whether the linear floor is one half of the average; its errors are of another kind."
    )


class Compress(Section):
    """The best model made smaller and faster at the end, in several ways."""

    tolerance: Annotated[float, Field(ge=0)] = Field(
        0.005, description="How much of the metric the recommended model may lose on validation."
    )
    epochs: Annotated[Whole, Field(ge=1)] = Field(5, description="Epochs that pruned models are trained on.")


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


Duration = Annotated[str | None, BeforeValidator(_duration)]


class Search(Section):
    """What is looked for, for how long, and how."""

    metric: Metric = Field(
        "accuracy",
        description="On validation; maximised, but loss (log loss) and calibration_error are minimised. micro_f1 is "
        "accuracy where each row has one label.",
    )
    objectives: Annotated[list[Objective], Field(max_length=4)] = Field(
        default_factory=list,
        json_schema_extra={"uniqueItems": True},
        description="Several at once, as in [accuracy, latency_ms]: the leaderboard begins with the trials that no "
        "other beats in all of them. The first is a metric; it decides which trials are stopped early and which "
        "epoch's weights are kept. latency_ms is for one text on one CPU thread.",
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
    sampler: Literal["tpe", "gp", "cmaes", "nsga2", "qmc", "random", "grid"] = Field(
        "tpe",
        description="How trials are proposed: tpe and gp by a model of the scores, cmaes and nsga2 by evolution, qmc "
        "evenly, random, or grid for every combination.",
    )
    early_stopping: EarlyStopping = Field(
        default_factory=lambda: EarlyStopping(asha=Asha()), description="Which trials are stopped early."
    )
    constraints: list[Condition] = Field(
        default_factory=list,
        description="Conditions between settings, as in model.rnn.hidden * model.rnn.layers <= 512; what does not meet "
        "them is not trained and costs no trial.",
    )
    limits: Limits = Field(default_factory=Limits, description="What a configuration may cost, known before training.")
    start_with: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Configurations that are tried first, in part or whole, as in {model: {rnn: {hidden: 64}}}; what "
        "they leave open is the middle of its range.",
    )
    warm_start: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        description="Run directories of earlier searches: their trials that lie in this space are what the sampler "
        "begins with; their best configurations are tried first where data or metric differ.",
    )
    confirm: Confirm | None = Field(
        None, description="After the search, train the best again under other seeds; {} for the three best, thrice."
    )
    ensemble: Ensemble | None = Field(
        None, description="Average the best models; {} for the five best trials and the linear floor."
    )
    pack_linear: Annotated[bool, Strict()] = Field(
        True,
        description="Whether the linear floor is the best model where it is ahead on validation of all that was "
        "searched; false packs networks whatever it reaches, as for automl export.",
    )
    refit: Annotated[bool, Strict()] = Field(
        False, description="At the end, train the winner on train and validation rows together; that is the best model."
    )
    compress: Compress | None = Field(
        None, description="At the end, make smaller and faster models of the best one; {} as automl compress does."
    )
    log_to: list[Literal["tensorboard", "mlflow"]] = Field(
        default_factory=list,
        description="What else hears of each epoch: tensorboard (files in the run directory), mlflow "
        "(MLFLOW_TRACKING_URI, else mlflow.db in the run directory).",
    )
    seed: Annotated[Whole, Field(ge=0, le=2**31 - 1)] = Field(0, description="Of everything random.")

    @model_validator(mode="before")
    @classmethod
    def _first_is_the_metric(cls, value: Any) -> Any:
        """`metric` need not be said again where there are `objectives`."""
        if isinstance(value, dict) and isinstance(value.get("objectives"), list) and value["objectives"]:
            return {"metric": value["objectives"][0], **value} if value["objectives"][0] in METRICS else value
        return value

    @model_validator(mode="after")
    def _objectives(self) -> Search:
        if not self.objectives:
            return self
        first, twice = self.objectives[0], [name for name, count in Counter(self.objectives).items() if count > 1]
        if first not in METRICS:
            why = (
                "the first of the objectives is a metric, as it decides which trials are stopped early; {first} is none"
            )
            raise PydanticCustomError("objectives", why, {"first": first, "setting": "objectives"})
        if twice:
            raise PydanticCustomError(
                "objectives", "{name} is named more than once", {"name": twice[0], "setting": "objectives"}
            )
        if self.metric != first:
            raise PydanticCustomError(
                "objectives",
                "metric is {metric} and the first of the objectives {first}; leave metric out or put it first",
                {"metric": self.metric, "first": first, "setting": "metric"},
            )
        if self.ensemble and len(self.objectives) > 1:
            raise PydanticCustomError(
                "objectives",
                "an ensemble is as slow and large as all its members together; with several objectives leave it out",
                {"setting": "ensemble"},
            )
        if self.confirm and self.confirm.decides and len(self.objectives) > 1:
            raise PydanticCustomError(
                "objectives",
                "confirm decides by the mean of one metric; with several objectives leave decides out",
                {"setting": "confirm"},
            )
        return self

    @model_validator(mode="after")
    def _one_best_model(self) -> Search:
        if self.refit and self.ensemble:
            raise PydanticCustomError(
                "refit", "refit makes the best model of the winner alone and ensemble of several; give one of them"
            )
        return self

    @property
    def sought(self) -> tuple[str, ...]:
        """What the search looks for: the metric, and what other objectives there are."""
        return tuple(self.objectives) or (self.metric,)

    @property
    def modes(self) -> tuple[str, ...]:
        """`max` or `min` of each of them."""
        return tuple(mode(objective) for objective in self.sought)

    @property
    def finalists(self) -> int:
        """How many of the best trials are measured on the test set; their weights are kept."""
        deciding = self.confirm.top if self.confirm and self.confirm.decides else 0
        return max(FINALISTS, self.ensemble.top if self.ensemble else 0, deciding)

    @property
    def mode(self) -> str:
        """`max` where more of the metric is better, else `min`."""
        return mode(self.metric)

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
