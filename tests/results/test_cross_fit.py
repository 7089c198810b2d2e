"""The choice of the best model, cross-fitted: right where the choice is all luck, and where there is no luck in it."""

from __future__ import annotations

import numpy as np
import pytest

from automl.results.cross_fit import chooser, cross_fitted, folds
from automl.results.predictions import average
from automl.results.resampling import measured

ROWS, MODELS = 200, 12
METRICS = [
    ("accuracy", True),
    ("balanced_accuracy", True),
    ("macro_f1", True),
    ("auroc", True),
    ("loss", False),
    ("calibration_error", False),
]


def flips(models: int, right: float, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """What models say that are right on each row with this probability, whatever the others say; and the labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(2, size=ROWS)
    sure = generator.uniform(0.6, 0.9, size=(models, ROWS)).astype(np.float32)
    of_truth = np.where(generator.random((models, ROWS)) < right, sure, 1 - sure)
    said = [np.where(labels[:, None] == np.arange(2), each[:, None], 1 - each[:, None]) for each in of_truth]
    return [each.astype(np.float32) for each in said], labels


def found_by(
    metric: str, maximize: bool, said: list[np.ndarray], labels: np.ndarray, *, top: int = 0, alone: bool = False
) -> float:
    networks = said[:-1] if alone else said
    choose = chooser(
        metric,
        ["cnn"] * len(networks),
        maximize=maximize,
        top=top,
        joining=[False] * len(networks),
        averaged_with_linear=False,
        linear_alone=alone,
    )
    return cross_fitted(metric, networks, said[-1] if alone else None, labels, choose)


def test_folds_hold_every_row_once() -> None:
    for rows in (2, 3, 5, 11):
        parts = list(folds(rows, 0))
        assert sorted(np.concatenate([held for held, _ in parts])) == list(range(rows))
        assert all(len(np.intersect1d(held, others)) == 0 for held, others in parts)
        assert all(len(held) + len(others) == rows and len(others) for held, others in parts)


def test_the_luck_of_the_best_of_many_is_taken_out() -> None:
    """Each of 12 models is right with 0.5: the best looks better by 0.05, cross-fitted none of that is left."""
    in_sample, honest = [], []
    for seed in range(1000, 1030):
        said, labels = flips(MODELS, 0.5, seed)
        in_sample.append(max(measured("accuracy", each, labels) for each in said))
        honest.append(found_by("accuracy", True, said, labels))
    assert np.mean(in_sample) > 0.55
    assert np.mean(honest) == pytest.approx(0.5, abs=0.02)


def test_the_members_of_an_average_are_cross_fitted_too() -> None:
    in_sample, honest = [], []
    for seed in range(1000, 1030):
        said, labels = flips(MODELS, 0.5, seed)
        best = sorted(said, key=lambda each: -measured("accuracy", each, labels))[:3]
        in_sample.append(measured("accuracy", average(best, None), labels))
        honest.append(found_by("accuracy", True, said, labels, top=3))
    assert np.mean(in_sample) > 0.55
    assert np.mean(honest) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("metric", "maximize"), METRICS)
def test_where_one_model_is_clearly_best_nothing_is_lost(metric: str, maximize: bool) -> None:
    """It is chosen on whichever rows, be it a network or the linear model."""
    said, labels = flips(4, 0.5, 3)
    good = np.where(labels[:, None] == np.arange(2), 0.98, 0.02).astype(np.float32)
    expected = measured(metric, good, labels)
    assert found_by(metric, maximize, [*said, good], labels) == pytest.approx(expected)
    assert found_by(metric, maximize, [*said, good], labels, alone=True) == pytest.approx(expected)


def test_a_family_joins_where_it_may_be_as_good() -> None:
    said, labels = flips(3, 0.7, 0)
    order = sorted(range(3), key=lambda place: -measured("accuracy", said[place], labels))
    families = ["cnn", "cnn", "cnn"]
    families[order[1]], families[order[2]] = "rnn", "tcn"
    joining = [True, True, True]
    joining[order[2]] = False
    choose = chooser(
        "accuracy",
        families,
        maximize=True,
        top=1,
        joining=joining,
        averaged_with_linear=True,
        linear_alone=False,
    )
    assert choose(said, labels) == (order[:2], True)
