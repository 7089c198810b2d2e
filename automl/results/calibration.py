"""Probabilities that mean what they say: temperature scaling (Guo et al. 2017, section 4.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

COLDEST, HOTTEST = 0.05, 20.0
LEAST = 1e-30  # a probability of 0 has no logarithm

Probabilities = npt.NDArray[np.float32]


def fit_temperature(probabilities: Probabilities, labels: npt.NDArray[np.integer]) -> float:
    """The temperature at which `probabilities` [rows, classes] have the least log loss on `labels` [rows].

    1, which changes nothing, where probabilities are not finite or no other temperature is better. It is sought between
    0.05 and 20: where all rows are right there is no least loss.
    """
    from scipy.optimize import minimize_scalar

    if not np.isfinite(probabilities).all():
        return 1.0
    logarithms = np.log(probabilities.astype(np.float64).clip(min=LEAST))
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = logarithms / np.exp(log_temperature)
        return float(np.mean(np.logaddexp.reduce(scaled, axis=1) - scaled[rows, labels]))

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(round(np.exp(found.x), 6)) if found.fun < loss(0.0) else 1.0


def calibrate(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Probabilities [rows, classes] at a temperature: those of logits divided by it.

    The logarithms of probabilities are logits but for a constant, so this also serves where several models were
    averaged. The order of a row's classes stays.
    """
    if temperature == 1.0 or not len(probabilities):
        return probabilities
    scaled = np.log(probabilities.astype(np.float64).clip(min=LEAST)) / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result: Probabilities = (scaled / scaled.sum(axis=1, keepdims=True)).astype(np.float32)
    return result


def calibration_figures(found: Any) -> dict[str, dict[str, float]]:
    """Log loss and calibration error of each split that was measured."""
    return {
        split: {name: found[split][name] for name in ("loss", "calibration_error")}
        for split in ("validation", "test")
        if found.get(split)
    }
