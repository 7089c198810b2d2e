"""What a trial is measured by."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from automl.space.objectives import METRICS

DIGITS = 6  # probabilities are float32, whose further digits are noise
LEAST_LIKELIHOOD = 1e-12  # in the log loss
BINS = 15  # of the calibration error, as in Guo et al. 2017

Counts = npt.NDArray[np.int64] | npt.NDArray[np.float64]


def compute_metrics(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[str, float]:
    """Measure `probabilities` float32 [rows, classes] against `labels` int64 [rows], which has at least one row.

    accuracy; balanced_accuracy (mean recall of the classes); macro_f1 (unweighted mean of the classes' F1); micro_f1
    (of all rows together: where each row has one class it is the accuracy); auroc (each class against the rest, mean of
    the classes that rows have; not there where all rows are of one class); loss (log loss: mean negative log-likelihood
    in nats); calibration_error (expected calibration error: the mean distance of the highest probability from the share
    of rows that it was right for, in 15 bins; Naeini et al. 2015). Probabilities that are not finite make all NaN.
    """
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(METRICS, float("nan"))
    chosen, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    right = chosen == labels
    counts = tuple(np.bincount(each, minlength=classes) for each in (labels[right], labels, chosen))
    likelihood = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    figures = {
        "accuracy": right.mean(),
        "balanced_accuracy": class_mean("balanced_accuracy", *counts),
        "macro_f1": class_mean("macro_f1", *counts),
        "micro_f1": right.mean(),
        **_auroc(probabilities, labels),
        "loss": -np.log(np.maximum(likelihood, LEAST_LIKELIHOOD)).mean(),
        "calibration_error": _calibration_error(probabilities.max(axis=1), right),
    }
    return {name: round(float(value), DIGITS) for name, value in figures.items()}


def class_mean(metric: str, hits: Counts, true: Counts, predicted: Counts) -> Any:
    """Recall (`balanced_accuracy`) or F1 (`macro_f1`), mean of the classes: counts of rows are [..., classes].

    `hits` are rows of a class that were taken for it, `true` those of it, `predicted` those taken for it. A class that
    no row is of and that none was taken for counts nothing, as torchmetrics has it.
    """
    there = true + predicted > 0
    whole = true if metric == "balanced_accuracy" else (true + predicted) / 2
    shares = np.divide(hits, whole, out=np.zeros(np.shape(hits)), where=whole > 0)
    return shares.sum(axis=-1) / there.sum(axis=-1)


def _auroc(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[str, float]:
    """The mean over the classes that rows have: the share of pairs of rows in the right order (Mann and Whitney)."""
    there, of_it = np.unique(labels, return_counts=True)
    if len(there) < 2:
        return {}
    areas = []
    for kind, count in zip(there, of_it, strict=True):
        pairs = _mid_ranks(probabilities[:, kind])[labels == kind].sum() - count * (count + 1) / 2
        areas.append(pairs / (count * (len(labels) - count)))
    return {"auroc": float(np.mean(areas))}


def _mid_ranks(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Ranks from 1, of equal values their mean."""
    _, kinds, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: npt.NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[kinds]
    return ranks


def _calibration_error(confidence: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]) -> float:
    bins = np.minimum((confidence.astype(np.float64) * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=confidence.astype(np.float64) - right)
    return float(np.abs(gaps).sum() / len(right))
