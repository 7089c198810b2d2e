"""Train rows that do not fit into memory: read block by block, shuffled among the blocks of a window.

Rows that are drawn in random order from a mapped file cost a read of the disk each once the file is larger than what
the system keeps in memory. So the blocks of the file are shuffled, some of them make a window, and the rows of a window
are shuffled; the next window is read while this one is drawn from.
"""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from automl.data.dense import DenseRows
from automl.data.encode import Rows
from automl.data.machine import memory_limit

MEMORY_SHARE = 0.5  # a train set that is larger than this share of memory is streamed
BLOCK_BYTES = 1 << 20  # large enough for a disk to read in one go, small enough that a window has many of them
WINDOW_BLOCKS = 256

Blocks = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Streaming:
    """A block is `block_rows` rows that follow each other, a window `window_blocks` blocks."""

    block_rows: int
    window_blocks: int

    def windows(self, rows: int, shuffle: np.random.Generator) -> list[Blocks]:
        """All blocks of so many rows in random order, window by window, all of about the same size."""
        blocks = shuffle.permutation(-(-rows // self.block_rows))
        return np.array_split(blocks, max(1, -(-len(blocks) // self.window_blocks)))

    def rows_in(self, blocks: Blocks, rows: int) -> npt.NDArray[np.int64]:
        """The row numbers of these blocks of so many rows."""
        found = (blocks[:, None] * self.block_rows + np.arange(self.block_rows)).ravel()
        return found[found < rows]


def choose_streaming(rows: Rows | DenseRows, memory: int | None = None) -> Streaming | None:
    """How train rows are streamed; None where they fit into `memory` bytes, by default of this machine or container."""
    size = rows.nbytes
    if size <= MEMORY_SHARE * (memory_limit() if memory is None else memory):
        return None
    return Streaming(max(1, BLOCK_BYTES * len(rows) // size), WINDOW_BLOCKS)


@contextmanager
def reading_ahead(
    rows: Rows | DenseRows, streaming: Streaming | None, windows: Sequence[Blocks]
) -> Iterator[Callable[[int], None]]:
    """Within it, a function to call before a window is drawn from: it waits until that is read, and has the next read.

    Reading is on a thread of its own, into the memory in which the system keeps files. What was mapped of earlier
    windows is let go.
    """
    if streaming is None:
        yield lambda number: None
        return
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        read = _reader(rows, streaming)
        ahead: dict[int, Future[None]] = {}

        def ready(number: int) -> None:
            if rows.pages is not None:
                rows.pages.madvise(mmap.MADV_DONTNEED)
            for wanted in range(number, min(number + 2, len(windows))):
                if wanted not in ahead:
                    ahead[wanted] = thread.submit(read, windows[wanted])
            ahead.pop(number).result()

        try:
            yield ready
        finally:
            thread.shutdown(cancel_futures=True)


def _reader(rows: Rows | DenseRows, streaming: Streaming) -> Callable[[Blocks], None]:
    """Touches each page of blocks, in the order of the file; with PyTorch, which lets other threads run meanwhile."""
    values = rows.tokens if isinstance(rows, Rows) else rows.values
    flat, labels = _bytes(values), _bytes(rows.labels)
    ends = _bytes(rows.offsets) if isinstance(rows, Rows) else None
    width = values.itemsize * int(np.prod(values.shape[1:]))

    def read(blocks: Blocks) -> None:
        for block in np.sort(blocks).tolist():
            first = block * streaming.block_rows
            last = min(first + streaming.block_rows, len(rows))
            _touch(labels, first, last, rows.labels.itemsize)
            if isinstance(rows, Rows) and ends is not None:
                _touch(ends, first, last + 1, rows.offsets.itemsize)
                first, last = int(rows.offsets[first]), int(rows.offsets[last])
            _touch(flat, first, last, width)

    return read


def _bytes(array: npt.NDArray[np.generic]) -> Tensor:
    """The array's own memory; that of mapped files is read-only, and nothing writes to it here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array.reshape(-1).view(np.uint8))


def _touch(content: Tensor, first: int, last: int, width: int) -> None:
    content[first * width : last * width : mmap.PAGESIZE].sum(dtype=torch.int64)
