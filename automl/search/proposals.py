"""What the sampler proposes next, worked out in memory from a bounded part of the study."""

from __future__ import annotations

import copy
import sys
from bisect import insort
from collections import deque
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from automl.search.sampler import IMPUTED, NO_HISTORY, OF_GENERATIONS, StartSampler, make_sampler, space_of
from automl.space import SearchSpec, suggest
from automl.space.configurations import middle
from automl.training.database import study_directions
from automl.training.run_directory import INFEASIBLE
from automl.training.study_file import reached_by

BEST, LATEST = 25, 100  # ended trials that a sampler learns from: its cost for a proposal grows with their number
GENERATIONS = 2000  # the same of nsga2, whose parents are the best of the generations before
REJECTED = 50  # the latest proposals that did not meet the constraints


def _remembered(sampler: str) -> int:
    """How many of the latest ended trials a sampler learns from."""
    if sampler in NO_HISTORY:
        return 0
    if sampler == "cmaes":
        return sys.maxsize  # each generation is drawn from what those before have made of the Gaussian
    return GENERATIONS if sampler in OF_GENERATIONS else LATEST


class History:
    """The numbers of the trials that a sampler learns from: the best and the latest of those that have ended."""

    def __init__(self, sampler: str = "tpe") -> None:
        self._latest = _remembered(sampler)
        self._best: list[tuple[float, int]] = []
        self._ended: set[int] = set()
        self._rejected: deque[int] = deque(maxlen=self._latest if sampler in OF_GENERATIONS else REJECTED)

    def reject(self, number: int) -> None:
        """A proposal did not meet the constraints."""
        if self._latest:
            self._rejected.append(number)

    def end(self, number: int, rank_key: float) -> None:
        """A trial has ended with a score, the better the smaller its `rank_key`."""
        if not self._latest:
            return
        insort(self._best, (rank_key, number))
        del self._best[BEST:]
        self._ended.add(number)
        if len(self._ended) > BEST + self._latest:
            self._ended.remove(min(self._ended - {among for _, among in self._best}))

    def resume(self, number: int) -> None:
        """A trial that had ended for the time being runs again."""
        self._best = [each for each in self._best if each[1] != number]
        self._ended.discard(number)

    def numbers(self) -> list[int]:
        """In ascending order."""
        return sorted([*self._ended, *self._rejected])


class _HistoryStorage(InMemoryStorage):
    """An Optuna storage whose study consists of the trials of a history."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._history = trials

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self._history if states is None or trial.state in states]


def ask(
    sampler: optuna.samplers.BaseSampler, modes: Sequence[str], number: int, history: Sequence[FrozenTrial]
) -> optuna.Trial:
    """Trial `number` as `sampler` starts it after `history`, to be asked for parameters.

    `modes` are max or min of each objective.
    """
    storage = _HistoryStorage(as_seen(history, modes))
    study = optuna.create_study(storage=storage, sampler=sampler, directions=study_directions(modes))
    trial = study.ask()
    storage.get_trial(trial._trial_id).number = number  # constant liars leave out the trial that asks, by its number
    return trial


def as_seen(history: Sequence[FrozenTrial], modes: Sequence[str]) -> list[FrozenTrial]:
    """The trials as the sampler is to see them.

    One that was stopped counts with its score, the best of its epochs (with several objectives all of them at that
    epoch): of pruned trials Optuna takes those that ran longest for the best, and any that ran all epochs for better
    than any that did not; then the first trials, which nothing could stop yet, count as good for a long time. A
    proposal that did not meet the constraints counts with the worst score there is, as some samplers look at scores
    alone, and with how far off it was.
    """
    seen = [_ranked(trial, modes) for trial in history]
    scores = [trial.values for trial in seen if trial.state == TrialState.COMPLETE and trial.values]
    worst = [
        (min(column) if mode == "max" else max(column)) if column else 0.0
        for mode, column in zip(modes, zip(*scores, strict=True) if scores else [()] * len(modes), strict=True)
    ]
    constrained = any(INFEASIBLE in trial.user_attrs for trial in seen)
    return [_with_constraint(trial, worst) for trial in seen] if constrained else seen


def _ranked(trial: FrozenTrial, modes: Sequence[str]) -> FrozenTrial:
    if trial.state != TrialState.PRUNED or not trial.intermediate_values:
        return trial
    seen = copy.copy(trial)
    seen.state, seen.values = TrialState.COMPLETE, reached_by(trial, modes[0])
    return seen


def _with_constraint(trial: FrozenTrial, worst: Sequence[float]) -> FrozenTrial:
    """The same with one constraint in the place of all: samplers expect the same ones of every trial."""
    seen = copy.copy(trial)
    amounts = [amount for amount in trial.constraints.values() if amount > 0]
    others = {name: value for name, value in trial.system_attrs.items() if not name.startswith("constraints")}
    seen.system_attrs = {**others, "constraints:met": sum(amounts) if amounts else -1.0}
    if INFEASIBLE in trial.user_attrs:
        seen.state, seen.values = TrialState.COMPLETE, list(worst)
    return seen


@dataclass(frozen=True)
class Beginning:
    """What a search knows before its first trial: points to try first, and ended trials of earlier runs."""

    points: Sequence[Mapping[str, Any]] = ()
    trials: Sequence[FrozenTrial] = ()


def propose(
    spec: SearchSpec, number: int, history: Sequence[FrozenTrial], beginning: Beginning = Beginning()
) -> tuple[FrozenTrial, dict[str, Any]]:
    """Trial `number` (RUNNING, with its parameters) and its configuration, learned from `history`.

    The first trials are the points of the `beginning`. TPE learns nothing before it has some trials: the first trial of
    each family of which there are none of earlier runs is the middle of its ranges instead of a draw. The same
    arguments always give the same. Nothing is written.
    """
    rejected = sum(INFEASIBLE in trial.user_attrs for trial in history)
    before, families = len(beginning.points), _untried(spec, beginning)
    history = [*beginning.trials, *history]
    if number < before:
        sampler: optuna.samplers.BaseSampler = StartSampler(beginning.points[number])
    elif spec.search.sampler == "tpe" and number - before < len(families):
        sampler = StartSampler({"model": families[number - before]})
    else:
        known = len(beginning.trials)
        sampler = make_sampler(spec.search, number, rejected=rejected, known=known, before=before, spec=spec)
    if spec.search.sampler in IMPUTED:
        space = space_of(spec)
        middles = {name: middle(each) for name, each in space.items()}
        history = [_complete(trial, space, middles) for trial in history]
    trial = ask(sampler, spec.search.modes, number, history)
    config = suggest(spec, trial)
    return trial.storage.get_trial(trial._trial_id), config


def _untried(spec: SearchSpec, beginning: Beginning) -> list[str]:
    """The families that no earlier trial is of."""
    families = list(spec.model.named())
    if len(families) == 1:  # then a trial's parameters do not say it
        return [] if beginning.trials else families
    tried = {trial.params.get("model") for trial in beginning.trials}
    return [family for family in families if family not in tried]


def _complete(trial: FrozenTrial, space: dict[str, BaseDistribution], middles: dict[str, Any]) -> FrozenTrial:
    """A trial with a value for every parameter of the space: what it does not have is the middle of its range.

    So a sampler that models all parameters jointly sees all trials of a conditional space, as in SMAC (Hutter et al.
    2011), and not only the few parameters that all of them share.
    """
    seen = copy.copy(trial)
    seen.params = {name: trial.params.get(name, middle) for name, middle in middles.items()}
    seen.distributions = dict(space)
    return seen
