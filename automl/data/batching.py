"""Batches of rows of like length, gathered from the flat tokens without a loop over rows.

NumPy gathers: at such sizes a call of PyTorch costs more than what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from automl.data.class_sampling import Resampling, count_classes
from automl.data.dense import DenseRows
from automl.data.encode import Rows
from automl.data.streaming import Streaming, reading_ahead

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
    rows: Rows | DenseRows,
    batch_size: int,
    *,
    shuffle: np.random.Generator | None,
    start: int = 0,
    streaming: Streaming | None = None,
    class_sampling: float = 0.0,
    by_length: bool = True,
    for_gpu: bool = False,
) -> Iterator[Batch]:
    """Every row once, in batches of `batch_size` (one may be smaller).

    Rows are in random order, but those of a batch have about the same length, unless `by_length` is false; `shuffle`
    decides all of it. Without it they are sorted by length. The batches that would come before `start` rows have been
    drawn are left out.

    With `streaming` rows are shuffled within windows, and read a window ahead. With `class_sampling` as many are drawn,
    but of each class what `class_draws` says, so that some rows come several times and some not at all. Both need
    `shuffle`. With `for_gpu` batches of texts and series are padded to one of few lengths, and lie in memory from which
    a GPU takes them without being waited for.
    """
    if shuffle is None:
        order = rows.lengths_of(np.arange(len(rows))).argsort(kind="stable")
        yield from _gathered(rows, order, batch_size, range(-(-len(rows) // batch_size)), 0, for_gpu)
        return
    windows = [] if streaming is None else streaming.windows(len(rows), shuffle)
    drawn = 0
    with reading_ahead(rows, streaming, windows) as ready:
        for number, order in enumerate(_windows(rows, batch_size, shuffle, streaming, windows, class_sampling)):
            sequence = shuffle.permutation(-(-len(order) // batch_size)).tolist()
            if drawn + len(order) > start:
                ready(number)
                if by_length:
                    order = order[_by_length(rows.lengths_of(order), batch_size * BUCKET_BATCHES)]
                yield from _gathered(rows, order, batch_size, sequence, start - drawn, for_gpu)
            drawn += len(order)


def _windows(
    rows: Rows | DenseRows,
    batch_size: int,
    shuffle: np.random.Generator,
    streaming: Streaming | None,
    windows: Sequence[Numbers],
    class_sampling: float,
) -> Iterator[Numbers]:
    """Row numbers in random order, window by window; all but the last window have whole batches."""
    resampling = Resampling(count_classes(rows.labels), class_sampling, shuffle) if class_sampling else None
    left = np.empty(0, dtype=np.int64)
    for number in range(max(1, len(windows))):
        if streaming is None:
            order = shuffle.permutation(len(rows))
        else:
            order = shuffle.permutation(streaming.rows_in(windows[number], len(rows)))
        if resampling is not None:
            # Again in random order, so that a batch does not have the same row many times.
            order = shuffle.permutation(np.repeat(order, resampling.times(rows.labels[order])))
        order = np.concatenate([left, order]) if len(left) else order
        whole = len(order) // batch_size * batch_size if number + 1 < len(windows) else len(order)
        order, left = order[:whole], order[whole:]
        yield order


def _gathered(
    rows: Rows | DenseRows, order: Numbers, batch_size: int, sequence: Iterable[int], start: int, for_gpu: bool
) -> Iterator[Batch]:
    """The batches into which `order` falls, in `sequence`, from the one with which `start` rows are passed."""
    starts = np.arange(0, len(order), batch_size)
    # What is small is put in order for all batches together, so that each is a slice of it.
    lengths, labels = rows.lengths_of(order), rows.labels[order].astype(np.int64, copy=False)
    longest = np.maximum.reduceat(lengths, starts) if len(order) else lengths
    if for_gpu and not (isinstance(rows, DenseRows) and rows.values.ndim == 4):
        longest = _one_of_few(longest)
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
            held = map(torch.from_numpy, (values, length, labels[chosen], index))
            yield Batch(*(each.pin_memory() if for_gpu else each for each in held))


def _token_gather(rows: Rows, longest: int) -> Callable[[Numbers, Numbers, int], npt.NDArray[np.int64]]:
    """From where rows begin among all tokens, and their lengths, to tokens padded to the longest."""
    tokens, positions = rows.tokens, np.arange(longest)

    def gather(begins: Numbers, lengths: Numbers, longest: int) -> npt.NDArray[np.int64]:
        here = positions[:longest]
        taken = tokens.take(begins[:, None] + here, mode="clip")  # the last row's padding would lie behind the end
        return np.multiply(taken, here < lengths[:, None], dtype=np.int64)

    return gather


def _one_of_few(widths: Numbers) -> Numbers:
    """Each rounded up by less than a quarter, and to at least a multiple of 8."""
    step = 2 ** np.maximum(np.log2(np.maximum(widths, 1)).astype(np.int64) - 2, 3)
    rounded: Numbers = -(-widths // step) * step
    return rounded


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
