"""Tables on disk, read in batches of rows in their own order: Parquet, CSV, JSON Lines, Arrow; text also gzipped."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from automl.space import UserError

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".arrow": "arrow",
    ".feather": "arrow",
}
BATCH_ROWS = 16_384
BLOCK_BYTES = 16 * 1024 * 1024  # no CSV row may be longer


def table_format(path: Path) -> str:
    """parquet, csv, tsv, jsonl or arrow, by the file's ending (`.gz` aside); raises UserError for another one."""
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    found = FORMATS.get(suffix.lower())
    if found is None or (path.suffix == ".gz" and found not in ("csv", "tsv", "jsonl")):
        raise UserError(f"{path}: unknown kind of file; expected one that ends in {', '.join(FORMATS)}")
    return found


def find_files(paths: Sequence[str]) -> list[Path]:
    """The files that paths, folders and globs name, each once; raises UserError where one names nothing."""
    found: list[Path] = []
    for text in paths:
        path = Path(text)
        if any(character in text for character in "*?["):
            matches = sorted(match for match in Path(path.anchor or ".").glob(_relative(path)) if match.is_file())
            if not matches:
                raise UserError(f"no file matches {text}")
            found.extend(matches)
        elif path.is_dir():
            inside = sorted(entry for entry in path.rglob("*") if entry.is_file() and _is_table(entry))
            if not inside:
                raise UserError(f"the folder {text} has no file that ends in {', '.join(FORMATS)}")
            found.extend(inside)
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"there is no file {text}{_nearest_file(path)}")
    for path in found:
        table_format(path)
    return list(dict.fromkeys(found))


def column_names(path: Path) -> list[str]:
    """The columns of a table; those of its first row for JSON Lines. Raises UserError where it cannot be read."""
    for batch in read_batches(path):
        return list(batch.schema.names)
    return []


def require_columns(path: Path, wanted: Sequence[str]) -> None:
    """Raise UserError, with the nearest name, where a table lacks one of the `wanted` columns."""
    there = column_names(path)
    for name in wanted:
        if name not in there:
            if not there:
                raise UserError(f"{path} has no rows")
            close = get_close_matches(name, there, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"{path} has no column {name!r}{hint} (it has {', '.join(map(repr, there[:20]))})")


def read_batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Rows of a table in batches, in order; with `columns`, only those that it has of them.

    CSV columns are text as they stand; JSON Lines keep their types where a column has one, else text. Raises
    UserError where the file is damaged or not UTF-8.
    """
    kind = table_format(path)
    try:
        if kind == "parquet":
            with pa.parquet.ParquetFile(path) as file:
                names = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
                yield from file.iter_batches(batch_size=BATCH_ROWS, columns=names)
        elif kind == "arrow":
            yield from _read_arrow(path, columns)
        elif kind == "jsonl":
            yield from _read_json_lines(path, columns)
        else:
            yield from _read_csv(path, columns, "\t" if kind == "tsv" else ",")
    except (pa.ArrowInvalid, pa.ArrowIOError, OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {_reason(error)}") from error


def open_text(path: Path) -> Any:
    """A text table's bytes, unpacked where it ends in `.gz`."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rb")


def _read_csv(path: Path, columns: Sequence[str] | None, delimiter: str) -> Iterator[pa.RecordBatch]:
    with open_text(path) as file:
        header = file.readline()
    if not header.strip():
        return
    options = pa.csv.ReadOptions(block_size=BLOCK_BYTES)
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    # Two looks at the file: the names of its columns first, so that all of them can be read as text.
    with open_text(path) as file, pa.csv.open_csv(file, read_options=options, parse_options=parse) as reader:
        names = reader.schema.names
    wanted = names if columns is None else [name for name in columns if name in names]
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), include_columns=wanted, strings_can_be_null=False
    )
    with open_text(path) as file:
        yield from pa.csv.open_csv(file, read_options=options, parse_options=parse, convert_options=convert)


def _read_arrow(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        try:
            reader: Any = pa.ipc.open_file(source)
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        except pa.ArrowInvalid:
            source.seek(0)
            batches = iter(pa.ipc.open_stream(source))
        for batch in batches:
            yield batch if columns is None else batch.select([name for name in columns if name in batch.schema.names])


def _read_json_lines(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    rows: list[dict[str, Any]] = []
    names: list[str] = []
    with io.TextIOWrapper(open_text(path), encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise UserError(f"{path}:{number}: not a JSON object: {error}") from error
            if not isinstance(row, dict):
                raise UserError(f"{path}:{number}: expected a JSON object, got {line.strip()[:40]}")
            rows.append(row)
            if len(rows) == BATCH_ROWS:
                yield _json_batch(rows, names, columns)
                rows = []
    if rows:
        yield _json_batch(rows, names, columns)


def _json_batch(rows: list[dict[str, Any]], names: list[str], columns: Sequence[str] | None) -> pa.RecordBatch:
    for row in rows:
        names.extend(name for name in row if name not in names)
    wanted = names if columns is None else [name for name in columns if name in names]
    arrays = []
    for name in wanted:
        values = [row.get(name) for row in rows]
        try:
            arrays.append(pa.array(values))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            arrays.append(pa.array([_as_text(value) for value in values], pa.string()))
    return pa.record_batch(arrays, names=wanted)


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _relative(path: Path) -> str:
    return str(path.relative_to(path.anchor)) if path.anchor else str(path)


def _is_table(path: Path) -> bool:
    try:
        table_format(path)
    except UserError:
        return False
    return not path.name.startswith((".", "_"))


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (nor a folder {path.parent})"
    close = get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, UnicodeDecodeError) or "UTF8" in text or "UTF-8" in text:
        return "it is not UTF-8 text; convert it, for example with: iconv -f latin1 -t utf8"
    return text
