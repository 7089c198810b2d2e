"""The mean and deviation of channels, of numbers of any size, taken part by part."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IGNORED = float(np.finfo(np.float32).max)
"""The deviation of a channel that is constant in train: divided by it, whatever the channel holds later is 0."""
ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""A deviation that is a smaller share of a channel's numbers is that of their rounding."""


class Moments:
    """Of `channels` channels, over all rows that were added (Chan, Golub and LeVeque 1983)."""

    def __init__(self, channels: int) -> None:
        self._count, self._mean, self._squares, self._largest = np.zeros((4, channels))

    def add(self, values: npt.NDArray[Any]) -> None:
        """Take in numbers [rows, channels]; those that are NaN count for nothing."""
        values = values.astype(np.float64)
        there = ~np.isnan(values)
        count = there.sum(axis=0)
        if not count.any():
            return
        mean = np.where(there, values, 0).sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(there, values - mean, 0) ** 2).sum(axis=0)
        total = np.maximum(self._count + count, 1)
        apart = mean - self._mean
        self._squares += squares + apart**2 * self._count * count / total
        self._mean += apart * count / total
        self._count += count
        self._largest = np.maximum(self._largest, np.where(there, np.abs(values), 0).max(axis=0))

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Float64 [channels]; 0 of a channel without numbers."""
        return self._mean.copy()

    @property
    def deviation(self) -> npt.NDArray[np.float64]:
        """Float64 [channels]; `IGNORED` of a channel that is constant but for rounding, from which nothing is learned.

        Taken as 1, or as a small number, the first time that such a channel moves it would drown all others.
        """
        deviation = np.sqrt(self._squares / np.maximum(self._count, 1))
        constant = deviation <= ROUNDING * self._largest
        return np.where(constant | (deviation < np.finfo(np.float32).tiny), IGNORED, deviation)
