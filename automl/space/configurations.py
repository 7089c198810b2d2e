"""A search space as an Optuna define-by-run function: from a trial to its configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from automl.space.constraints import constraints_of
from automl.space.grid import data_point
from automl.space.parameters import choice_options, entry_name, option_name
from automl.space.ranges import Choice, Each, FloatRange, IntRange
from automl.space.sections import Alternatives, Section
from automl.space.spec import SEARCHED, SearchSpec, searched_sections

DRAWS = 100  # of a sample that is to meet the constraints


def suggest(spec: SearchSpec, trial: optuna.trial.BaseTrial) -> dict[str, Any]:
    """The configuration that `trial` proposes: task, data, model and training with a value for each range.

    Of named alternatives only the chosen one is in it. Parameters are asked for in the order of the sections' fields
    (of lists, after what says how long they are), so the same trial always gives the same configuration; a stored
    trial gives the one it was made with.
    """
    config = {name: _resolved(trial, getattr(spec, name), name) for name in SEARCHED}
    return {"task": spec.task, **config}


def _resolved(trial: optuna.trial.BaseTrial, value: Any, path: str, count: int = 0) -> Any:
    """The value of a setting in this trial; of a list as long as another setting says, `count` is that setting's."""
    if isinstance(value, Each):
        if not isinstance(value.per, str):
            count = _resolved(trial, value.per, f"{path}.per")
        entry = value.entry()
        return [_resolved(trial, entry, entry_name(path, position)) for position in range(count)]
    if isinstance(value, FloatRange):
        return trial.suggest_float(path, *value.ends, log=value.log, step=value.step)
    if isinstance(value, IntRange):
        return trial.suggest_int(path, *value.ends, log=value.log, step=value.step or 1)
    if isinstance(value, Choice):
        options = choice_options(value)
        chosen = trial.suggest_categorical(path, list(options))
        return _resolved(trial, options[chosen], option_name(path, list(options).index(chosen)))
    if isinstance(value, Alternatives):
        named = value.named()
        names = list(named)
        chosen = str(trial.suggest_categorical(path, names)) if len(names) > 1 else names[0]
        return {chosen: _resolved(trial, named[chosen], f"{path}.{chosen}")}
    if isinstance(value, Section):
        found: dict[str, Any] = {}
        for name, inner in value.settings():
            count = found[inner.per] if isinstance(inner, Each) and isinstance(inner.per, str) else 0
            found[name] = _resolved(trial, inner, f"{path}.{name}", count)
        return {name: found[name] for name in type(value).model_fields}
    return value


def distribution(value: FloatRange | IntRange | Choice) -> BaseDistribution:
    """What Optuna draws a parameter from."""
    if isinstance(value, FloatRange):
        return FloatDistribution(*value.ends, log=value.log, step=value.step)
    if isinstance(value, IntRange):
        return IntDistribution(*value.ends, log=value.log, step=value.step or 1)
    return CategoricalDistribution(list(choice_options(value)))


def sample_configs(spec: SearchSpec, count: int, *, seed: int, feasible: bool = True) -> list[dict[str, Any]]:
    """`count` configurations drawn at random, fewer where hardly any meets the constraints (all if not `feasible`)."""
    constraints = constraints_of(spec.search.constraints if feasible else [], searched_sections(spec))
    found: list[dict[str, Any]] = []
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        for _ in range(count * DRAWS):
            config = suggest(spec, study.ask())
            if not any(constraints.violations(config).values()):
                found.append(config)
            if len(found) == count:
                break
        return found
    finally:
        optuna.logging.set_verbosity(verbosity)


def middle_config(spec: SearchSpec, point: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the parameters of `point`, and of the others the middle of their ranges."""
    return suggest(spec, _Middle(point))


def data_section(spec: SearchSpec, index: int) -> dict[str, Any]:
    """The `data` section of preparation `index` (from 0), of as many as `data_size` says."""
    found: dict[str, Any] = middle_config(spec, data_point(spec, index))["data"]
    return found


class _Middle(optuna.trial.FixedTrial):
    """A trial with some parameters given."""

    def __init__(self, point: Mapping[str, Any]) -> None:
        super().__init__(dict(point))

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if name not in self._params:
            self._params[name] = middle(distribution)
        return super()._suggest(name, distribution)


def middle(distribution: BaseDistribution) -> Any:
    """The middle of a range on its own scale, linear or logarithmic; of an even number of choices the first of two."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[(len(distribution.choices) - 1) // 2]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    value = math.sqrt(low * high) if distribution.log else (low + high) / 2
    if step is not None and not distribution.log:
        value = min(low + step * math.floor((value - low) / step + 1e-9), high)
    return round(value) if isinstance(distribution, IntDistribution) else value
