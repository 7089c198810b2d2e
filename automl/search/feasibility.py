"""Which proposals are worth a trial: those that meet the file's constraints and cost no more than its limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from automl.data import Prepared
from automl.models.cost import Cost, estimate_cost
from automl.space import SearchSpec, constraints_of
from automl.space.spec import searched_sections
from automl.training.beforehand import vectors_of
from automl.training.run_directory import INFEASIBLE

Judge = Callable[[Mapping[str, Any]], dict[str, float]]
"""From a configuration to how far it is from meeting each condition: 0 where it meets it."""

GUESSED_LENGTH = 128  # tokens of the longest text, where that is known only once the data has been read
GUESSED_CLASSES = 2
GUESSED_IMAGE = (32, 32, 3)
GUESSED_SERIES = (128, 1)


@dataclass(frozen=True)
class Costs:
    """What configurations of a space cost on its data; where that has not been prepared yet, at most."""

    prepared: Prepared | None = None
    prepared_from: Mapping[str, Any] | None = None  # the `data` section of the configuration it was prepared for
    others: Sequence[tuple[Mapping[str, Any], Prepared]] = ()  # the same of further preparations

    def of(self, config: Mapping[str, Any], *, measure: bool = True) -> Cost:
        """The cost of one configuration; without `measure` that of its weights alone, which takes less time."""
        data = config["data"]
        prepared = self._prepared_as(data) or self.prepared
        if "tokenizer" not in data:
            classes = GUESSED_CLASSES if prepared is None else len(prepared.classes)
            return estimate_cost(config, vocabulary=0, classes=classes, shape=self._shape(data), measure=measure)
        (tokenizer,) = data["tokenizer"].values()
        vocabulary, length, classes = tokenizer["vocabulary"], data["max_length"], GUESSED_CLASSES
        if prepared is not None:
            classes = len(prepared.classes)
            if self.exact(data):
                vocabulary = prepared.vocabulary
            if length == "auto":
                length = int(prepared.profile["max_length"])
        length = GUESSED_LENGTH if length == "auto" else length
        return estimate_cost(
            config,
            vocabulary=vocabulary,
            classes=classes,
            length=length,
            dimension=vectors_of(config["model"]),
            measure=measure,
        )

    def exact(self, data: Mapping[str, Any]) -> bool:
        """Whether the data has been prepared as this section says, so that costs are those of a trial."""
        return self._prepared_as(data) is not None

    def _prepared_as(self, data: Mapping[str, Any]) -> Prepared | None:
        pairs = [(self.prepared_from, self.prepared), *self.others]
        return next((prepared for settings, prepared in pairs if settings == data), None)

    def _shape(self, data: Mapping[str, Any]) -> list[int]:
        """Height, width and channels of images; steps and channels of series."""
        prepared = self._prepared_as(data) or self.prepared
        known = None if prepared is None else prepared.profile["shape"]
        if "max_length" in data:
            steps, channels = known or GUESSED_SERIES
            return [steps if data["max_length"] == "auto" else data["max_length"], channels]
        side, _, channels = known or GUESSED_IMAGE
        side = side if data["size"] == "auto" else data["size"]
        return [side, side, channels]


def judge_of(spec: SearchSpec, costs: Costs | None = None) -> Judge:
    """What judges configurations of `spec`: its constraints and, where `costs` tells what they cost, its limits."""
    constraints = constraints_of(spec.search.constraints, searched_sections(spec))
    limits = spec.search.limits.given() if costs else {}
    return partial(_judge, constraints.violations, costs, limits)


def _judge(
    violations: Judge, costs: Costs | None, limits: Mapping[str, float], config: Mapping[str, Any]
) -> dict[str, float]:
    found = violations(config)
    if limits and costs is not None:
        cost = costs.of(config, measure=bool(limits.keys() - {"parameters", "bytes"}))
        for name, limit in limits.items():
            found[f"{name} <= {limit:.10g}"] = max(0.0, getattr(cost, name) / limit - 1)
    return found


def mark(trial: FrozenTrial, violations: Mapping[str, float]) -> bool:
    """Tell Optuna in `trial` how far each condition is from being met; true if all are.

    One that is not will never be run: it has ended as it begins, PRUNED without a value, as Optuna's samplers then
    still learn from it.
    """
    for condition, amount in violations.items():
        trial.set_constraint(condition, amount)
    broken = [condition for condition, amount in violations.items() if amount > 0]
    if broken:
        trial.user_attrs = {**trial.user_attrs, INFEASIBLE: broken[0]}
        trial.state, trial.datetime_complete = TrialState.PRUNED, datetime.now()
    return not broken
