"""Probabilities that mean what they say: temperature scaling (Guo et al. 2017, section 4.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from automl.results.cross_fit import folds
from automl.training.metrics import compute_metrics

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


def calibrate_out_of_fold(probabilities: Probabilities, labels: npt.NDArray[np.integer]) -> Probabilities:
    """Each row of `probabilities` [rows, classes] at the temperature that suits the other four fifths of the rows.

    So a row has no part in the temperature that it is measured at (5-fold, at random). A single row stays as it is.
    """
    found = probabilities.copy()
    for held, others in folds(len(labels), 0) if len(labels) > 1 else ():
        found[held] = calibrate(probabilities[held], fit_temperature(probabilities[others], labels[others]))
    return found


def calibrated_figures(
    probabilities: Probabilities, labels: npt.NDArray[np.integer], temperature: float
) -> tuple[dict[str, float], dict[str, float]]:
    """The metrics at a `temperature` that was fitted on these very rows, and loss and calibration error in sample.

    Loss and calibration error of the first are out of fold: in sample the temperature makes them too good.
    """
    figures = compute_metrics(calibrate(probabilities, temperature), labels)
    honest = compute_metrics(calibrate_out_of_fold(probabilities, labels), labels)
    fitted = ("loss", "calibration_error")
    return {**figures, **{name: honest[name] for name in fitted}}, {name: figures[name] for name in fitted}


def calibration_figures(found: Any) -> dict[str, dict[str, float]]:
    """Log loss and calibration error of each split that was measured."""
    return {
        split: {name: found[split][name] for name in ("loss", "calibration_error")}
        for split in ("validation", "test")
        if found.get(split)
    }
