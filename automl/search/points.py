"""Samplers that learn nothing: points spread evenly over a space, and every point of a grid in turn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from automl.space import SearchSpec
from automl.space.grid import grid_point, grid_size, shuffled


class SpaceSampler(optuna.samplers.BaseSampler):
    """Proposes each parameter on its own."""

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: every parameter is proposed on its own."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}


class QmcSampler(SpaceSampler):
    """Point `number` of a scrambled Sobol sequence over all parameters of a space, of every branch.

    Each parameter has a coordinate of its own, used where the parameter is active, so a conditional space is covered
    as evenly as any. The point depends on the number and the seed alone: a resumed run misses none.
    """

    def __init__(self, space: Mapping[str, BaseDistribution], number: int, seed: int) -> None:
        from scipy.stats import qmc  # which takes a good part of a second to load

        sequence = qmc.Sobol(max(1, len(space)), scramble=True, rng=seed)
        if number:  # SciPy cannot go forward by nothing
            sequence.fast_forward(number)
        self._point = dict(zip(space, sequence.random(1)[0].tolist(), strict=False))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The parameter's coordinate on its own scale."""
        return at(param_distribution, self._point[param_name])


class GridSampler(SpaceSampler):
    """Configuration `number` of all that a space without continuous parameters has, in a shuffled order."""

    def __init__(self, spec: SearchSpec, number: int) -> None:
        size = grid_size(spec)
        self._point = grid_point(spec, shuffled(number % size, size, spec.search.seed))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The parameter's value there."""
        return self._point[param_name]


def at(distribution: BaseDistribution, share: float) -> Any:
    """The value of a parameter at `share` (from 0 to below 1) of its range, on its own scale.

    Of whole numbers, steps and choices all have the same part of it.
    """
    if isinstance(distribution, CategoricalDistribution):
        count = len(distribution.choices)
        return distribution.choices[min(int(share * count), count - 1)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.log:
        half = 0.5 if isinstance(distribution, IntDistribution) else 0.0
        first, last = math.log(low - half), math.log(high + half)
        value = min(max(math.exp(first + share * (last - first)), low), high)
        return round(value) if isinstance(distribution, IntDistribution) else value
    if step is None:
        return low + share * (high - low)
    steps = round((high - low) / step)
    value = min(low + min(int(share * (steps + 1)), steps) * step, high)  # 0.1 + 6 * 0.1 is more than 0.7
    return round(value) if isinstance(distribution, IntDistribution) else value
