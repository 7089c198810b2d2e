"""How the metrics of several models vary from sample to sample of rows: the bootstrap (Efron 1979)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from automl.space.objectives import BINS, LEAST_LIKELIHOOD

DRAWS = 1000
AT_ONCE = 10_000_000  # counts in memory
BY_CLASS = ("balanced_accuracy", "macro_f1")

Said = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Figures = npt.NDArray[np.float64]


def resampled(metric: str, said: Sequence[Said], labels: Labels) -> Figures:
    """`metric` of each model on 1000 samples of the rows, drawn with replacement, the same rows for all models.

    `said` has the probabilities float32 [rows, classes] of each model, `labels` is int64 [rows]; gives float64
    [models, 1000], the same at every call. Each metric is a function of sums over rows; the area under the ROC curve is
    linear in what each row adds to it (DeLong et al. 1988). Rows on which all models do alike are drawn together.
    """
    first, counts = _kinds(metric, said, labels)
    parts = [_summands(metric, each[first], labels[first]) for each in said]
    generator, rows = np.random.default_rng(0), len(labels)
    found = np.empty((len(said), DRAWS))
    step = max(1, AT_ONCE // len(counts))
    for start in range(0, DRAWS, step):
        drawn = generator.multinomial(rows, counts / rows, size=min(step, DRAWS - start)).astype(np.float64)
        for model, part in enumerate(parts):
            found[model, start : start + step] = _metric_of(metric, drawn @ part, rows)
    return found


def measured(metric: str, said: Said, labels: Labels) -> float:
    """`metric` on the rows themselves: as `compute_metrics` has it, but that one alone and not rounded."""
    if metric in BY_CLASS:
        return measured_by_class(metric, said.argmax(axis=1), labels, said.shape[1])
    return float(_metric_of(metric, _summands(metric, said, labels).sum(axis=0), len(labels)))


def measured_by_class(metric: str, chosen: Labels, labels: Labels, classes: int) -> float:
    """The same of a metric of `BY_CLASS`, of the predicted classes int64 [rows]."""
    counted = (labels[chosen == labels], labels, chosen)
    sums = np.concatenate([np.bincount(each, minlength=classes) for each in counted]).astype(np.float64)
    return float(_metric_of(metric, sums, len(labels)))


def _kinds(metric: str, said: Sequence[Said], labels: Labels) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A row of each kind and how many there are of it; for metrics that see predicted classes alone kinds are few."""
    if metric in ("loss", "auroc", "calibration_error"):
        return np.arange(len(labels)), np.ones(len(labels), dtype=np.int64)
    table = np.column_stack([labels, *(each.argmax(axis=1) for each in said)])
    _, first, counts = np.unique(table, axis=0, return_index=True, return_counts=True)
    return first, counts


def _summands(metric: str, said: Said, labels: Labels) -> Figures:
    """What each row adds to the sums that `metric` is made of: [rows, sums]."""
    chosen, classes = said.argmax(axis=1), said.shape[1]
    right = (chosen == labels).astype(np.float64)
    if metric == "loss":
        likelihood = said[np.arange(len(labels)), labels].astype(np.float64)
        losses: Figures = -np.log(np.maximum(likelihood, LEAST_LIKELIHOOD))
        return losses[:, None]
    if metric == "auroc":
        return _areas(said, labels)[:, None]
    if metric == "calibration_error":
        sure = said.max(axis=1).astype(np.float64)
        bins = np.eye(BINS)[np.minimum((sure * BINS).astype(int), BINS - 1)]
        gaps: Figures = bins * (sure - right)[:, None]
        return gaps
    if metric in BY_CLASS:
        true, predicted = np.eye(classes)[labels], np.eye(classes)[chosen]
        counts: Figures = np.hstack([true * predicted, true, predicted])
        return counts
    return np.expand_dims(right, 1)


def _metric_of(metric: str, sums: Figures, rows: int) -> Any:
    """The metric of sums float64 [..., sums] over so many rows."""
    if metric == "calibration_error":
        return np.abs(sums).sum(axis=-1) / rows
    if metric not in BY_CLASS:
        return sums[..., 0] / rows
    hits, true, predicted = np.split(sums, 3, axis=-1)
    whole = true if metric == "balanced_accuracy" else (true + predicted) / 2
    shares = np.divide(hits, whole, out=np.zeros_like(hits), where=whole > 0)
    return shares.sum(axis=-1) / (whole > 0).sum(axis=-1)  # classes of no row count nothing


def _areas(said: Said, labels: Labels) -> Figures:
    """The area under the ROC curve, mean of the classes, as a mean over rows [rows]: DeLong's placement values."""
    from scipy.stats import rankdata  # which takes a good part of a second to load

    there, rows = np.unique(labels), len(labels)
    if len(there) < 2:
        return np.full(rows, np.nan)
    total = np.zeros(rows)
    for kind in there:
        of_it, scores = labels == kind, said[:, kind]
        ranks, count = rankdata(scores), of_it.sum()
        placed = np.empty(rows)  # the share of the other side that a row is on the right side of
        placed[of_it] = (ranks[of_it] - rankdata(scores[of_it])) / (rows - count)
        placed[~of_it] = 1 - (ranks[~of_it] - rankdata(scores[~of_it])) / count
        area = placed[of_it].mean()
        total += area + (placed - area) * rows / np.where(of_it, count, rows - count)
    return total / len(there)
