"""Rows whose values are arrays of numbers: images and series, kept on disk as they are batched."""

from __future__ import annotations

from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class DenseRows:
    """Rows of arrays: values [rows, longest, ...], lengths int64 [rows], labels int32 or 64 [rows] (-1: none).

    Images are uint8 [rows, height, width, channels]; all have the length `height`.
    Series are float32 [rows, longest, channels], NaN after their length. `pages` is the file, if `values` is mapped.
    """

    values: npt.NDArray[np.generic]
    lengths: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64 | np.int32]
    pages: mmap | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """The bytes of all of it."""
        return self.values.nbytes + self.lengths.nbytes + self.labels.nbytes

    def lengths_of(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The lengths of these rows."""
        return self.lengths[index]


def open_dense(folder: Path, split: str, labels: npt.NDArray[np.int64 | np.int32]) -> DenseRows:
    """The rows of `split`.npy in a folder, memory-mapped."""
    values = np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False)
    kept = folder / f"{split}.lengths.npy"
    lengths = np.load(kept, allow_pickle=False) if kept.exists() else np.full(len(labels), values.shape[1])
    return DenseRows(values, lengths.astype(np.int64, copy=False), labels, mapping_of(values))


def mapping_of(array: npt.NDArray[np.generic]) -> mmap | None:
    """The mapped file in which an array of `np.load` lies."""
    base = array.base
    return base if isinstance(base, mmap) else None


def join_arrays(
    first: npt.NDArray[Number], second: npt.NDArray[Number], folder: Path | None
) -> tuple[npt.NDArray[Number], mmap | None]:
    """The one after the other: copied into memory or, with a `folder`, mapped from a file in it that has no name."""
    if folder is None:
        return np.concatenate([first, second]), None
    with TemporaryFile(dir=folder) as file:
        first.tofile(file)
        second.tofile(file)
        joined = np.memmap(file, first.dtype, "r", shape=(len(first) + len(second), *first.shape[1:]))
    return joined, mapping_of(joined)


def join_dense(first: DenseRows, second: DenseRows, folder: Path | None) -> DenseRows:
    """As `join_rows` does."""
    values, pages = join_arrays(first.values, second.values, folder)
    return DenseRows(
        values,
        np.concatenate([first.lengths, second.lengths]),
        np.concatenate([first.labels, second.labels]),
        pages,
    )
