"""Intervals that hold the truth as often as they say, and groups that call no difference real that is none."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.results.chance import LEVEL, Difference, differences, groups, holm, with_seeds
from automl.results.intervals import metric_interval, wilson_interval
from automl.results.resampling import measured, resampled
from automl.training.metrics import compute_metrics

Said = npt.NDArray[np.float32]


def draw(
    generator: np.random.Generator, rows: int, strengths: list[float], classes: int = 3
) -> tuple[list[Said], npt.NDArray[np.int64]]:
    """Uneven classes, and models of these strengths whose errors are alike, as those of networks are."""
    labels = generator.choice(classes, size=rows, p=[0.5, 0.3, 0.2] if classes == 3 else [0.7, 0.3])
    shared = generator.normal(size=(rows, classes))
    said = []
    for strength in strengths:
        logits = 0.8 * shared + 0.6 * generator.normal(size=(rows, classes))
        logits[np.arange(rows), labels] += strength
        odds = np.exp(1.2 * logits)
        said.append((odds / odds.sum(axis=1, keepdims=True)).astype(np.float32))
    return said, labels


@pytest.mark.parametrize("rows", [100, 500, 4000])
@pytest.mark.parametrize("share", [0.55, 0.76, 0.9])
def test_wilson_intervals_hold_the_truth_in_93_to_97_of_100_cases(share: float, rows: int) -> None:
    hits = np.random.default_rng(0).binomial(rows, share, size=20_000)
    bounds = {count: wilson_interval(count / rows, rows) for count in np.unique(hits)}
    covered = np.mean([bounds[count][0] <= share <= bounds[count][1] for count in hits])
    assert 0.93 <= covered <= 0.97
    assert wilson_interval(0.0, rows)[0] == pytest.approx(0) and wilson_interval(1.0, rows)[1] == pytest.approx(1)


@pytest.mark.parametrize("metric", ["macro_f1", pytest.param("loss", marks=pytest.mark.slow)])
def test_resampled_intervals_hold_the_truth_in_93_to_97_of_100_cases(metric: str) -> None:
    generator = np.random.default_rng(3)
    (said,), labels = draw(generator, 400_000, [1.5])
    truth, covered = compute_metrics(said, labels)[metric], []
    for _ in range(300):
        (said,), labels = draw(generator, 300, [1.5])
        low, high = metric_interval(metric, said, labels) or (0.0, 0.0)
        covered.append(low <= truth <= high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_intervals_of_differences_hold_the_truth_and_groups_raise_few_false_alarms() -> None:
    """Three models that are equally good: the interval of each pair, and whether any pair is called different."""
    generator = np.random.default_rng(4)
    covered, alarms = [], []
    for _ in range(2000):
        said, labels = draw(generator, 300, [1.5, 1.5, 1.5])
        found = differences("accuracy", said, labels)
        covered += [pair.low <= 0 <= pair.high for pair in found.values()]
        corrected = holm({pair: difference.p for pair, difference in found.items()})
        order = sorted(range(3), key=lambda model: -(said[model].argmax(axis=1) == labels).sum())
        places = {pair: corrected[min(pair), max(pair)] for pair in combinations(range(3), 2)}
        ranked = {
            (one, other): places[tuple(sorted((order[one], order[other])))]  # type: ignore[index]
            for one, other in combinations(range(3), 2)
        }
        alarms.append(max(groups(3, ranked)) > 1)
    assert 0.93 <= np.mean(covered) <= 0.97
    assert np.mean(alarms) <= LEVEL


def test_groups_of_another_metric_raise_few_false_alarms() -> None:
    generator = np.random.default_rng(5)
    alarms = []
    for _ in range(500):
        found = differences("macro_f1", *draw(generator, 300, [1.5, 1.5, 1.5], classes=2))
        alarms.append(min(holm({pair: difference.p for pair, difference in found.items()}).values()) < LEVEL)
    assert np.mean(alarms) <= LEVEL


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "loss", "auroc"])
def test_a_difference_that_is_there_is_found(metric: str) -> None:
    said, labels = draw(np.random.default_rng(6), 2000, [1.8, 1.8, 0.9])
    found = differences(metric, said, labels)
    sign = -1 if metric == "loss" else 1
    figures = [compute_metrics(each, labels)[metric] for each in said]
    assert found[0, 2].p < 0.001 and sign * found[0, 2].low > 0 and sign * found[0, 2].high > 0
    assert found[0, 2].value == pytest.approx(figures[0] - figures[2], abs=1e-6)
    assert groups(3, holm({pair: difference.p for pair, difference in found.items()}))[2] == 2


@pytest.mark.parametrize(
    "metric", ["accuracy", "micro_f1", "balanced_accuracy", "macro_f1", "loss", "auroc", "calibration_error"]
)
def test_resampled_metrics_are_the_metric_that_is_reported(metric: str) -> None:
    said, labels = draw(np.random.default_rng(7), 3000, [1.5, 0.8])
    labels = np.where(labels == 2, 0, labels)  # a class that no row has but some models see
    found = resampled(metric, said, labels)
    for model, draws in zip(said, found, strict=True):
        reported = compute_metrics(model, labels)[metric]
        assert measured(metric, model, labels) == pytest.approx(reported, abs=2e-6)
        assert abs(draws.mean() - reported) < draws.std() / 2
    assert (found == resampled(metric, said, labels)).all()


def test_a_model_does_not_differ_from_itself() -> None:
    (said,), labels = draw(np.random.default_rng(8), 200, [1.0])
    for metric in ("accuracy", "macro_f1", "loss"):
        assert differences(metric, [said, said], labels)[0, 1].p == 1.0


def test_rows_alone_do_not_tell_where_other_seeds_say_something_else() -> None:
    on_rows = Difference(0.02, 0.01, 0.03, 0.001)
    assert with_seeds(on_rows, [0.9], [0.8]).p == 0.001  # one seed says nothing of their spread
    assert with_seeds(on_rows, [0.90, 0.91, 0.90], [0.80, 0.81, 0.80]).p < 0.01
    assert with_seeds(on_rows, [0.90, 0.80, 0.85], [0.86, 0.82, 0.84]).p > LEVEL  # the spread is larger
    assert with_seeds(on_rows, [0.80, 0.81, 0.80], [0.90, 0.91, 0.90]).p == 1.0  # the other way round
    assert with_seeds(on_rows, [0.9, 0.9], [0.8, 0.8]).p == 0.001


def test_correction_is_holms() -> None:
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


@given(st.integers(1, 6), st.data())
def test_groups_share_no_difference_from_their_best(models: int, data: st.DataObject) -> None:
    pairs = list(combinations(range(models), 2))
    corrected = {pair: data.draw(st.sampled_from([0.001, 0.5])) for pair in pairs}
    found = groups(models, corrected)
    firsts = {group: found.index(group) for group in set(found)}
    assert found[0] == 1 and sorted(firsts) == list(range(1, max(found) + 1))
    assert [firsts[group] for group in sorted(firsts)] == sorted(firsts.values())
    for model, group in enumerate(found):
        assert model == firsts[group] or corrected[firsts[group], model] >= LEVEL
        assert all(corrected[firsts[earlier], model] < LEVEL for earlier in range(1, group))
