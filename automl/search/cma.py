"""CMA-ES over a study: a Gaussian that moves towards what scored well (Hansen and Ostermeier 2001).

Optuna's own sampler keeps the state of the optimiser in the study as a pickle, which would run whatever a stranger put
there, and models only parameters that every trial has. Here the state is made from the trials, each of which carries
its generation and its point, with a coordinate for every parameter of the space. A process goes on from the generations
that it was told of for the proposal before.
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
Solution = tuple[tuple[float, ...], float]
"""A point and the value that was reached there."""
Told = tuple[float, list[Solution]]
"""The sign with which less of a value is better, and a generation."""

_latest: tuple[list[Told], CMA | None] = [], None

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
        optimizer = self._told(_generations(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)), count))
        optimizer.reseed_rng(self._seed)
        point = [float(coordinate) for coordinate in optimizer.ask()]
        self._point = dict(zip(self._names, point, strict=True))
        study._storage.set_trial_system_attr(trial._trial_id, GENERATION, int(optimizer.generation))
        study._storage.set_trial_system_attr(trial._trial_id, POINT, point)

    def _told(self, generations: Mapping[int, list[Solution]]) -> CMA:
        """The optimiser that has been told of every generation that is complete."""
        global _latest
        told, optimizer = _latest
        count = len(self._names)
        if optimizer is None or optimizer.dim != count or not _is_beginning(told, generations, self._sign):
            bounds = np.tile([0.0, 1.0], (count, 1))
            told, optimizer = [], CMA(mean=np.full(count, 0.5), sigma=SIGMA, bounds=bounds)
        size = optimizer.population_size
        while len(ended := generations.get(optimizer.generation, [])) >= size:
            optimizer.tell([(np.asarray(point), self._sign * value) for point, value in ended[:size]])
            told.append((self._sign, ended[:size]))
        _latest = told, optimizer
        return optimizer

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The parameter's coordinate on its own scale."""
        return at(param_distribution, min(self._point[param_name], 1 - 1e-12))


def _generations(trials: list[FrozenTrial], dimensions: int) -> dict[int, list[Solution]]:
    """The points and values of the trials of each generation, in the order of their numbers."""
    found: dict[int, list[Solution]] = {}
    for trial in trials:
        point = trial.system_attrs.get(POINT, ())
        if len(point) == dimensions:
            solution = (tuple(point), float(trial.value or 0.0))
            found.setdefault(trial.system_attrs[GENERATION], []).append(solution)
    return found


def _is_beginning(told: list[Told], generations: Mapping[int, list[Solution]], sign: float) -> bool:
    """Whether an optimiser that was `told` of its first generations was told of these."""
    return all(
        each_sign == sign and generations.get(number, [])[: len(each)] == each
        for number, (each_sign, each) in enumerate(told)
    )
