"""Tables that are partly damaged: rows that cannot be read are noted and left out, the others keep their numbers."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from automl.data.csv_rows import LONG_ROW, OPEN_QUOTE, SWALLOWED, CsvFaults, decoded, rows_of
from automl.data.formats import delimiter, open_text, table_format
from automl.data.tables import read_batches, reading
from automl.data.text_tables import (
    BATCH_CHARACTERS,
    BATCH_ROWS,
    BLOCK_BYTES,
    NOT_TEXT,
    json_batch,
    json_lines,
    read_csv,
)

NOT_UTF8, UNREADABLE_LINE = "text that is not UTF-8", "a line that cannot be read"


Numbers = npt.NDArray[np.int64]


class Note(Protocol):
    """Hears why a row, or `count` of them, is left out, its number (from 0), and what it has."""

    def __call__(self, reason: str, row: int, content: str, count: int = 1, /) -> None:
        """Count them."""


def read_undamaged(
    path: Path, columns: Sequence[str], note: Note, faults: CsvFaults | None = None
) -> Iterator[tuple[Numbers, pa.RecordBatch]]:
    """The rows that can be read with their numbers (from 0), in order; `note` hears of each other one.

    `faults` are those of a CSV file. Raises UserError where the file as a whole is damaged.
    """
    kind = table_format(path)
    if faults is not None and (faults.quotes or faults.long):
        with reading(path):
            yield from _faulty_csv_rows(path, columns, note, faults)
        return
    if kind in ("csv", "tsv"):
        with reading(path):
            yield from _csv_rows(path, columns, note)
    elif kind == "jsonl":
        with reading(path):
            yield from _json_rows(path, columns, note)
    else:
        start = 0
        for batch in read_batches(path, columns):
            yield np.arange(start, start + batch.num_rows), batch
            start += batch.num_rows


def _csv_rows(path: Path, columns: Sequence[str], note: Note) -> Iterator[tuple[Numbers, pa.RecordBatch]]:
    skipped: set[int] = set()

    def skip(row: Any) -> str:
        number = row.number - 2  # counted from 1, the header first
        skipped.add(number)
        note(UNREADABLE_LINE, number, row.text if utf8 else row.text.encode("latin-1").decode("utf-8", "replace"))
        return "skip"

    start = 0
    # Bytes that are not UTF-8 would stop the reader in a row that is invalid besides; read as Latin-1 nothing is.
    utf8 = _is_utf8(path)
    wanted = columns if utf8 else list(map(_as_latin1, columns))
    encoding = "utf-8" if utf8 else "latin-1"
    for batch in read_csv(path, wanted, encoding=encoding, on_invalid=skip):
        numbers: list[int] = []
        while len(numbers) < batch.num_rows:
            if start not in skipped:
                numbers.append(start)
            start += 1
        rows = np.array(numbers, dtype=np.int64)
        yield (rows, batch) if utf8 else _from_latin1(rows, batch, note)


def _faulty_csv_rows(
    path: Path, columns: Sequence[str], note: Note, faults: CsvFaults
) -> Iterator[tuple[Numbers, pa.RecordBatch]]:
    """Rows of a CSV file of which some have quotes that are not closed, or are longer than Arrow reads."""
    csv.field_size_limit(2 * BLOCK_BYTES)
    separator = delimiter(path)
    with decoded(path) as file:
        rows = rows_of(file, separator)
        names = next(csv.reader(next(rows).lines, delimiter=separator))
        wanted = [names.index(name) for name in columns if name in names]
        found: list[list[str]] = []
        numbers: list[int] = []
        characters = 0
        for number, row in enumerate(rows):
            text = _replaced("".join(row.lines[:3]))
            if number in faults.quotes:
                line, swallowed = faults.quotes[number]
                note(OPEN_QUOTE, number, f"line {line}: {text}")
                note(SWALLOWED, number, f"lines {line + 1:,} to {line + swallowed:,}", swallowed)
                continue
            if row.too_long:
                note(LONG_ROW, number, f"line {row.line}")
                continue
            cells = next(csv.reader(row.lines, delimiter=separator))
            kept = [cells[place] for place in wanted] if len(cells) == len(names) else None
            if kept is None or any(NOT_TEXT.search(cell) for cell in kept):
                note(UNREADABLE_LINE if kept is None else NOT_UTF8, number, text)
                continue
            found.append(kept)
            numbers.append(number)
            characters += sum(map(len, row.lines))
            if len(found) == BATCH_ROWS or characters > BATCH_CHARACTERS:
                yield _batch_of(numbers, found, [names[place] for place in wanted])
                found, numbers, characters = [], [], 0
        if found:
            yield _batch_of(numbers, found, [names[place] for place in wanted])


def _batch_of(numbers: list[int], rows: list[list[str]], names: list[str]) -> tuple[Numbers, pa.RecordBatch]:
    columns = [pa.array(cells, pa.string()) for cells in zip(*rows, strict=True)]
    return np.array(numbers, dtype=np.int64), pa.record_batch(columns, names=names)


def _from_latin1(rows: Numbers, batch: pa.RecordBatch, note: Note) -> tuple[Numbers, pa.RecordBatch]:
    """Text whose bytes were read as Latin-1, as the UTF-8 that it is; rows where it is none are left out."""
    sound = np.ones(batch.num_rows, dtype=bool)
    columns: dict[str, list[str]] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        cells = [text.encode("latin-1") for text in column.to_pylist()]
        name = name.encode("latin-1").decode("utf-8")
        found = columns[name] = [cell.decode("utf-8", "replace") for cell in cells]
        for row, cell in enumerate(cells):
            if sound[row] and "\ufffd" in found[row] and not _decodes(cell):
                sound[row] = False
                note(NOT_UTF8, int(rows[row]), found[row])
    whole = pa.record_batch([pa.array(cells, pa.string()) for cells in columns.values()], names=list(columns))
    return rows[sound], whole.filter(pa.array(sound))


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_text(path) as file:
        try:
            while block := file.read(BLOCK_BYTES):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _decodes(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _replaced(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _as_latin1(name: str) -> str:
    return name.encode("utf-8").decode("latin-1")


def _json_rows(path: Path, columns: Sequence[str], note: Note) -> Iterator[tuple[Numbers, pa.RecordBatch]]:
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    names = dict.fromkeys(columns, False)
    characters = 0
    for number, (_, line) in enumerate(json_lines(path)):
        if NOT_TEXT.search(line):
            note(NOT_UTF8, number, _replaced(line))
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            note(UNREADABLE_LINE, number, line)
            continue
        rows.append({name: row.get(name) for name in columns})
        numbers.append(number)
        characters += len(line)
        if len(rows) == BATCH_ROWS or characters > BATCH_CHARACTERS:
            yield np.array(numbers, dtype=np.int64), json_batch(rows, names, columns)
            rows, numbers, characters = [], [], 0
    if rows:
        yield np.array(numbers, dtype=np.int64), json_batch(rows, names, columns)
