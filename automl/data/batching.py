"""Batches of rows of like length, gathered from the flat tokens without a loop over rows.

NumPy gathers: at such sizes a call of PyTorch costs more than what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from automl.data.dense import DenseRows
from automl.data.encode import Rows

BUCKET_BATCHES = 50  # batches whose rows are sorted by length together: little padding, still well mixed

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """tokens int64 [B, L] (0 is padding), lengths int64 [B], labels int64 [B], index int64 [B] (row numbers).

    Of images, `tokens` holds their pixels, uint8 [B, height, width, channels], and every length is the height. Of
    series it holds their numbers, float32 [B, L, channels], NaN at padding.
    """

    tokens: Tensor
    lengths: Tensor
    labels: Tensor
    index: Tensor


def batches(
    rows: Rows | DenseRows, batch_size: int, *, shuffle: np.random.Generator | None, start: int = 0
) -> Iterator[Batch]:
    """Every row once, in batches of `batch_size` (one may be smaller).

    Rows are in random order, but those of a batch have about the same length; `shuffle` decides all of it. Without
    it they are sorted by length. The batches that would come before `start` rows have been drawn are left out.
    """
    count = len(rows)
    order = np.arange(count) if shuffle is None else shuffle.permutation(count)
    order = order[_by_length(rows.lengths_of(order), count if shuffle is None else batch_size * BUCKET_BATCHES)]
    numbers = -(-count // batch_size)
    sequence = range(numbers) if shuffle is None else shuffle.permutation(numbers).tolist()
    return _gathered(rows, order, batch_size, sequence, start)


def _gathered(
    rows: Rows | DenseRows, order: Numbers, batch_size: int, sequence: Iterable[int], start: int
) -> Iterator[Batch]:
    """The batches into which `order` falls, in `sequence`, from the one with which `start` rows are passed."""
    starts = np.arange(0, len(order), batch_size)
    # What is small is put in order for all batches together, so that each is a slice of it.
    lengths, labels = rows.lengths_of(order), rows.labels[order].astype(np.int64, copy=False)
    longest = np.maximum.reduceat(lengths, starts) if len(order) else lengths
    if isinstance(rows, DenseRows):
        begins, gather = order, _dense_gather(rows)
    else:
        begins, gather = rows.offsets[order], _token_gather(rows, int(longest.max(initial=0)))
    widths, drawn = longest.tolist(), 0
    for number in sequence:
        chosen = slice(number * batch_size, (number + 1) * batch_size)
        index, length = order[chosen], lengths[chosen]
        drawn += len(index)
        if drawn > start:
            values = gather(begins[chosen], length, widths[number])
            yield Batch(*map(torch.from_numpy, (values, length, labels[chosen], index)))


def _token_gather(rows: Rows, longest: int) -> Callable[[Numbers, Numbers, int], npt.NDArray[np.int64]]:
    """From where rows begin among all tokens, and their lengths, to tokens padded to the longest."""
    tokens, positions = rows.tokens, np.arange(longest)

    def gather(begins: Numbers, lengths: Numbers, longest: int) -> npt.NDArray[np.int64]:
        here = positions[:longest]
        taken = tokens.take(begins[:, None] + here, mode="clip")  # the last row's padding would lie behind the end
        return np.multiply(taken, here < lengths[:, None], dtype=np.int64)

    return gather


def _dense_gather(rows: DenseRows) -> Callable[[Numbers, Numbers, int], npt.NDArray[np.generic]]:
    """From numbers of rows to their values, cut to the longest."""
    return lambda index, lengths, longest: rows.values[index, :longest]


def _by_length(lengths: Numbers, bucket: int) -> Numbers:
    """The places of rows sorted by length, each `bucket` of them for itself; those of like length stay in order."""
    if len(lengths) and lengths.max() <= np.iinfo(np.uint16).max:
        lengths = lengths.astype(np.uint16)  # which NumPy sorts by radix, six times as fast
    whole = len(lengths) // bucket * bucket if bucket else 0
    sorted_whole = lengths[:whole].reshape(-1, max(bucket, 1)).argsort(axis=1, kind="stable")
    sorted_whole += np.arange(0, whole, max(bucket, 1))[:, None]
    return np.concatenate([sorted_whole.ravel(), whole + lengths[whole:].argsort(kind="stable")])
