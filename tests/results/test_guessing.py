"""No trial is recommended that may be guessing, and none where the validation rows tell nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from automl.results import read_run
from automl.results.chance import differences
from automl.results.guessing import guessing_level, lead, rows_to_tell
from automl.results.leaderboard import rows as rows_of
from automl.results.predictions import Predictions
from automl.results.recommendation import may_be_guessing, recommendation, recommended, rows_needed
from automl.results.row_statistics import chance
from automl.results.study import RunRecord
from automl.results.verdict import verdict
from automl.space.objectives import LESS_IS_BETTER, METRICS
from automl.training.run_directory import RunDirectory

Said = npt.NDArray[np.float32]
COMPARED = [metric for metric in METRICS if metric != "calibration_error"]


def of_accuracy(labels: Any, right: float, seed: int, classes: int = 2) -> Said:
    """Probabilities of a model that is right on so large a share of the rows."""
    generator = np.random.default_rng(seed)
    chosen = np.where(generator.random(len(labels)) < right, labels, generator.integers(classes, size=len(labels)))
    said = np.full((len(labels), classes), 0.3 / classes, dtype=np.float32)
    said[np.arange(len(labels)), chosen] += np.float32(0.7)
    return said


def with_answers(record: RunRecord, said: list[Said], labels: Any, metric: str = "accuracy") -> RunRecord:
    """A record whose first trials are finalists that say this of the validation rows, all equally fast."""
    leaders = record.ranked[: len(said)]
    manifest = {**record.manifest, "metric": metric, "mode": "min" if metric in LESS_IS_BETTER else "max"}
    record = replace(record, manifest=manifest)
    kept = Predictions(
        labels={"validation": np.asarray(labels)},
        said={"validation": {str(trial.number): each for trial, each in zip(leaders, said, strict=True)}},
    )
    latency = {"1": {"p50": 1.0, "p95": 1.0}}
    trials = {str(trial.number): {"validation": {}, "test": None, "latency": latency} for trial in leaders}
    finalists = {"trials": trials, "chance": chance(record, leaders, kept), "ensemble": None}
    return replace(record, finalists=finalists)


@pytest.fixture
def record(finished: RunDirectory) -> RunRecord:
    """The run with other figures; of its trials the first is the largest."""
    found = read_run(finished)
    sizes = {trial.number: 1000 - place for place, trial in enumerate(found.ranked)}
    return replace(
        found, trials=tuple(replace(trial, parameters=sizes.get(trial.number)) for trial in found.trials), floor=None
    )


def balanced(rows: int, classes: int = 2) -> npt.NDArray[np.int64]:
    return np.arange(rows, dtype=np.int64) % classes


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rows", [6, 300])
def test_guessing_trials_are_never_recommended(record: RunRecord, metric: str, rows: int) -> None:
    for seed in range(5):
        labels = balanced(rows)
        found = with_answers(record, [of_accuracy(labels, 0.0, 10 * seed + each) for each in range(4)], labels, metric)
        assert recommended(found) is None and may_be_guessing(found, record.ranked[0].number)
        assert not any(row["recommended"] for row in rows_of(found))
        assert recommendation(found).startswith("No trial is recommended: ") and recommendation(found) in verdict(found)


@pytest.mark.parametrize("metric", METRICS)
def test_trials_that_have_learned_are(record: RunRecord, metric: str) -> None:
    labels = balanced(400)
    found = with_answers(record, [of_accuracy(labels, 0.8, 1), of_accuracy(labels, 0.8, 2)], labels, metric)
    assert recommended(found) is not None and rows_needed(found) is None
    assert " is recommended: " in recommendation(found)


@pytest.mark.parametrize("metric", METRICS)
def test_six_rows_tell_nothing_however_good_the_best_is(record: RunRecord, metric: str) -> None:
    labels = balanced(6)
    said = [of_accuracy(labels, 1.0, 0), of_accuracy(np.where(np.arange(6) < 1, 1 - labels, labels), 1.0, 0)]
    found = with_answers(record, said, labels, metric)
    assert recommended(found) is None
    assert "6 validation rows" in recommendation(found) and (rows_needed(found) or 7) > 6


def test_the_commonest_class_is_what_accuracy_has_to_beat(record: RunRecord) -> None:
    labels = np.where(np.arange(200) < 180, 0, 1)
    constant = np.tile(np.array([[0.8, 0.2]], dtype=np.float32), (200, 1))
    found = with_answers(record, [constant, constant], labels)
    assert recommended(found) is None
    said = recommendation(found)
    assert (
        "on 200 validation rows none is better than guessing (accuracy 0.9000, the commonest class alone 0.9000)"
        in said
    )
    assert "to see a lead of 0.05 takes about" in said
    one_class = with_answers(record, [constant, constant], np.zeros(200, dtype=np.int64))
    assert recommended(one_class) is None and rows_needed(one_class) is None


def test_a_guessing_trial_in_the_group_of_the_best_is_not_taken_for_its_size(record: RunRecord) -> None:
    labels = balanced(300)
    said = [of_accuracy(labels, 0.9, 0), of_accuracy(labels, 0.88, 1), of_accuracy(labels, 0.0, 2)]
    found = with_answers(record, said, labels)
    groups = dict.fromkeys((found.finalists or {})["chance"]["groups"], 1)
    finalists = {**(found.finalists or {}), "chance": {**(found.finalists or {})["chance"], "groups": groups}}
    assert recommended(replace(found, finalists=finalists)) == record.ranked[1].number
    guessers = [may_be_guessing(found, trial.number) for trial in record.ranked[:3]]
    assert guessers == [False, False, True]


@pytest.mark.parametrize("unknown", [[0], [1], [0, 1]])
def test_costs_that_are_not_known_are_not_compared(record: RunRecord, unknown: list[int]) -> None:
    labels = balanced(300)
    found = with_answers(record, [of_accuracy(labels, 0.9, 0), of_accuracy(labels, 0.88, 1)], labels)
    numbers = {record.ranked[place].number for place in unknown}
    trials = tuple(replace(trial, parameters=None) if trial.number in numbers else trial for trial in found.trials)
    said = recommendation(replace(found, trials=type(found.trials)(trials)))
    assert "is recommended" in said and "None" not in said and "inf" not in said and "is ." not in said


@pytest.mark.parametrize("metric", ["accuracy", "calibration_error"])
def test_the_best_is_taken_where_all_that_may_be_as_good_may_be_guessing(record: RunRecord, metric: str) -> None:
    """Rows that do tell how far they are apart are enough: no more of them are asked for."""
    labels = balanced(300)
    found = with_answers(record, [of_accuracy(labels, 0.9, 0), of_accuracy(labels, 0.0, 1)], labels, metric)
    first, second = (str(trial.number) for trial in record.ranked[:2])
    measured = dict((found.finalists or {})["chance"])
    measured |= {"groups": {first: 1, second: 1}, "behind_best": {second: {"low": 0.01, "high": 0.02}}}
    measured["guessing"]["leads"][first] |= {"value": 0.4, "p": 0.0}
    measured["guessing"]["leads"][second] |= {"value": 0.01, "p": 0.3}
    found = replace(found, finalists={**(found.finalists or {}), "chance": measured})
    assert recommended(found) == record.ranked[0].number and rows_needed(found) is None
    assert "of the others that may be as good none is better than guessing" in recommendation(found)


def test_a_run_of_an_earlier_version_keeps_its_recommendation(record: RunRecord) -> None:
    labels = balanced(6)
    found = with_answers(record, [of_accuracy(labels, 1.0, 0), of_accuracy(labels, 0.5, 1)], labels)
    measured = dict((found.finalists or {})["chance"])
    del measured["guessing"]
    assert recommended(replace(found, finalists={**(found.finalists or {}), "chance": measured})) is not None


@pytest.mark.parametrize("metric", COMPARED)
@pytest.mark.parametrize("classes", [2, 5])
def test_guesses_that_know_the_shares_reach_the_level_and_no_more(metric: str, classes: int) -> None:
    generator = np.random.default_rng(0)
    labels = generator.choice(classes, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)), size=4000)
    shares = np.bincount(labels, minlength=classes) / len(labels)
    said = np.tile(shares.astype(np.float32), (4000, 1))
    if metric in ("macro_f1", "balanced_accuracy"):
        said = np.eye(classes, dtype=np.float32)[generator.choice(classes, p=shares, size=4000)]
    found = lead(metric, said, labels, maximize=metric not in LESS_IS_BETTER)
    assert found.value == pytest.approx(0, abs=0.03) and found.p > 0.01
    assert 0 < guessing_level(metric, labels) < 2


@limits(max_examples=30)
@given(
    metric=st.sampled_from(COMPARED),
    rows=st.integers(2, 60),
    classes=st.integers(2, 4),
    seed=st.integers(0, 99),
    right=st.floats(0, 1),
)
def test_a_lead_is_a_number_whatever_the_rows(metric: str, rows: int, classes: int, seed: int, right: float) -> None:
    labels = np.random.default_rng(seed).integers(classes, size=rows)
    found = lead(metric, of_accuracy(labels, right, seed, classes), labels, maximize=metric not in LESS_IS_BETTER)
    assert np.isfinite([found.value, found.error, found.p]).all() and 0 <= found.p <= 1 and found.error >= 0


def test_so_many_rows_do_tell_in_four_of_five_cases() -> None:
    """Simulated: two models, right on 0.8 and 0.7 of the rows, by McNemar's test."""
    rows, told, difference = 100, 0, 0.1
    error = np.sqrt((0.8 * 0.3 + 0.2 * 0.7 - difference**2) / rows)
    wanted = rows_to_tell(rows, float(error), difference, level=0.025)
    assert wanted is not None and wanted > rows
    generator = np.random.default_rng(0)
    for _ in range(200):
        right = [generator.random(wanted) < share for share in (0.8, 0.7)]
        said = [np.column_stack([each, ~each]).astype(np.float32) for each in right]
        told += differences("accuracy", said, np.zeros(wanted, dtype=np.int64))[0, 1].p < 0.05
    assert 0.7 < told / 200 < 0.92


@pytest.mark.parametrize(("error", "difference"), [(0.0, 0.1), (0.1, 0.0), (0.1, -1.0), (float("inf"), 0.1)])
def test_no_number_of_rows_where_there_is_none(error: float, difference: float) -> None:
    assert rows_to_tell(6, error, difference, level=0.05) is None


def test_the_sentences_of_a_tie(record: RunRecord) -> None:
    labels = balanced(12)
    wrong = np.where(np.arange(12) < 3, 1 - labels, labels)
    found = with_answers(record, [of_accuracy(labels, 1.0, 0), of_accuracy(wrong, 1.0, 0)], labels)
    first, second = record.ranked[:2]
    assert f"on 12 validation rows trial {second.number} may be as good as the best, trial {first.number}, or far" in (
        recommendation(found)
    )
    needed = rows_needed(found)
    assert needed is not None and needed > 12 and f"about {needed:,} would tell" in recommendation(found)
