"""The figures of `compute_metrics` beside scikit-learn's, also where some classes have no row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from automl.results.resampling import measured
from automl.space.objectives import METRICS
from automl.training.metrics import compute_metrics


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_figures_are_those_of_scikit_learn(classes: int, rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    present = generator.choice(classes, size=int(generator.integers(1, classes + 1)), replace=False)
    labels = generator.choice(present, size=rows).astype(np.int64)
    said = generator.dirichlet(np.full(classes, 0.5), size=rows).astype(np.float32)
    chosen = said.argmax(axis=1)
    found = compute_metrics(said, labels)
    wanted = {
        "accuracy": metrics.accuracy_score(labels, chosen),
        "balanced_accuracy": np.mean([(chosen[labels == each] == each).mean() for each in np.unique(labels)]),
        "macro_f1": metrics.f1_score(labels, chosen, average="macro", zero_division=0),
        "micro_f1": metrics.f1_score(labels, chosen, average="micro"),
        "loss": -np.log(np.maximum(said[np.arange(rows), labels].astype(np.float64), 1e-12)).mean(),
    }
    if len(np.unique(labels)) > 1:
        areas = [metrics.roc_auc_score(labels == each, said[:, each]) for each in np.unique(labels)]
        wanted["auroc"] = np.mean(areas)
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=2e-6)
    assert found.keys() == wanted.keys() | {"calibration_error"}
    for name in found:
        assert measured(name, said, labels) == pytest.approx(found[name], abs=2e-6), name
    assert found.keys() <= set(METRICS)


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_a_class_that_no_row_has_does_not_count() -> None:
    """scikit-learn's balanced_accuracy_score; with the classes that are only predicted it would be 0.18."""
    labels = np.array([0] * 12 + [1] * 12)
    said = np.full((24, 10), 0.01, dtype=np.float32)
    said[np.arange(24), labels] = 0.9
    said[0, :] = np.eye(10)[7]
    said[12, :] = np.eye(10)[8]
    figures = compute_metrics(said, labels)
    assert figures["balanced_accuracy"] == pytest.approx(11 / 12, abs=1e-6)
    assert figures["balanced_accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(labels, said.argmax(axis=1)), abs=1e-6
    )
