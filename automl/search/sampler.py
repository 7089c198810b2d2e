"""Which sampler proposes a trial."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers._tpe import _truncnorm
from optuna.trial import FrozenTrial

from automl.search.points import GridSampler, QmcSampler, SpaceSampler
from automl.space import SearchSpec, parameters
from automl.space.configurations import distribution, middle
from automl.space.search_section import Search

# For one objective (for several, Optuna's own settings). Chosen by benchmarks/samplers.py; see docs/decisions.md.
# `group` models each branch of a conditional space jointly.
TPE: dict[str, Any] = {"multivariate": True, "group": True, "constant_liar": True}
STARTUP_TRIALS = 10  # of tpe and gp, drawn at random before a model of the scores is worth something
OF_GENERATIONS = ("cmaes", "nsga2")  # they learn from generations, and these from those before
NO_HISTORY = ("qmc", "random", "grid")
IMPUTED = ("gp", "nsga2")  # they compare trials by all parameters: one that a trial lacks counts as its middle


def make_sampler(
    search: Search,
    number: int,
    *,
    rejected: int = 0,
    known: int = 0,
    before: int = 0,
    spec: SearchSpec | None = None,
    **changes: Any,
) -> optuna.samplers.BaseSampler:
    """The sampler that proposes trial `number`; `changes` are settings of TPE to compare with ours.

    Seeded by the file's seed and the number, so that a resumed run proposes what an uninterrupted one would have and
    never the same point twice. Of the trials it learns from `rejected` did not meet the constraints and `known` are of
    earlier runs; `before` trials of this one were given. With earlier runs TPE weighs all trials alike: by default it
    discounts all but the latest 25 by age, which says nothing across runs. cmaes, qmc and grid need the `spec` whose
    space they search.
    """
    seed = (search.seed * 1_000_003 + number * 7919 + 1) % (2**32 - 1)
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    _compute_tails_in_c()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # group, GPSampler
        warnings.simplefilter("ignore", FutureWarning)  # gamma, which Optuna 6 takes away
        ageless: dict[str, Any] = {"weights": np.ones} if known else {}
        if search.sampler == "tpe" and len(search.sought) > 1:
            return optuna.samplers.TPESampler(
                seed=seed,
                n_startup_trials=STARTUP_TRIALS + rejected,
                multivariate=False,
                constant_liar=True,
                **ageless,
            )
        if search.sampler == "tpe":
            settings = {"n_startup_trials": STARTUP_TRIALS + rejected, "gamma": lambda _: good_trials(number + known)}
            return optuna.samplers.TPESampler(seed=seed, **(TPE | settings | ageless | changes))
        if search.sampler == "gp":
            return optuna.samplers.GPSampler(
                seed=seed, n_startup_trials=STARTUP_TRIALS + rejected, warn_independent_sampling=False
            )
        if search.sampler == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=population_size(search.trials))
    assert spec is not None
    if search.sampler == "cmaes":
        from automl.search.cma import CmaSampler  # which takes a good part of a second to load

        return CmaSampler(space_of(spec), seed, maximize=search.mode == "max")
    if search.sampler == "qmc":
        return QmcSampler(space_of(spec), number - before, search.seed)
    return GridSampler(spec, number - before)


def space_of(spec: SearchSpec) -> dict[str, BaseDistribution]:
    """All parameters of a space, of every branch."""
    return {parameter.name: distribution(parameter.range) for parameter in parameters(spec)}


def good_trials(number: int) -> int:
    """How many of the trials before `number` TPE takes for good ones: a quarter of the square root.

    As in Hyperopt (Bergstra et al. 2011). Optuna's own default, a tenth, takes for good whatever ran all its epochs
    where few trials do.
    """
    return min(25, math.ceil(0.25 * math.sqrt(number)))


def population_size(trials: int) -> int:
    """Trials of a generation, so that a budget has at least five."""
    return min(50, max(4, trials // 5))


class StartSampler(SpaceSampler):
    """Proposes the parameters of a given point, and of others the middle of their ranges: no draw, a first guess."""

    def __init__(self, point: Mapping[str, Any]) -> None:
        self._point = point

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The given value, or the middle of the range."""
        return self._point[param_name] if param_name in self._point else middle(param_distribution)


def _compute_tails_in_c() -> None:
    """Give TPE SciPy's function of whole arrays: Optuna, which does without SciPy, calls a Python one for each number.

    That was half of what a proposal cost. SciPy is loaded here, as `automl check` has no need of it.
    """
    import scipy.special

    _truncnorm._log_ndtr = scipy.special.log_ndtr
