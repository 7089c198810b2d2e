"""Parquet and Arrow files whose rows are far larger than the files: how much may come out of them, and in what steps.

What `bounds` says of packed text holds here too: of what headers claim, before anything is read, and of what is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from automl.data.bounds import COLUMNS, UNPACKED_BYTES, UNPACKED_RATIO
from automl.data.formats import SMALL_BYTES

STEP_BYTES = 512 << 20  # that a batch may hold before its size is known
PIECE_BYTES = 256 << 20  # of a batch that is handed on
MAGICS = (0xFD2FB528, 0x184D2204)  # of zstd and LZ4 frames, in front of which Arrow has the bytes that are in them


def bounded(path: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches of a file in pieces of bounded size; raises UserError where all of them are larger than is allowed."""
    total = 0
    for batch in batches:
        COLUMNS.require(batch.num_columns, f"{path} has")
        size = expanded_bytes(batch)
        total += size
        _require_allowed(path, total)
        pieces = min(max(1, batch.num_rows), -(-size // PIECE_BYTES))
        step = -(-batch.num_rows // pieces) if pieces > 1 else batch.num_rows
        yield from (batch.slice(start, step) for start in range(0, batch.num_rows, step)) if step else [batch]


def parquet_source(path: Path) -> pa.NativeFile:
    """A Parquet file on this machine, opened; by its name alone `s3:rows.parquet` would be taken for a URL."""
    return pa.OSFile(os.fsencode(path))


def expanded_bytes(batch: pa.RecordBatch) -> int:
    """The bytes of a batch whose dictionaries are written out."""
    return sum(_expanded(column) for column in batch.columns)


def _expanded(column: pa.Array) -> int:
    if pa.types.is_dictionary(column.type):
        values = column.dictionary
        if not _of_bytes(values.type):
            return int(len(column) * max(1, values.nbytes // max(1, len(values))))
        lengths = pc.binary_length(values).cast(pa.int64())
        return int(pc.sum(lengths.take(column.indices)).as_py() or 0) + 8 * len(column)
    if pa.types.is_run_end_encoded(column.type):
        return int(len(column) * max(1, column.values.nbytes))
    return int(column.nbytes)


def _of_bytes(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def read_groups(path: Path, file: pa.parquet.ParquetFile, names: list[str] | None, most: int) -> Iterator[Any]:
    """Batches of at most `most` rows of a Parquet file, of which no header claims more than is allowed.

    Rows of a dictionary may be any number of times as large as the file: few of them are read at a time where its
    values are large. Column headers are left alone, as looking at a damaged one ends the process.
    """
    COLUMNS.require(len(file.schema_arrow.names), f"{path} has")
    groups = range(file.num_row_groups)
    _require_allowed(path, sum(file.metadata.row_group(group).total_byte_size for group in groups))
    of_bytes = [
        field.name for field in file.schema_arrow if _of_bytes(field.type) and (not names or field.name in names)
    ]
    with pa.parquet.ParquetFile(parquet_source(path), read_dictionary=of_bytes) as encoded:
        for group in groups:  # one at a time: all at once, the memory grows with the file
            rows = _rows_at_a_time(encoded, of_bytes, group, most)
            batches = file.iter_batches(batch_size=rows, columns=names, row_groups=[group])
            yield from batches if rows == most else _joined(batches, most)


def _joined(batches: Iterator[pa.RecordBatch], most: int) -> Iterator[pa.RecordBatch]:
    """Small batches put together."""
    parts: list[pa.RecordBatch] = []
    for batch in batches:
        batch.validate(full=True)
        parts.append(batch)
        if sum(part.num_rows for part in parts) >= most or sum(part.nbytes for part in parts) > PIECE_BYTES:
            yield from pa.Table.from_batches(parts).combine_chunks().to_batches()
            parts = []
    if parts:
        yield from pa.Table.from_batches(parts).combine_chunks().to_batches()


def _rows_at_a_time(encoded: pa.parquet.ParquetFile, names: list[str], group: int, most: int) -> int:
    """So many that they fit into memory if each has the largest values of the dictionaries."""
    largest = 0
    for batch in encoded.iter_batches(batch_size=1, columns=names, row_groups=[group]) if names else ():
        batch.validate(full=True)
        dictionaries = [column.dictionary for column in batch.columns if pa.types.is_dictionary(column.type)]
        largest = sum(pc.max(pc.binary_length(values)).as_py() or 0 for values in dictionaries)
        break
    return int(np.clip(STEP_BYTES // max(1, largest), 1, most))


def require_sound_frames(path: Path) -> None:
    """Raise UserError where the packed buffers of an Arrow file say that they hold more than is allowed."""
    if path.stat().st_size < 16:
        return
    words: npt.NDArray[np.uint32] = np.memmap(path, np.uint32, "r", shape=(path.stat().st_size // 8 * 2,))
    total, block = 0, 1 << 22
    for start in range(0, len(words), block):
        part = np.asarray(words[start : start + block + 4])
        places = np.flatnonzero(np.isin(part[2::2], MAGICS)) * 2  # Arrow aligns buffers to 8 bytes
        sizes = part[places].astype(np.int64) | (part[places + 1].astype(np.int64) << 32)
        total += int(sizes[(sizes > 0) & (places < block)].clip(max=1 << 50).sum())
        _require_allowed(path, total)


def _require_allowed(path: Path, total: int) -> None:
    if total > UNPACKED_BYTES.value():
        raise UNPACKED_BYTES.exceeded(f"{path} unpacks to")
    if total > UNPACKED_RATIO.value() * max(path.stat().st_size, SMALL_BYTES):
        raise UNPACKED_RATIO.exceeded(f"{path} unpacks to", "times its size")
