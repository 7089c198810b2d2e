"""Rows of rare classes drawn more often, those of common ones less: exact shares in each pass, by whole numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

COUNTED_ROWS = 1 << 20

Numbers = npt.NDArray[np.int64]


def count_classes(labels: npt.NDArray[np.integer], classes: int = 0) -> Numbers:
    """The rows int64 [at least `classes`] of each class; labels may lie in a mapped file that is larger than memory."""
    counts = np.zeros(classes, dtype=np.int64)
    for first in range(0, len(labels), COUNTED_ROWS):
        part: Numbers = np.bincount(labels[first : first + COUNTED_ROWS], minlength=len(counts))
        part[: len(counts)] += counts
        counts = part
    return counts


def class_draws(counts: Numbers, share: float) -> Numbers:
    """How many rows of each class a pass draws, as many together as there are.

    In proportion to counts to the power of 1 - `share`, by largest remainders: with 0 as many as there are, with 1 of
    all classes alike.
    """
    shares = np.where(counts > 0, counts.astype(np.float64), 0.0)
    shares[counts > 0] **= 1.0 - share
    exact = shares / max(shares.sum(), 1.0) * counts.sum()
    draws: Numbers = np.floor(exact).astype(np.int64)
    largest = np.argsort(draws - exact, kind="stable")[: counts.sum() - draws.sum()]
    draws[largest] += 1
    return draws


class Resampling:
    """One pass of it: tells how often to draw each row, as they come in random order, window by window.

    Row k of n of a class, of which d draws are wanted, is drawn floor(((k + 1) d + s) / n) - floor((k d + s) / n) times
    with a random s < n: d together, and each row d / n times on average (systematic sampling, Madow 1949).
    """

    def __init__(self, counts: Numbers, share: float, shuffle: np.random.Generator) -> None:
        self._counts, self._draws = counts, class_draws(counts, share)
        self._shift = shuffle.integers(np.maximum(counts, 1))
        self._seen = np.zeros_like(counts)

    def times(self, labels: npt.NDArray[np.integer]) -> Numbers:
        """How often to draw each of the next rows, by their labels: int64 [rows]."""
        number = self._seen[labels] + _rank_in_class(labels)
        self._seen += np.bincount(labels, minlength=len(self._seen))
        wanted, there, shift = self._draws[labels], self._counts[labels], self._shift[labels]
        times: Numbers = ((number + 1) * wanted + shift) // there - (number * wanted + shift) // there
        return times


def _rank_in_class(labels: npt.NDArray[np.integer]) -> Numbers:
    """How many rows of the same class come before each."""
    order = labels.argsort(kind="stable")
    grouped = labels[order]
    first = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]]) if len(labels) else np.empty(0, dtype=np.int64)
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(first, np.diff(np.r_[first, len(labels)]))
    return ranks
