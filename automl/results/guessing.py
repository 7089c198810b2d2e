"""Whether a model is better than guessing by more than chance, and how many rows it takes to tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from automl.results.intervals import OF_ROWS
from automl.results.resampling import BY_CLASS, Labels, Said, measured, measured_by_class

PERMUTATIONS = 100
POWER = 0.8  # how often so many rows show a difference that is there (Cohen 1988)
SMALL_LEAD = 0.05  # that is worth finding where there is none yet


@dataclass(frozen=True)
class Lead:
    """How far a model is ahead of guessing: `value`, at least 0 where it is ahead, in units of the metric.

    `error` is the standard deviation that it has where the model guesses, `p` how probable a lead as large is then.
    """

    value: float
    error: float
    p: float


def metric_to_compare(metric: str) -> str:
    """The metric that says whether a model guesses: of a calibration error, which guessing may have low, accuracy."""
    return "accuracy" if metric == "calibration_error" else metric


def guessing_level(metric: str, labels: Labels) -> float:
    """What the best model reaches that does not look at its inputs, on labels int64 [rows]; not of calibration error.

    Of shares of rows that of the commonest class, of the loss (nats) the entropy of the classes' shares. One divided
    by the number of classes for balanced accuracy and macro F1: guessing each class as often as it occurs gives that,
    and no other way of guessing more (2pq / (p + q), the F1 of a class of share p that is guessed with share q, is
    concave in q, and its slope is the same for all classes where q = p). 0.5 for the area under the ROC curve.
    """
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    if metric in OF_ROWS:
        return float(shares.max())
    if metric == "loss":
        return float(-(shares * np.log(shares)).sum())
    return 0.5 if metric == "auroc" else 1 / len(shares)


def lead(metric: str, said: Said, labels: Labels, *, maximize: bool) -> Lead:
    """How far a model of probabilities float32 [rows, classes] is ahead of guessing on labels int64 [rows].

    Of a share of rows p is that of the binomial test against the share of the commonest class. Of other metrics it is
    that of a permutation test (Ojala and Garriga 2010: labels dealt out anew have nothing to do with the inputs), by
    the normal distribution with the mean and deviation of 100 permutations. Where all rows are of one class nothing is
    ahead of guessing.
    """
    level, rows = guessing_level(metric, labels), len(labels)
    if len(np.unique(labels)) < 2:
        return Lead(0.0, 0.0, 1.0)
    found = measured(metric, said, labels)
    value = found - level if maximize else level - found
    if metric in OF_ROWS:
        from scipy.stats import binom  # which takes a good part of a second to load

        p = float(binom.sf(round(found * rows) - 1, rows, level))
        return Lead(value, math.sqrt(level * (1 - level) / rows), p)
    mean, error = _of_labels_dealt_anew(metric, said, labels)
    further = found - mean if maximize else mean - found
    p = 0.5 * math.erfc(further / error / math.sqrt(2)) if error > 0 else 1.0
    return Lead(value, error, p if value > 0 else 1.0)


def _of_labels_dealt_anew(metric: str, said: Said, labels: Labels) -> tuple[float, float]:
    """Mean and standard deviation of a metric where the labels have nothing to do with the inputs."""
    rows = len(labels)
    if metric == "auroc":  # the rank-sum test's, mean of the classes
        counts = np.unique(labels, return_counts=True)[1]
        return 0.5, float(np.sqrt((rows + 1) / (12 * counts * (rows - counts))).mean())
    generator = np.random.default_rng(0)
    dealt = (generator.permutation(labels) for _ in range(PERMUTATIONS))
    drawn: npt.NDArray[np.float64]
    if metric in BY_CLASS:
        chosen, classes = said.argmax(axis=1), said.shape[1]
        drawn = np.array([measured_by_class(metric, chosen, each, classes) for each in dealt])
    else:
        drawn = np.array([measured(metric, said, each) for each in dealt])
    return float(drawn.mean()), float(drawn.std(ddof=1))


def rows_to_tell(rows: int, error: float, difference: float, *, level: float) -> int | None:
    """How many rows show a `difference` in four of five cases, where so many `rows` leave it an `error`; at least one
    more than there are. None where none would.

    The sample size of a test by the normal distribution (Cohen 1988, ch. 2; of two models on the same rows that of
    Connor 1987 for McNemar's test): errors shrink with the square root of the rows. `level` is the probability of a
    false alarm, of both sides where it is halved. Rounded up to two digits: it is as rough as the error.
    """
    if not (error > 0 and difference > 0):
        return None
    from scipy.stats import norm

    wanted: float = rows * ((norm.isf(level) + norm.ppf(POWER)) * error / difference) ** 2
    if not math.isfinite(wanted):
        return None
    unit = 10 ** max(0, math.floor(math.log10(max(wanted, 1))) - 1)
    rounded: int = math.ceil(wanted / unit) * unit
    return max(rows + 1, rounded)


def leads(metric: str, said: Sequence[Said], labels: Labels, *, maximize: bool) -> tuple[float, list[Lead]]:
    """What guessing reaches on labels int64 [rows], and how far each model, probabilities float32 [rows, classes], is
    ahead of it."""
    compared = metric_to_compare(metric)
    maximize = maximize or compared != metric
    found = [lead(compared, each, labels, maximize=maximize) for each in said]
    return guessing_level(compared, labels), found
