"""What the sampler proposes next, worked out in memory from a bounded part of the study."""

from __future__ import annotations

import copy
from bisect import insort
from collections.abc import Container, Sequence
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from automl.search.sampler import MiddleSampler, make_sampler
from automl.space import SearchSpec, suggest

BEST, LATEST = 25, 100  # ended trials that a sampler learns from: its cost for a proposal grows with their number


class History:
    """The numbers of the trials that a sampler learns from: the best and the latest of those that have ended."""

    def __init__(self) -> None:
        self._best: list[tuple[float, int]] = []
        self._ended: set[int] = set()

    def end(self, number: int, rank_key: float) -> None:
        """A trial has ended with a score, the better the smaller its `rank_key`."""
        insort(self._best, (rank_key, number))
        del self._best[BEST:]
        self._ended.add(number)
        if len(self._ended) > BEST + LATEST:
            self._ended.remove(min(self._ended - {among for _, among in self._best}))

    def numbers(self) -> list[int]:
        """In ascending order."""
        return sorted(self._ended)


class _HistoryStorage(InMemoryStorage):
    """An Optuna storage whose study consists of the trials of a history."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._history = trials

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self._history if states is None or trial.state in states]


def ask(sampler: optuna.samplers.BaseSampler, mode: str, number: int, history: Sequence[FrozenTrial]) -> optuna.Trial:
    """Trial `number` as `sampler` starts it after `history`, to be asked for parameters; `mode` is max or min."""
    storage = _HistoryStorage([_ranked(trial, mode) for trial in history])
    direction = StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE
    study = optuna.create_study(storage=storage, sampler=sampler, direction=direction)
    trial = study.ask()
    storage.get_trial(trial._trial_id).number = number  # constant liars leave out the trial that asks, by its number
    return trial


def _ranked(trial: FrozenTrial, mode: str) -> FrozenTrial:
    """A trial as the sampler is to see it: one that was stopped counts with its score, the best of its epochs.

    Of pruned trials Optuna takes those that ran longest for the best, and any that ran all epochs for better than any
    that did not: then the first trials, which nothing could stop yet, count as good for a long time.
    """
    if trial.state != TrialState.PRUNED or not trial.intermediate_values:
        return trial
    seen = copy.copy(trial)
    values = trial.intermediate_values.values()
    seen.state, seen.value = TrialState.COMPLETE, max(values) if mode == "max" else min(values)
    return seen


def propose(spec: SearchSpec, number: int, history: Sequence[FrozenTrial]) -> tuple[FrozenTrial, dict[str, Any]]:
    """Trial `number` (RUNNING, with its parameters) and its configuration, learned from `history`.

    TPE learns nothing before it has some trials; the first trial of each family is the middle of its ranges instead of
    a draw. The same arguments always give the same. Nothing is written.
    """
    guess = spec.search.sampler == "tpe" and number < len(spec.model.named())
    sampler = MiddleSampler(number) if guess else make_sampler(spec.search, number)
    trial = ask(sampler, spec.search.mode, number, history)
    config = suggest(spec, trial)
    return trial.storage.get_trial(trial._trial_id), config
