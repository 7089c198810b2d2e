"""How sure a figure is."""

from __future__ import annotations

import math

import numpy as np

from automl.results.resampling import Labels, Said, resampled

Z95 = 1.959964
OF_ROWS = ("accuracy", "micro_f1")  # metrics that are a share of rows: those predicted right


def wilson_interval(share: float, rows: int) -> tuple[float, float]:
    """95 % interval of a share (accuracy) measured on `rows` independent rows (Wilson 1927)."""
    if rows == 0:
        return 0.0, 1.0
    centre = share + Z95**2 / (2 * rows)
    spread = Z95 * math.sqrt(share * (1 - share) / rows + Z95**2 / (4 * rows**2))
    scale = 1 + Z95**2 / rows
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def metric_interval(metric: str, said: Said, labels: Labels) -> tuple[float, float] | None:
    """95 % interval of `metric`, of probabilities float32 [rows, classes] against labels int64 [rows].

    Wilson's for a share of rows, else the bootstrap's percentiles; None where there is none, as of an area under the
    ROC curve of rows that are all of one class.
    """
    if metric in OF_ROWS:
        return wilson_interval(float(np.mean(said.argmax(axis=1) == labels)), len(labels))
    low, high = np.percentile(resampled(metric, [said], labels), [2.5, 97.5]).tolist()
    return (low, min(high, 1.0) if metric != "loss" else high) if math.isfinite(low + high) else None
