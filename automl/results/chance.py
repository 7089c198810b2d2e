"""Which differences between models are larger than chance, on the same rows and over seeds of the training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np

from automl.results.intervals import OF_ROWS, Z95
from automl.results.resampling import Labels, Said, measured, resampled

LEVEL = 0.05  # how often differences may be called real, somewhere on a leaderboard, where there are none
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Difference:
    """How much more one model has of a metric than another on the same rows; `low` to `high` is its 95 % interval.

    `p` is the probability of a difference as large as this where both are equally good.
    """

    value: float
    low: float
    high: float
    p: float


def differences(metric: str, said: Sequence[Said], labels: Labels) -> dict[tuple[int, int], Difference]:
    """Each pair of models compared, by their places in `said`, probabilities float32 [rows, classes] of the same rows.

    Of accuracy p is McNemar's, mid-p, and the interval that of Bonett and Price 2012; of other metrics both are from
    the paired bootstrap's standard error.
    """
    pairs = list(combinations(range(len(said)), 2))
    if metric in OF_ROWS:
        right = [each.argmax(axis=1) == labels for each in said]
        return {
            (one, other): _of_shares(
                int(np.sum(right[one] & ~right[other])), int(np.sum(right[other] & ~right[one])), len(labels)
            )
            for one, other in pairs
        }
    figures = [measured(metric, each, labels) for each in said]
    draws = resampled(metric, said, labels)
    return {
        (one, other): _of_draws(figures[one] - figures[other], float(np.std(draws[one] - draws[other])))
        for one, other in pairs
    }


def _of_shares(one_only: int, other_only: int, rows: int) -> Difference:
    """`one_only` rows are right of the first model alone, `other_only` of the second alone."""
    from scipy.stats import binom  # which takes a good part of a second to load

    only = one_only + other_only
    fewer = min(one_only, other_only)
    # Fagerland, Lydersen and Laake 2013: the exact test is too strict, mid-p is not
    p = 1.0 if not only else min(1.0, float(2 * binom.cdf(fewer, only, 0.5) - binom.pmf(fewer, only, 0.5)))
    first, second = (one_only + 1) / (rows + 2), (other_only + 1) / (rows + 2)
    spread = Z95 * math.sqrt((first + second - (first - second) ** 2) / (rows + 2))
    return Difference((one_only - other_only) / rows, first - second - spread, first - second + spread, p)


def _of_draws(value: float, error: float) -> Difference:
    p = math.erfc(abs(value) / error / math.sqrt(2)) if error > 0 else float(value == 0)  # of a normal distribution
    return Difference(value, value - Z95 * error, value + Z95 * error, p)


def with_seeds(found: Difference, one: Sequence[float], other: Sequence[float]) -> Difference:
    """The same where both models were trained again under other seeds, with these scores, at least two of each.

    A difference is real where it is so on the rows and over the seeds (Welch's t-test), in the same direction: what
    rows alone show may be the luck of one training.
    """
    if min(len(one), len(other)) < 2:
        return found
    from scipy.stats import ttest_ind

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of scores that are all the same
        p = float(ttest_ind(one, other, equal_var=False).pvalue)
    gap = float(np.mean(one) - np.mean(other))
    if not math.isfinite(p):
        p = float(gap == 0)
    agree = gap * found.value > 0
    return Difference(found.value, found.low, found.high, max(found.p, p) if agree else 1.0)


def holm(probabilities: Mapping[Name, float]) -> dict[Name, float]:
    """Each p corrected for there being several (Holm 1979): the least is that any is so small by chance."""
    adjusted, highest = {}, 0.0
    for place, (name, p) in enumerate(sorted(probabilities.items(), key=lambda each: each[1])):
        highest = max(highest, min(1.0, p * (len(probabilities) - place)))
        adjusted[name] = highest
    return adjusted


def groups(models: int, probabilities: Mapping[tuple[int, int], float]) -> list[int]:
    """The group of each model, from 1: the first are all that do not differ from the best, and so on with the rest.

    Models are numbered from 0, the best; `probabilities` has a corrected p for each pair of them.
    """
    found = [0] * models
    for best in range(models):
        if not found[best]:
            number = max(found) + 1
            for other in range(best, models):
                if not found[other] and (other == best or probabilities[best, other] >= LEVEL):
                    found[other] = number
    return found
