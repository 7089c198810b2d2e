"""Batches of rows of like length, gathered from the flat tokens without a loop over rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from automl.data.dense import DenseRows
from automl.data.encode import Rows

BUCKET_BATCHES = 50  # batches whose rows are sorted by length together: little padding, still well mixed


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
    row_lengths = rows.lengths if isinstance(rows, DenseRows) else np.diff(rows.offsets)
    order = _order(row_lengths, batch_size, shuffle)
    starts = np.arange(0, len(order), batch_size)
    lengths = row_lengths[order]
    longest = np.maximum.reduceat(lengths, starts) if len(order) else lengths
    if isinstance(rows, DenseRows):
        begins, gather = order, _dense_gather(rows)
    else:
        begins, gather = rows.offsets[order], _token_gather(rows)
    # What is small is put in order for all batches together, so that each is a slice of it.
    every = Batch(_tensor(begins), _tensor(lengths), _tensor(rows.labels[order]), _tensor(order))
    drawn = 0
    for number in range(len(starts)) if shuffle is None else shuffle.permutation(len(starts)):
        chosen = slice(number * batch_size, (number + 1) * batch_size)
        index = every.index[chosen]
        drawn += len(index)
        if drawn > start:
            length = every.lengths[chosen]
            values = gather(every.tokens[chosen], length, int(longest[number]))
            yield Batch(values, length, every.labels[chosen], index)


def _token_gather(rows: Rows) -> Callable[[Tensor, Tensor, int], Tensor]:
    """From where rows begin among all tokens, and their lengths, to tokens padded to the longest."""
    tokens, positions = _tensor(rows.tokens), torch.arange(int(np.diff(rows.offsets).max(initial=0)))

    def gather(begins: Tensor, lengths: Tensor, longest: int) -> Tensor:
        here = positions[:longest]
        places = (begins[:, None] + here).clamp_(max=len(tokens) - 1)
        padded = tokens.index_select(0, places.view(-1)).view(places.shape).long()
        return padded.mul_(here < lengths[:, None])

    return gather


def _dense_gather(rows: DenseRows) -> Callable[[Tensor, Tensor, int], Tensor]:
    """From numbers of rows to their values, cut to the longest."""
    values = _tensor(rows.values)
    return lambda index, lengths, longest: values[index, :longest]


def _order(
    lengths: npt.NDArray[np.int64], batch_size: int, shuffle: np.random.Generator | None
) -> npt.NDArray[np.int64]:
    if shuffle is None:
        return np.argsort(lengths, kind="stable")
    order = shuffle.permutation(len(lengths))
    bucket = np.arange(len(order)) // (batch_size * BUCKET_BATCHES)
    return order[np.lexsort((lengths[order], bucket))]


def _tensor(array: npt.NDArray[np.generic]) -> Tensor:
    """A tensor over the array's own memory; memory-mapped arrays are read-only, and nothing writes to them here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
