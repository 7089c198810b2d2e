"""The rows of a split on disk: an Arrow file, mapped whole or read part by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

PART_ROWS = 16_384


@dataclass(frozen=True)
class Part:
    """One batch of an Arrow file, which any process can read."""

    path: Path
    number: int

    def read(self) -> pa.RecordBatch:
        """Its rows; only they are in memory."""
        with pa.OSFile(str(self.path)) as file:
            return pa.ipc.open_file(file).get_batch(self.number)

    def inputs(self) -> list[Any]:
        """The first column of its rows."""
        found: list[Any] = self.read().column(0).to_pylist()
        return found


def parts_of(path: Path) -> list[Part]:
    """All batches of an Arrow file, in order."""
    with pa.OSFile(str(path)) as file:
        return [Part(path, number) for number in range(pa.ipc.open_file(file).num_record_batches)]


def open_split(path: Path) -> pa.Table:
    """A split's rows, memory-mapped."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def map_split(path: Path) -> tuple[pa.Table, mmap]:
    """The same, and the mapped file, whose pages can be let go."""
    with path.open("rb") as file:
        pages = mmap(file.fileno(), 0, access=ACCESS_READ)
    return pa.ipc.open_file(pa.py_buffer(pages)).read_all(), pages


def read_inputs(path: Path) -> Iterator[Any]:
    """The first column of a split, one after the other."""
    for part in parts_of(path):
        yield from part.inputs()
