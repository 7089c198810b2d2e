"""CMA-ES over a study: a Gaussian that moves towards what scored well (Hansen and Ostermeier 2001).

Optuna's own sampler keeps the state of the optimiser in the study as a pickle, which would run whatever a stranger put
there, and models only parameters that every trial has. Here the state is made again from the trials for each proposal:
each carries its generation and its point, with a coordinate for every parameter of the space.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from cmaes import CMA
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from automl.search.points import SpaceSampler, at

GENERATION, POINT = "cma:generation", "cma:point"
SIGMA = 0.25  # of the first generation, where a parameter's range is 1


class CmaSampler(SpaceSampler):
    """Draws from the Gaussian of the generation that the finished trials have come to."""

    def __init__(self, space: Mapping[str, BaseDistribution], seed: int, *, maximize: bool) -> None:
        self._names = list(space)
        self._seed = seed
        self._sign = -1.0 if maximize else 1.0
        self._point: dict[str, float] = {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Draw the trial's point."""
        count = len(self._names)
        optimizer = CMA(mean=np.full(count, 0.5), sigma=SIGMA, bounds=np.tile([0.0, 1.0], (count, 1)), seed=self._seed)
        generation = self._replay(optimizer, study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        point = [float(coordinate) for coordinate in optimizer.ask()]
        self._point = dict(zip(self._names, point, strict=True))
        study._storage.set_trial_system_attr(trial._trial_id, GENERATION, generation)
        study._storage.set_trial_system_attr(trial._trial_id, POINT, point)

    def _replay(self, optimizer: CMA, trials: list[FrozenTrial]) -> int:
        """Tell the optimiser of every generation that is complete; gives the number of the next."""
        generations: dict[int, list[FrozenTrial]] = {}
        for trial in trials:
            if len(trial.system_attrs.get(POINT, ())) == len(self._names):
                generations.setdefault(trial.system_attrs[GENERATION], []).append(trial)
        size = optimizer.population_size
        while len(ended := generations.get(optimizer.generation, [])) >= size:
            optimizer.tell(
                [
                    (np.asarray(trial.system_attrs[POINT]), self._sign * float(trial.value or 0.0))
                    for trial in ended[:size]
                ]
            )
        return int(optimizer.generation)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The parameter's coordinate on its own scale."""
        return at(param_distribution, min(self._point[param_name], 1 - 1e-12))
