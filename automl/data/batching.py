"""Batches of rows of like length, gathered from the flat tokens without a loop over rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
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
    labels = _tensor(rows.labels)
    if isinstance(rows, DenseRows):
        all_lengths = rows.lengths
        values = _tensor(rows.values)
    else:
        tokens, offsets = _tensor(rows.tokens), _tensor(rows.offsets)
        all_lengths = np.diff(rows.offsets)
    lengths = _tensor(all_lengths)
    order = torch.from_numpy(_order(all_lengths, batch_size, shuffle))
    starts = range(0, len(order), batch_size)
    drawn = 0
    for batch in starts if shuffle is None else shuffle.permutation(len(starts)) * batch_size:
        index = order[batch : batch + batch_size]
        drawn += len(index)
        if drawn <= start:
            continue
        length = lengths[index]
        if isinstance(rows, DenseRows):
            yield Batch(values[index, : int(length.max())], length, labels[index], index)
            continue
        positions = torch.arange(int(length.max()))
        inside = positions < length[:, None]
        places = (offsets[index][:, None] + positions).clamp_(max=len(tokens) - 1)
        yield Batch(tokens[places].long() * inside, length, labels[index], index)


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
