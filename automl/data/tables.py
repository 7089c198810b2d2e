"""Tables on disk, read and written in the order of their rows: Parquet, CSV, JSON Lines, Arrow; text also gzipped."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from automl.data.files import replace_atomically
from automl.data.image_folder import IMAGE_FOLDER, image_files, read_image_folder
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
    """parquet, csv, tsv, jsonl or arrow, by the file's ending (`.gz` aside), or image_folder.

    Raises UserError for another one.
    """
    if path.is_dir():
        return IMAGE_FOLDER
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
            if not inside and next(image_files(path), None) is not None:
                inside = [path]
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
    """Raise UserError where a table lacks one of the `wanted` columns, naming the nearest, or has it twice."""
    require_names(path, wanted, column_names(path))


def require_names(path: Path, wanted: Sequence[str], there: Sequence[str]) -> None:
    """The same of a table whose columns are known."""
    for name in wanted:
        if there.count(name) > 1:
            raise UserError(f"{path} has {there.count(name)} columns {name!r}; rename all but one")
        if name not in there:
            if not there:
                raise UserError(f"{path} has no rows")
            close = get_close_matches(name, there, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            if len(there) == 1 and ";" in there[0]:
                hint = "; its columns are separated by semicolons, expected commas"
            raise UserError(f"{path} has no column {name!r}{hint} (it has {', '.join(map(repr, there[:20]))})")


def read_batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Rows of a table in batches, in order; with `columns`, only those that it has of them.

    CSV columns are text as they stand; JSON Lines keep their types where a column has one, else text. Raises
    UserError where the file is damaged or not UTF-8.
    """
    kind = table_format(path)
    readers = {
        "parquet": _read_parquet,
        "arrow": _read_arrow,
        "jsonl": _read_json_lines,
        IMAGE_FOLDER: read_image_folder,
    }
    try:
        for batch in readers.get(kind, _read_csv)(path, columns):
            yield _sound(batch)
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {_reason(error, path, kind)}") from error


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table in the format of the file's ending, whole or not at all; raises UserError for another ending."""
    kind = table_format(path)
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with replace_atomically(path) as temporary, opener(temporary, "wb") as file:
        if kind == "parquet":
            pa.parquet.write_table(table, file)
        elif kind == "arrow":
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
        elif kind == "jsonl":
            for batch in table.to_batches(max_chunksize=BATCH_ROWS):
                for row in batch.to_pylist():
                    file.write((json.dumps(row, ensure_ascii=False, default=str) + "\n").encode())
        else:
            pa.csv.write_csv(table, file, pa.csv.WriteOptions(delimiter=_delimiter(path)))


def _sound(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch, looked through: reading on in a damaged one can end the process."""
    batch.validate(full=True)
    batch.rename_columns(batch.schema.names)  # raises where a name is not UTF-8
    return batch


def open_text(path: Path) -> Any:
    """A text table's bytes, unpacked where it ends in `.gz`."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rb")


def _read_parquet(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    with pa.parquet.ParquetFile(path) as file:
        names = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
        for group in range(file.num_row_groups):  # one at a time: all at once, the memory grows with the file
            yield from file.iter_batches(batch_size=BATCH_ROWS, columns=names, row_groups=[group])


def _read_csv(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    with open_text(path) as file:
        if not any(line.strip() for line in file):
            return
    options = pa.csv.ReadOptions(block_size=BLOCK_BYTES)
    parse = pa.csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True)
    # Two looks at the file: the names of its columns first, so that all of them can be read as text. The file is
    # opened by Arrow: its threads may outlive the reader, and one that holds a Python file at exit aborts the process.
    packed = "gzip" if path.suffix == ".gz" else None
    with pa.input_stream(str(path), compression=packed) as file:
        names = pa.csv.open_csv(file, read_options=options, parse_options=parse).schema.names
    wanted = names if columns is None else [name for name in columns if name in names]
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), include_columns=wanted, strings_can_be_null=False
    )
    with pa.input_stream(str(path), compression=packed) as file:
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
            except (ValueError, RecursionError) as error:
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
    try:
        for row in rows:
            names.extend(name for name in row if name not in names)
        wanted = names if columns is None else [name for name in columns if name in names]
        return pa.record_batch([_json_column([row.get(name) for row in rows]) for name in wanted], names=wanted)
    except UnicodeEncodeError:  # half of a surrogate pair, as truncation leaves it: no UTF-8 can say that
        rows = [_without_surrogates(row) for row in rows]
        names[:] = _without_surrogates(names)
        return _json_batch(rows, names, columns)


def _json_column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([_as_text(value) for value in values], pa.string())


def _without_surrogates(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


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


def _delimiter(path: Path) -> str:
    return "\t" if table_format(path) == "tsv" else ","


def _reason(error: Exception, path: Path, kind: str) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if kind in ("parquet", "arrow"):
        return text
    with suppress(OSError, EOFError, zlib.error), open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return "it is UTF-16 text; convert it to UTF-8, for example with: iconv -f utf-16 -t utf-8"
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as bad:
                byte = f"0x{line[bad.start]:02x}"
                return (
                    f"line {number} is not UTF-8 text (byte {byte}); convert the file, for example with: "
                    "iconv -f latin1 -t utf-8"
                )
    return text
