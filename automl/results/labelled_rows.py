"""Rows with their labels and probabilities, written in the format in which they came."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from automl.results.input_rows import NOT_UTF8, Window
from automl.space.printable import printable_lines

DIGITS = 6

Guard = Callable[[str], str]  # from a cell to what is written of it

# Rows with their labels and probabilities [rows][classes], both None for a row that has an error.
Labelled = tuple[Window, list[str | None], list[list[float | None]]]


class Sink(Protocol):
    """What bytes are written to."""

    def write(self, content: bytes, /) -> object:
        """Write all of it."""


class _Terminal:
    """Takes bytes of UTF-8 and shows them on the terminal at stdout, where control characters would be obeyed."""

    def write(self, content: bytes) -> int:
        """Write whole characters of text."""
        sys.stdout.write(printable_lines(content.decode("utf-8", "replace").replace("\t", "    ")))
        return len(content)


def standard_output() -> Sink:
    """Where predictions go without --output: a pipe or a file gets the bytes as they are."""
    return _Terminal() if sys.stdout.isatty() else sys.stdout.buffer


def write_labelled(
    labelled: Iterator[Labelled], kind: str, header: list[str], added: list[str], sink: Sink, guard: Guard
) -> int:
    """Write labelled rows to `sink` as csv, tsv, jsonl, parquet or arrow; gives the number of those without a label."""
    if kind == "jsonl":
        return _write_json_lines(labelled, added, sink)
    if kind in ("parquet", "arrow"):
        return _write_columns(labelled, added, pa.parquet.ParquetWriter if kind == "parquet" else pa.ipc.new_file, sink)
    return _write_csv(labelled, [*header, *added], "\t" if kind == "tsv" else ",", sink, guard)


def _write_csv(rows: Iterator[Labelled], header: list[str], delimiter: str, sink: Sink, guard: Guard) -> int:
    def line(cells: Sequence[str]) -> bytes:
        text = delimiter.join(_csv_cell(guard(cell), delimiter) for cell in cells) + "\n"
        return text.encode("utf-8", "surrogateescape")

    skipped = 0
    sink.write(line(header))
    for window, labels, probabilities in rows:
        skipped += labels.count(None)
        for row, label, shares, error in zip(window.rows, labels, probabilities, window.errors, strict=True):
            numbers = ["" if share is None else f"{share:.{DIGITS}f}" for share in shares]
            sink.write(line([*row, label or "", *numbers, error or ""]))
    return skipped


def _csv_cell(text: str, delimiter: str) -> str:
    """The cell, in quotes where it needs them; the csv module forgets that a lone carriage return does."""
    if any(character in text for character in (delimiter, '"', "\n", "\r")):
        return '"' + text.replace('"', '""') + '"'
    return text


def _write_json_lines(rows: Iterator[Labelled], added: list[str], sink: Sink) -> int:
    """Each line as it stands, with the added keys before its closing brace: numbers keep all their digits.

    A line that is no JSON object becomes one, with the line as the text of its key `line`.
    """
    skipped = 0
    for window, labels, probabilities in rows:
        skipped += labels.count(None)
        for line, label, shares, error in zip(window.rows, labels, probabilities, window.errors, strict=True):
            if error is not None and error.startswith("the line"):
                line = json.dumps({"line": NOT_UTF8.sub("\ufffd", line)}, ensure_ascii=False)
            empty = line[1:-1].strip() == ""
            extra = json.dumps(dict(zip(added, [label, *shares, error], strict=True)), ensure_ascii=False)
            sink.write(f"{line[:-1].rstrip()}{'' if empty else ', '}{extra[1:]}\n".encode("utf-8", "replace"))
    return skipped


def _write_columns(rows: Iterator[Labelled], added: list[str], make_writer: Any, sink: Sink) -> int:
    skipped = 0
    writer: Any = None
    for window, labels, probabilities in rows:
        skipped += labels.count(None)
        table = pa.Table.from_batches([window.rows]).append_column(added[0], pa.array(labels, pa.string()))
        for position, name in enumerate(added[1:-1]):
            table = table.append_column(name, pa.array([row[position] for row in probabilities], pa.float64()))
        table = table.append_column(added[-1], pa.array(window.errors, pa.string()))
        writer = writer or make_writer(sink, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return skipped
