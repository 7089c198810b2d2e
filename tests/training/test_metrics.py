"""Our metrics, which need no second of loading, are torchmetrics' on any probabilities, ties and missing classes."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_auroc,
    multiclass_calibration_error,
    multiclass_f1_score,
)

from automl.training.metrics import BINS, compute_metrics


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 200), st.integers(1, 6), st.sampled_from([1, 3, 6]))
def test_they_are_those_of_torchmetrics(seed: int, classes: int, rows: int, kinds: int, digits: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(classes, 0.5), rows).round(digits).astype(np.float32)
    labels = generator.integers(min(kinds, classes), size=rows)
    found = compute_metrics(probabilities, labels)
    said, truth = torch.from_numpy(probabilities), torch.from_numpy(labels)
    chosen = torch.from_numpy(probabilities.argmax(axis=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes that no row has
        areas = multiclass_auroc(said, truth, classes, average="none")[np.unique(labels)]
    expected = {
        "accuracy": multiclass_accuracy(chosen, truth, classes, average="micro"),
        "balanced_accuracy": multiclass_accuracy(chosen, truth, classes, average="macro"),
        "macro_f1": multiclass_f1_score(chosen, truth, classes, average="macro"),
        "micro_f1": multiclass_f1_score(chosen, truth, classes, average="micro"),
        "auroc": areas.mean(),
    }
    if digits == 6:  # float32 puts a round probability on either side of a bin's edge
        expected["calibration_error"] = multiclass_calibration_error(said, truth, classes, n_bins=BINS)
    assert ("auroc" in found) == (len(areas) > 1)
    for name, value in expected.items():
        if name in found:
            assert found[name] == pytest.approx(value.item(), abs=3e-6), name


def test_a_worker_loads_no_library_for_them() -> None:
    code = "import sys, automl.search.trainable; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert not {"torchmetrics", "matplotlib", "scipy.stats", "sklearn"} & set(loaded)
