"""Which sampler proposes a trial."""

from __future__ import annotations

import math
import warnings
from typing import Any

import optuna
import scipy.special
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers._tpe import _truncnorm
from optuna.trial import FrozenTrial

from automl.space.search_section import Search

# Chosen by benchmarks/samplers.py; see docs/decisions.md. `group` models each branch of a conditional space jointly.
TPE: dict[str, Any] = {"multivariate": True, "group": True, "constant_liar": True, "n_startup_trials": 10}

# Optuna, which does without SciPy, calls a Python function for each number: half of what a proposal costs.
_truncnorm._log_ndtr = scipy.special.log_ndtr


def make_sampler(search: Search, number: int, **changes: Any) -> optuna.samplers.BaseSampler:
    """The sampler that proposes trial `number`; `changes` are settings of TPE to compare with ours.

    Seeded by the file's seed and the number, so that a resumed run proposes what an uninterrupted one would have and
    never the same point twice.
    """
    seed = (search.seed * 1_000_003 + number * 7919 + 1) % (2**32 - 1)
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # group
        warnings.simplefilter("ignore", FutureWarning)  # gamma, which Optuna 6 takes away
        return optuna.samplers.TPESampler(seed=seed, **(TPE | {"gamma": lambda _: good_trials(number)} | changes))


def good_trials(number: int) -> int:
    """How many of the trials before `number` TPE takes for good ones: a quarter of the square root.

    As in Hyperopt (Bergstra et al. 2011). Optuna's own default, a tenth, takes for good whatever ran all its epochs
    where few trials do.
    """
    return min(25, math.ceil(0.25 * math.sqrt(number)))


class MiddleSampler(optuna.samplers.BaseSampler):
    """Proposes the middle of every range, and of the families the one with the given index: no draw, a first guess.

    A range's middle is halfway on its own scale, linear or logarithmic. Of an even number of choices it is the first
    of the two in the middle.
    """

    def __init__(self, family: int) -> None:
        self._family = family

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: every parameter is proposed on its own."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The middle of one range."""
        if isinstance(param_distribution, CategoricalDistribution):
            choices = param_distribution.choices
            return choices[self._family if param_name == "model" else (len(choices) - 1) // 2]
        assert isinstance(param_distribution, FloatDistribution | IntDistribution)
        low, high, step = param_distribution.low, param_distribution.high, param_distribution.step
        middle = math.sqrt(low * high) if param_distribution.log else (low + high) / 2
        if step is not None and not param_distribution.log:
            middle = low + step * math.floor((middle - low) / step + 1e-9)
        return round(middle) if isinstance(param_distribution, IntDistribution) else middle
