"""What the sampler learns from: a bounded history, stopped trials by their score; and that it learns."""

from __future__ import annotations

import random
import statistics
from typing import Any

import numpy as np
import optuna
import pytest
import scipy.special
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers._tpe import _truncnorm
from optuna.trial import FrozenTrial, TrialState, create_trial

from automl.search.proposals import BEST, LATEST, History, ask
from automl.search.sampler import good_trials, make_sampler
from automl.space.search_section import Search

UNIT = FloatDistribution(0.0, 1.0)


def propose(search: Search, number: int, history: list[FrozenTrial]) -> optuna.Trial:
    return ask(make_sampler(search, number), search.modes, number, history)


def test_a_history_holds_the_best_and_the_latest() -> None:
    history, keys = History(), [random.Random(7).random() for _ in range(1000)]
    keys = random.Random(7).sample(keys, len(keys))
    for number, key in enumerate(keys):
        history.end(number, key)
    best = sorted(range(1000), key=lambda number: keys[number])[:BEST]
    assert len(history.numbers()) == BEST + LATEST
    assert set(best) <= set(history.numbers())
    others = sorted(set(range(1000)) - set(best))[-LATEST:]
    assert history.numbers() == sorted([*best, *others])


@pytest.mark.parametrize(("number", "good"), [(1, 1), (16, 1), (17, 2), (100, 3), (400, 5), (10_000, 25), (90_000, 25)])
def test_good_trials_are_a_quarter_of_the_square_root(number: int, good: int) -> None:
    assert good_trials(number) == good


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_a_stopped_trial_counts_with_its_score(metric: str) -> None:
    """Stopped trials are the better the nearer to 0.2; the few that ran all their epochs, near 0.8, are bad."""
    sign, generator, history = (1 if metric == "accuracy" else -1), random.Random(1), []
    for number in range(40):
        bad = number % 10 == 0
        x = generator.uniform(0.75, 0.85) if bad else generator.random()
        score = 0.1 if bad else 0.9 - abs(x - 0.2)
        # The last epoch of a stopped trial is its worst: its score is that of the epoch before.
        values = {1: sign * score, 2: sign * 0.05}
        state = TrialState.COMPLETE if bad else TrialState.PRUNED
        value = sign * score if bad else values[2]
        trial = create_trial(
            state=state, params={"x": x}, distributions={"x": UNIT}, intermediate_values=values, value=value
        )
        trial.number = number
        history.append(trial)
    search = Search(metric=metric)  # type: ignore[arg-type]
    proposed = [propose(search, number, history).suggest_float("x", 0.0, 1.0) for number in range(40, 70)]
    assert abs(statistics.median(proposed) - 0.2) < 0.15
    assert all(trial.state == TrialState.PRUNED for trial in history if trial.number % 10), "the history was changed"


def conditional(trial: optuna.Trial) -> float:
    """Two branches with a parameter of their own each; the better one has the narrower valley."""
    if trial.suggest_categorical("branch", ["wide", "narrow"]) == "wide":
        return 0.3 + (trial.suggest_float("wide.x", 0.0, 1.0) - 0.5) ** 2
    rate = trial.suggest_float("narrow.rate", 1e-4, 1.0, log=True)
    decay = trial.suggest_float("narrow.decay", 0.0, 1.0)
    return abs(rate / 0.01 - 1) / (1 + rate / 0.01) + (decay - 0.3) ** 2


def best_of_a_search(sampler: str, seed: int, trials: int = 100, workers: int = 4) -> float:
    """As the ledger does it: a few trials are always running, the history is bounded."""
    search = Search(metric="loss", sampler=sampler, seed=seed)  # type: ignore[arg-type]
    seen: list[FrozenTrial] = []
    values: list[float] = []
    for number in range(trials):
        trial = propose(search, number, seen)
        values.append(conditional(trial))
        seen.append(trial.storage.get_trial(trial._trial_id))
        if number >= workers:
            seen[number - workers].state, seen[number - workers].value = TrialState.COMPLETE, values[number - workers]
    return min(values)


def test_the_sampler_learns_a_conditional_space() -> None:
    ours = [best_of_a_search("tpe", seed) for seed in range(10)]
    chance = [best_of_a_search("random", seed) for seed in range(10)]
    assert statistics.median(ours) < 0.6 * statistics.median(chance), (ours, chance)


def test_no_point_is_proposed_twice_and_each_is_proposed_again_from_the_same_history() -> None:
    search = Search(metric="loss")
    distributions = {"branch": CategoricalDistribution(("wide",)), "wide.x": UNIT}
    history = []
    for number in range(12):
        params = {"branch": "wide", "wide.x": number / 12}
        history.append(create_trial(params=params, distributions=distributions, value=float(number)))
        history[-1].number = number
    first, again = ([conditional_params(search, number, history) for number in range(12, 20)] for _ in range(2))
    assert first == again
    assert len(set(first)) == len(first)


def conditional_params(search: Search, number: int, history: list[FrozenTrial]) -> float:
    return propose(search, number, history).suggest_float("wide.x", 0.0, 1.0)


def test_the_normal_distribution_of_scipy_is_that_of_optuna() -> None:
    numbers = np.linspace(-60, 60, 4001)
    own = np.array([_truncnorm._log_ndtr_single(float(number)) for number in numbers])
    found: Any = _truncnorm._log_ndtr(numbers)
    np.testing.assert_allclose(found, own, rtol=1e-9, atol=1e-15)
    assert _truncnorm._log_ndtr is scipy.special.log_ndtr
