"""Rows whose values are arrays of numbers: images and series, kept on disk as they are batched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class DenseRows:
    """Rows of arrays: values [rows, longest, ...], lengths int64 [rows], labels int64 [rows] (-1: none).

    Images are uint8 [rows, height, width, channels]; all have the length `height`.
    Series are float32 [rows, longest, channels], NaN after their length.
    """

    values: npt.NDArray[np.generic]
    lengths: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def lengths_of(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The lengths of these rows."""
        return self.lengths[index]


def open_dense(folder: Path, split: str, labels: npt.NDArray[np.int64]) -> DenseRows:
    """The rows of `split`.npy in a folder, memory-mapped."""
    values = np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False)
    kept = folder / f"{split}.lengths.npy"
    lengths = np.load(kept, allow_pickle=False) if kept.exists() else np.full(len(labels), values.shape[1])
    return DenseRows(values, lengths.astype(np.int64), labels)


def join_dense(first: DenseRows, second: DenseRows) -> DenseRows:
    """The rows of both, those of `first` before those of `second`; copied into memory."""
    return DenseRows(
        np.concatenate([first.values, second.values]),
        np.concatenate([first.lengths, second.lengths]),
        np.concatenate([first.labels, second.labels]),
    )
