"""The rows of a split on disk: an Arrow file, mapped whole or read part by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from automl.data.store import Store, is_url

PART_ROWS = 16_384


@dataclass(frozen=True)
class Part:
    """One batch of an Arrow file at a path, which any process can read, or at a URL, which any machine can."""

    place: str
    number: int

    def read(self) -> pa.RecordBatch:
        """Its rows; only they are in memory. Raises OSError where the file cannot be read."""
        if not is_url(self.place):
            with pa.OSFile(self.place) as file:
                return pa.ipc.open_file(file).get_batch(self.number)
        folder, _, name = self.place.rpartition("/")
        return Store(folder).read(name, lambda file: pa.ipc.open_file(file).get_batch(self.number))

    def inputs(self) -> list[Any]:
        """The first column of its rows."""
        found: list[Any] = self.read().column(0).to_pylist()
        return found


def parts_of(path: Path) -> list[Part]:
    """All batches of an Arrow file, in order."""
    with pa.OSFile(str(path)) as file:
        return [Part(str(path), number) for number in range(pa.ipc.open_file(file).num_record_batches)]


def open_split(path: Path) -> pa.Table:
    """A split's rows, memory-mapped."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def read_inputs(path: Path) -> Iterator[Any]:
    """The first column of a split, one after the other."""
    for part in parts_of(path):
        yield from part.inputs()
