"""CSV and JSON Lines, read in batches."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from automl.data.bounds import COLUMNS
from automl.data.columns import mixed_column
from automl.data.formats import delimiter, lines_of, open_text, packing, require_unpackable
from automl.space import UserError

BATCH_ROWS = 16_384
BATCH_CHARACTERS = 64 * 1024 * 1024  # of JSON Lines, beside the last one
BLOCK_BYTES = 16 * 1024 * 1024  # no CSV row may be longer
NOT_TEXT = re.compile("[\udc80-\udcff]")  # bytes that are no UTF-8, carried along


def csv_names(path: Path) -> list[str]:
    """The columns of a CSV file; none where it has no row beside them. Raises UnicodeDecodeError for other text."""
    csv.field_size_limit(BLOCK_BYTES)
    with io.TextIOWrapper(open_text(path), "utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = (row for row in csv.reader(lines_of(file), delimiter=delimiter(path)) if row)
        names = next(rows, [])
        COLUMNS.require(len(names), f"{path} has")
        "".join(names).encode("utf-8", "surrogateescape").decode("utf-8")
        try:
            return names if next(rows, None) is not None else []
        except csv.Error:  # a row that is too long is judged where rows are read
            return names


def read_csv(
    path: Path,
    columns: Sequence[str] | None,
    *,
    encoding: str = "utf-8",
    on_invalid: Callable[[Any], str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Rows of a CSV file in batches, all columns as text.

    `on_invalid` hears of each row that has not as many cells as the header, as pyarrow's `invalid_row_handler`; without
    it they are errors. Raises what pyarrow raises.
    """
    csv_names(path)
    with open_text(path) as file:
        if not any(line.strip() for line in lines_of(file)):
            return
    require_unpackable(path)
    # Threads do not know the numbers of rows.
    options = pa.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=on_invalid is None, encoding=encoding)
    parse = pa.csv.ParseOptions(delimiter=delimiter(path), newlines_in_values=True)
    # Two looks at the file: the names of its columns first, so that all of them can be read as text. The file is
    # opened by Arrow: its threads may outlive the reader, and one that holds a Python file at exit aborts the process.
    if on_invalid:
        parse.invalid_row_handler = lambda row: "skip"
    with _opened_by_arrow(path) as file:
        names = pa.csv.open_csv(file, read_options=options, parse_options=parse).schema.names
    wanted = names if columns is None else [name for name in columns if name in names]
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), include_columns=wanted, strings_can_be_null=False
    )
    if on_invalid:
        parse.invalid_row_handler = on_invalid
    with _opened_by_arrow(path) as file:
        yield from pa.csv.open_csv(file, read_options=options, parse_options=parse, convert_options=convert)


def _opened_by_arrow(path: Path) -> Any:
    """The file after its byte order mark, which Arrow knows in UTF-8 alone."""
    with open_text(path) as file:
        marked = file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
    stream = pa.input_stream(pa.OSFile(os.fsencode(path)), compression=packing(path))
    if marked:
        stream.read(len(codecs.BOM_UTF8))
    return stream


def json_names(path: Path) -> list[str]:
    """The columns of the first rows of JSON Lines, lines that cannot be read left out."""
    names: dict[str, None] = {}
    for _, line in islice(json_lines(path), BATCH_ROWS):
        with suppress(ValueError, RecursionError):
            row = None if NOT_TEXT.search(line) else json.loads(line)
            names |= dict.fromkeys(row if isinstance(row, dict) else ())
            COLUMNS.require(len(names), f"{path} has")
    return list(names)


def json_lines(path: Path, errors: str = "surrogateescape") -> Iterator[tuple[int, str]]:
    """The lines of JSON Lines that are not blank, each with its number (from 1): every reader has the same ones.

    Bytes that are no UTF-8 are carried along (PEP 383), or `strict` errors.
    """
    with io.TextIOWrapper(open_text(path), encoding="utf-8-sig", errors=errors) as file:
        for number, line in enumerate(lines_of(file), start=1):
            if line.strip():
                yield number, line


def read_json_lines(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """Rows of JSON Lines in batches; raises UserError for a line that is no object, UnicodeDecodeError for no UTF-8."""
    rows: list[dict[str, Any]] = []
    names: dict[str, bool] = {}
    characters = 0
    for number, line in json_lines(path, "strict"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{number}: not a JSON object: {error}") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: expected a JSON object, got {line.strip()[:40]}")
        rows.append(row)
        characters += len(line)
        if len(rows) == BATCH_ROWS or characters > BATCH_CHARACTERS:
            yield json_batch(rows, names, columns)
            rows, characters = [], 0
    if rows:
        yield json_batch(rows, names, columns)


def json_batch(rows: list[dict[str, Any]], names: dict[str, bool], columns: Sequence[str] | None) -> pa.RecordBatch:
    """Rows as a batch of those of `columns` that are in `names`, which grows by new ones.

    `names` says whether a column has had text: then what is none makes it a mixed column, in this batch and later.
    """
    try:
        for row in rows:
            for name, value in row.items():
                names[name] = names.get(name, False) or isinstance(value, str)
            COLUMNS.require(len(names), "a table has")
        wanted = list(names) if columns is None else [name for name in columns if name in names]
        arrays = [_json_column([row.get(name) for row in rows], names[name]) for name in wanted]
        return pa.record_batch(arrays, names=wanted)
    except UnicodeEncodeError:  # half of a surrogate pair, as truncation leaves it: no UTF-8 can say that
        rows = [_without_surrogates(row) for row in rows]
        sound = _without_surrogates(names)
        names.clear()
        names |= sound
        return json_batch(rows, names, columns)


def _json_column(values: list[Any], with_text: bool) -> pa.Array:
    if with_text and all(value is None or isinstance(value, str) for value in values):
        return pa.array(values, pa.string())
    try:
        return mixed_column(values) if with_text else pa.array(values)
    except (pa.ArrowException, OverflowError):
        return mixed_column(values)


def _without_surrogates(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
