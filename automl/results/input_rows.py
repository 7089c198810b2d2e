"""The rows of a file that a model is asked about: windows in order, each row with its text or what is wrong with it."""

from __future__ import annotations

import csv
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from automl.data.bounds import COLUMNS
from automl.data.csv_rows import RawRow, rows_of
from automl.data.formats import IMAGE_FOLDER, lines_of, open_text, table_format
from automl.data.modalities import LONG_TEXT, MODALITIES, NO_TEXT, Modality, is_long
from automl.data.tables import read_batches
from automl.data.text_tables import BLOCK_BYTES
from automl.data.wide import Column, Steps, input_column, join_cells
from automl.results.inputs import Inputs
from automl.results.row_errors import isolate_failures
from automl.space import UserError

WINDOW_ROWS = 8192  # enough to sort by length with little padding, few enough that memory stays flat
WINDOW_CHARACTERS = 16 * 1024 * 1024
FAULT = "\0fault: "  # begins the only cell of a row that cannot be used
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # how bytes that are no UTF-8 are carried along (PEP 383)

CsvRow = tuple[list[str], str | None, str | None]
"""Its cells, its text, and why it has none."""


@dataclass(frozen=True)
class Window:
    """Rows one after another: a record batch, the cells of each CSV row, or the lines of JSON Lines.

    Of each row either the input is there or, in `errors`, why there is none.
    """

    rows: Any
    inputs: list[Any]
    errors: list[str | None]


def open_rows(
    path: Path, column: Column, modality: Modality, others: Sequence[str] = (), known: Steps = ()
) -> tuple[list[str], Iterator[Window]]:
    """The names of a table's columns and its rows, whose inputs are in `column`, in windows of bounded size.

    Of series across columns, `others` are none of their columns, and `known` are those of the training data.

    A row that cannot be used has an error: no text, another type than text, a line that cannot be parsed. Raises
    UserError where the file cannot be read, has no rows or no such column, or where a typed column is not of text.
    """
    kind, inputs = table_format(path), Inputs(column, modality, others, known)
    if kind == IMAGE_FOLDER:
        if modality is not MODALITIES["image"]:
            raise UserError(f"{path} is a folder of images; this model is for {modality.plural}")
        windows = _folder_windows(path, modality)
    elif kind in ("parquet", "arrow"):
        windows = _column_windows(path, inputs)
    else:
        rows = _json_windows(path, inputs) if kind == "jsonl" else _csv_windows(path, inputs)
        windows = _readable(path, rows)
        windows = map(_without_long, windows) if modality.name == "text" else _of_texts(windows, modality)
    names = next(windows)
    assert isinstance(names, list)
    first = next(windows, None)
    if first is None:
        raise UserError(f"{path} has no rows")
    return names, chain([first], windows)  # type: ignore[arg-type, list-item]


def _folder_windows(path: Path, modality: Modality) -> Iterator[list[str] | Window]:
    """The images of a folder, as rows of a CSV file with their names."""
    yield ["file"]
    for batch in read_batches(path, ["image", "file"]):
        window = _read(batch, batch.column("image"), str(path), modality)
        yield Window([[name] for name in batch.column("file").to_pylist()], window.inputs, window.errors)


def _column_windows(path: Path, inputs: Inputs) -> Iterator[list[str] | Window]:
    batches = read_batches(path)
    first = next(batches, None)
    names = [] if first is None else list(first.schema.names)
    inputs.columns(path, names)
    yield names
    place = f"{path}: column {inputs.column!r}"
    for whole in chain([first], batches):
        for start in range(0, whole.num_rows, WINDOW_ROWS):
            batch = whole.slice(start, WINDOW_ROWS)
            column = input_column(batch, inputs.modality, inputs.column, inputs.others, inputs.known)
            yield _read(batch, column, place, inputs.modality)


def _joined(row: CsvRow, places: list[int | None], channels: int, garbage: float | None) -> CsvRow:
    """A row of a CSV file with the JSON list of the numbers at several places as its text."""
    cells, _, error = row
    if error is not None and error != NO_TEXT:
        return row
    series = join_cells([None if place is None else cells[place] for place in places], channels, garbage)
    return (cells, None, NO_TEXT) if series is None else (cells, json.dumps(series), None)


def _read(rows: Any, column: pa.Array, place: str, modality: Modality) -> Window:
    """Rows with the inputs of a column."""
    return Window(rows, *read_inputs(column, place, modality))


def read_inputs(column: pa.Array, place: str, modality: Modality) -> tuple[list[Any], list[str | None]]:
    """The input of each row, and why it has none; raises UserError as `modality.read` does."""
    found: list[Any] = []
    errors: list[str | None] = []
    for start, end, read, error in isolate_failures(
        lambda start, end: modality.read(column[start:end], place), len(column)
    ):
        if read is None:
            found.append(None)
            errors.append(error)
            continue
        inputs, unusable = read
        reasons: list[str | None] = [None] * (end - start)
        for reason, those in unusable.items():
            for row in those.nonzero()[0]:
                reasons[row] = reason
        found += [each if reason is None else None for each, reason in zip(inputs.to_pylist(), reasons, strict=True)]
        errors += reasons
    return found, errors


def _without_long(window: list[str] | Window) -> list[str] | Window:
    if isinstance(window, Window):
        for row, text in enumerate(window.inputs):
            if text is not None and is_long(text):
                window.inputs[row], window.errors[row] = None, LONG_TEXT
    return window


def _of_texts(windows: Iterator[list[str] | Window], modality: Modality) -> Iterator[list[str] | Window]:
    """Windows whose texts are the paths of images, or series written as JSON, with what these hold."""
    for window in windows:
        if isinstance(window, Window):
            read = _read(window.rows, pa.array(window.inputs, pa.string()), "", modality)
            errors = [
                known if known not in (None, NO_TEXT) else error
                for known, error in zip(window.errors, read.errors, strict=True)
            ]
            window = Window(window.rows, read.inputs, errors)
        yield window


def _csv_windows(path: Path, inputs: Inputs) -> Iterator[list[str] | Window]:
    csv.field_size_limit(2 * BLOCK_BYTES)
    delimiter = "\t" if table_format(path) == "tsv" else ","
    with _decoded(path, newline="") as file:
        reader = _cells(rows_of(file, delimiter, BLOCK_BYTES), delimiter)
        names = next((row for row in reader if row), [])
        COLUMNS.require(len(names), f"{path} has")
        if len(names) == 1 and names[0].startswith(FAULT):
            raise UserError(f"cannot read {path}: in its first row, {names[0].removeprefix(FAULT)}")
        if any(NOT_UTF8.search(name) or "\0" in name for name in names):
            raise UserError(f"cannot read {path}: its first line is not UTF-8 text; convert it, for example with iconv")
        first = names.index(inputs.columns(path, names)[0])
        yield names
        rows = (_csv_row(row, len(names), first, delimiter) for row in reader if row)
        if inputs.wide:
            channels, there = inputs.channels(names), {name: place for place, name in enumerate(names)}
            places = [there.get(name) for channel in channels for name in channel]
            rows = (_joined(row, places, len(channels), inputs.garbage) for row in rows)
        yield from _windows(rows)


def _cells(rows: Iterator[RawRow], delimiter: str) -> Iterator[list[str]]:
    """The cells of rows, one that begins with `FAULT` instead of those of a row that cannot be used."""
    for row in rows:
        if row.quote is not None:
            lines = f"{row.swallowed:,} line{'' if row.swallowed == 1 else 's'} after it would be part of its cell"
            yield [f"{FAULT}the quote that opens in line {row.quote} is not closed; {lines}"]
        elif row.too_long:
            yield [f"{FAULT}the row has a cell or a line of more than {BLOCK_BYTES:,} characters"]
        else:
            yield next(csv.reader(row.lines, delimiter=delimiter), [])


def _csv_row(cells: list[str], columns: int, place: int, delimiter: str) -> CsvRow:
    """A row made as wide as the header, its text and its error; what is too much goes into the last cell."""
    if len(cells) == 1 and cells[0].startswith(FAULT):
        return [""] * columns, None, cells[0].removeprefix(FAULT)
    if len(cells) != columns:
        error = f"the row has {len(cells)} cells, expected {columns}"
        padded = cells + [""] * (columns - len(cells))
        return [*padded[: columns - 1], delimiter.join(padded[columns - 1 :])], None, error
    text = cells[place]
    if NOT_UTF8.search(text):
        return cells, None, "the text is not UTF-8"
    return (cells, text, None) if text.strip() else (cells, None, NO_TEXT)


def _json_windows(path: Path, inputs: Inputs) -> Iterator[list[str] | Window]:
    with _decoded(path) as file:
        windows = _windows(_json_row(line.strip(), inputs) for line in lines_of(file, BLOCK_BYTES) if line.strip())
        first = next(windows, None)
        if first is None:
            raise UserError(f"{path} has no rows")
        names = _names(path, first.rows)
        if not names:
            raise UserError(f"{path} is not JSON Lines: of its first line, {first.errors[0]}")
        inputs.columns(path, names)
        yield names
        yield first
        yield from windows


def _json_row(line: str, inputs: Inputs) -> tuple[str, str | None, str | None]:
    if len(line) > BLOCK_BYTES:
        return "{}", None, f"the line has more than {BLOCK_BYTES:,} characters"
    if NOT_UTF8.search(line):
        return line, None, "the line is not UTF-8"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return line, None, f"the line is not JSON: {error}"
    if not isinstance(row, dict):
        return line, None, "the line is not a JSON object"
    text: Any
    if inputs.wide:
        found = inputs.channels(list(row))
        if len({len(channel) for channel in found}) > 1:
            return line, None, "its channels have different numbers of steps"
        text = join_cells([row.get(name) for channel in found for name in channel], len(found), inputs.garbage)
    else:
        text = row.get(inputs.column)
    if inputs.modality.name != "text" and isinstance(text, list):
        text = json.dumps(text)
    if inputs.modality.name == "image" and isinstance(text, dict):
        text = text.get("path")
    if text is not None and not isinstance(text, str):
        return line, None, f"expected text, found {_said(text)}"
    return (line, text, None) if text and text.strip() else (line, None, NO_TEXT)


def _said(value: Any) -> str:
    try:
        return json.dumps(value)[:40]
    except RecursionError:  # what can just be read may be too deep to be written
        return "lists within lists"


def _names(path: Path, lines: Sequence[str]) -> list[str]:
    names: dict[str, None] = {}
    for line in lines:
        names |= dict.fromkeys(_keys(line))
        COLUMNS.require(len(names), f"{path} has")
    return list(names)


def _keys(line: str) -> Sequence[str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return ()
    return list(row) if isinstance(row, dict) else ()


def _windows(rows: Iterator[tuple[Any, str | None, str | None]]) -> Iterator[Window]:
    window, characters = Window([], [], []), 0
    for row, text, error in rows:
        window.rows.append(row)
        window.inputs.append(text)
        window.errors.append(error)
        characters += len(row) if isinstance(row, str) else sum(map(len, row))
        if len(window.inputs) == WINDOW_ROWS or characters > WINDOW_CHARACTERS:
            yield window
            window, characters = Window([], [], []), 0
    if window.inputs:
        yield window


def _decoded(path: Path, newline: str | None = None) -> io.TextIOWrapper:
    return io.TextIOWrapper(open_text(path), encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def _readable(path: Path, windows: Iterator[list[str] | Window]) -> Iterator[list[str] | Window]:
    try:
        yield from windows
    except (OSError, EOFError, csv.Error, zlib.error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
