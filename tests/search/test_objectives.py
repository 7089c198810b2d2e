"""Several objectives: what the front is, what a journal holds of it, and that samplers learn from all of them."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from automl.models import FAMILIES
from automl.search.journal import open_journal
from automl.search.ledger import Ledger
from automl.search.ranking import Ranking
from automl.space import SearchSpec, UserError, parse
from automl.space.objectives import dominates, pareto_front, point

SPACE = """
name: x
data: {train: t.csv}
model: {cnn: {embedding: {int: [8, 256]}}}
search:
  {trials: TRIALS, sampler: SAMPLER, objectives: [accuracy, latency_ms], early_stopping: {asha: {max_epochs: 4}}}
"""
values = st.sampled_from([0.0, 0.5, 1.0, 2.0])  # few, so that there are ties


def spec_with(sampler: str = "random", trials: int = 20) -> SearchSpec:
    return parse(SPACE.replace("SAMPLER", sampler).replace("TRIALS", str(trials)), FAMILIES)


def opened(path: Path, spec: SearchSpec) -> Ledger:
    return Ledger(open_journal(path, mode="max", further=["min"]), spec)


def play(ledger: Ledger, stop_after: int | None = None) -> None:
    """Wide networks are better and slower; a trial is at its best in the second epoch, if it comes so far."""
    calls = 0
    while (proposal := ledger.next()) is not None:
        width = proposal.config["model"]["cnn"]["embedding"]
        for epoch in range(proposal.epochs + 1, 5):
            calls += 1
            if stop_after is not None and calls > stop_after:
                return
            noise = random.Random(proposal.number).uniform(0, 0.3)
            accuracy = 0.4 + width / 600 - noise - abs(epoch - 2) / 50
            costs = {"latency_ms": width / 100, "parameters": width, "bytes": 4 * width}
            if not ledger.record(
                proposal.number, {"epoch": epoch, "accuracy": accuracy, "train_seconds": 1.0, **costs}
            ):
                break


@given(st.lists(st.tuples(values, values, values), max_size=12))
def test_the_front_is_what_no_other_dominates(points: list[tuple[float, ...]]) -> None:
    by_hand = {
        each
        for each in points
        if not any(
            all(theirs <= mine for theirs, mine in zip(other, each, strict=True)) and other != each for other in points
        )
    }
    assert pareto_front(points) == by_hand
    assert not any(dominates(one, other) for one in by_hand for other in by_hand)


@given(st.lists(st.tuples(values, values), min_size=1, max_size=12))
def test_leaders_are_the_front_and_then_the_best_by_the_first(reached: list[tuple[float, float]]) -> None:
    names = ("accuracy", "latency_ms")
    ranking = Ranking(names)
    for number, each in enumerate(reached):
        ranking.see(number, {1: each[0]})
        ranking.end(number, "cnn", {1: each[0]}, each)
    front = pareto_front(point(names, each) for each in reached)
    leaders = ranking.leaders(len(reached))
    assert sorted(leaders) == list(range(len(reached)))
    on_front = [point(names, reached[number]) in front for number in leaders]
    assert on_front == sorted(on_front, reverse=True)
    scores = [reached[number][0] for number, is_on in zip(leaders, on_front, strict=True) if not is_on]
    assert scores == sorted(scores, reverse=True)
    assert reached[leaders[0]][0] == max(accuracy for accuracy, _ in reached)
    assert ranking.leaders(1) == leaders[:1]


def test_a_trial_is_told_with_all_objectives_at_its_best_epoch(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "study.journal", spec_with())
    play(ledger)
    trials = ledger.journal.study.trials
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in trials:
        best = max(trial.intermediate_values.values())
        assert trial.values == [best, trial.params["model.cnn.embedding"] / 100]
    front = pareto_front(point(("accuracy", "latency_ms"), trial.values) for trial in trials)
    on_front = {trial.number for trial in trials if point(("accuracy", "latency_ms"), trial.values) in front}
    assert on_front < set(ledger.finalists()) or on_front == set(ledger.finalists())
    assert len(on_front) > 3  # more than are kept of a search for one metric


@settings(max_examples=15)
@given(crashes=st.lists(st.integers(1, 25), min_size=1, max_size=3))
def test_a_crash_changes_nothing(crashes: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    spec = spec_with()
    undisturbed = opened(tmp_path_factory.mktemp("whole") / "study.journal", spec)
    play(undisturbed)
    path = tmp_path_factory.mktemp("crash") / "study.journal"
    for calls in crashes:
        play(opened(path, spec), stop_after=calls)
    ledger = opened(path, spec)
    play(ledger)
    found = [
        [(trial.state, trial.params, trial.values, trial.user_attrs) for trial in each.journal.study.trials]
        for each in (ledger, undisturbed)
    ]
    assert found[0] == found[1]
    assert ledger.finalists() == undisturbed.finalists()


@pytest.mark.parametrize("value", [math.nan, None])
def test_an_objective_that_is_no_number_fails_its_trial(value: Any, tmp_path: Path) -> None:
    ledger = opened(tmp_path / "study.journal", spec_with())
    proposal = ledger.next()
    assert proposal
    line = {"epoch": 1, "accuracy": 0.5, "latency_ms": value, "train_seconds": 1.0, "parameters": 1, "bytes": 4}
    assert not ledger.record(proposal.number, line)
    (trial,) = ledger.journal.study.trials
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["reason"].startswith("its latency_ms after epoch 1 is no number")


def test_a_plateau_is_a_front_that_does_not_change(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "study.journal", spec_with(trials=3))
    line = {"epoch": 4, "accuracy": 0.5, "latency_ms": 1.0, "train_seconds": 1.0, "parameters": 1, "bytes": 4}
    for better, since in (({}, 0), ({"accuracy": 0.4}, 1), ({"accuracy": 0.4, "latency_ms": 0.5}, 0)):
        proposal = ledger.next()
        assert proposal
        ledger.record(proposal.number, line | better)
        assert ledger.since_best() == since


def test_a_study_with_other_objectives_is_refused(tmp_path: Path) -> None:
    opened(tmp_path / "study.journal", spec_with())
    with pytest.raises(UserError, match="holds a study to maximize, minimize, this run is to maximize"):
        open_journal(tmp_path / "study.journal", mode="max")


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", pytest.param("gp", marks=pytest.mark.slow)])
def test_samplers_learn_from_all_objectives(sampler: str, tmp_path: Path) -> None:
    """Better than 0.5 or cheaper than 0.5, but both only where x is near 0.3: a front as in ZDT1."""

    trials, seeds = (28, 2) if sampler == "gp" else (150, 4)  # a Gaussian process takes its time

    def area(name: str, seed: int) -> float:
        text = f"""
name: x
data: {{train: t.csv}}
model: {{cnn: {{dropout: {{float: [0.0, 0.9]}}, token_dropout: {{float: [0.0, 0.9]}}}}}}
search: {{trials: {trials}, sampler: {name}, seed: {seed}, objectives: [loss, latency_ms],
  early_stopping: {{none: {{max_epochs: 1}}}}}}
"""
        spec = parse(text, FAMILIES)
        ledger = Ledger(open_journal(tmp_path / f"{name}-{seed}.journal", mode="min", further=["min"]), spec)
        while (proposal := ledger.next()) is not None:
            model = proposal.config["model"]["cnn"]
            far = 1 + 4 * abs(model["token_dropout"] - 0.3)
            cheap = model["dropout"] / 0.9
            line = {"epoch": 1, "loss": far * (1 - math.sqrt(cheap / far)), "latency_ms": cheap, "train_seconds": 1.0}
            ledger.record(proposal.number, {**line, "parameters": 1, "bytes": 4})
        front = sorted({(trial.values[1], trial.values[0]) for trial in ledger.journal.study.trials})
        best, total, before = 2.0, 0.0, 0.0
        for latency, loss in [*front, (1.0, 2.0)]:  # what lies below 2 and left of 1, dominated
            total += (latency - before) * (2.0 - best)
            best, before = min(best, loss), latency
        return total

    learned, chance = ([area(name, seed) for seed in range(seeds)] for name in (sampler, "random"))
    assert np.mean(learned) > np.mean(chance) + 0.02
