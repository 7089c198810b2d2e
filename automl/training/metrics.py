"""What a trial is measured by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DIGITS = 6


def compute_metrics(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[str, float]:
    """Measure `probabilities` float32 [rows, classes] against `labels` int64 [rows], which has at least one row.

    accuracy; balanced_accuracy (mean recall of the classes); macro_f1 (unweighted mean of the classes' F1);
    loss (mean negative log-likelihood in nats). Probabilities that are not finite make every figure NaN.
    """
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "loss"), float("nan"))
    classes = probabilities.shape[1]
    chosen = probabilities.argmax(axis=1)
    counts = np.bincount(labels * classes + chosen, minlength=classes * classes).reshape(classes, classes)
    right, actual, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    there = actual + predicted > 0  # a class that is neither in the labels nor predicted has no recall and no F1
    likelihood = probabilities[np.arange(len(labels)), labels].astype(np.float64).clip(min=1e-12)
    figures = {
        "accuracy": right.sum() / len(labels),
        "balanced_accuracy": (right[there] / actual[there].clip(min=1)).mean(),
        "macro_f1": (2 * right[there] / (actual + predicted)[there]).mean(),
        "loss": -np.log(likelihood).mean(),
    }
    return {name: round(float(value), DIGITS) for name, value in figures.items()}
