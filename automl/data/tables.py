"""Tables on disk, read and written in the order of their rows: Parquet, CSV, JSON Lines, Arrow; text also packed."""

from __future__ import annotations

import codecs
import csv
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from automl.data.bounds import COLUMNS
from automl.data.files import replace_atomically
from automl.data.folders import Unused, walk
from automl.data.formats import FORMATS, IMAGE_FOLDER, delimiter, is_table, lines_of, open_text, packing, table_format
from automl.data.image_folder import is_image, read_image_folder
from automl.data.remote import fetch_files, fetch_folder, find_remote, is_glob, path_of
from automl.data.store import is_url
from automl.data.text_tables import BATCH_ROWS, csv_names, json_names, read_csv, read_json_lines
from automl.data.unpacked import bounded, parquet_source, read_groups, require_sound_frames
from automl.space import UserError
from automl.space.urls import redacted, redacted_text


def find_files(paths: Sequence[str]) -> list[Path]:
    """The files that paths, folders, globs and URLs of them name, each once; those at URLs are fetched.

    Raises UserError where one names nothing or cannot be fetched.
    """
    found: list[Path] = []
    for text in paths:
        if is_url(text):
            found.extend(_fetched(text))
            continue
        path = Path(text)
        if path.is_dir():
            found.extend(_files_in(path))
        elif path.is_file():
            found.append(path)
        elif any(character in text for character in "*?["):
            if not (matches := matching(path)):
                raise UserError(f"no file matches {text}")
            found.extend(matches)
        else:
            raise UserError(f"there is no file {text}{_nearest_file(path)}")
    for path in found:
        table_format(path)
    return list(dict.fromkeys(found))


def matching(pattern: Path) -> list[Path]:
    """The files that a pattern fits, in order; folders that it begins with and that there are stand for themselves."""
    root, parts = Path(pattern.anchor or "."), list(pattern.parts[1:] if pattern.anchor else pattern.parts)
    while len(parts) > 1 and (root / parts[0]).is_dir():
        root /= parts.pop(0)
    return sorted(match for match in root.glob("/".join(parts)) if match.is_file())


def _files_in(folder: Path) -> list[Path]:
    """The tables below a folder, or the folder itself where it has images instead."""
    endings: dict[str, int] = {}
    tables = []
    for file in walk(folder, Unused()):
        if is_table_below(file):
            tables.append(folder / file)
        ending = file.suffix.lower() or "no ending"
        endings[ending] = endings.get(ending, 0) + 1
    if tables:
        return tables
    if any(is_image(Path(f"x{ending}")) for ending in endings):
        return [folder]
    there = ", ".join(f"{count:,} with {ending}" for ending, count in list(endings.items())[:5])
    raise UserError(
        f"the folder {folder} has no file that ends in {', '.join(FORMATS)}, nor an image"
        f" (it has {f'files: {there}' if there else 'no file'})"
    )


def is_table_below(file: Path) -> bool:
    """Whether a file of a folder, relative to it, is a table, neither it nor a folder on the way there hidden."""
    return is_table(file) and not any(part.startswith((".", "_")) for part in file.parts)


def column_names(path: Path, *, damaged: bool = False) -> list[str]:
    """The columns of a table; none where it has no rows. Raises UserError where it cannot be read.

    Of JSON Lines they are those of the first rows; where the file may be `damaged`, of those that can be read.
    """
    kind = table_format(path)
    if kind in ("csv", "tsv") or (kind == "jsonl" and damaged):
        with reading(path):
            return json_names(path) if kind == "jsonl" else csv_names(path)
    for batch in read_batches(path):
        return list(batch.schema.names)
    return []


def require_columns(paths: Sequence[Path], wanted: Sequence[str], *, damaged: bool = False) -> None:
    """Raise UserError where a table lacks one of the `wanted` columns, naming the nearest, or has it twice.

    Tables without rows may have any columns, where there is another; with `damaged` they may have rows that cannot be
    read.
    """
    found = {path: column_names(path, damaged=damaged) for path in paths}
    for path, names in found.items():
        if names:
            require_names(path, wanted, names)
    if not any(found.values()):
        raise UserError(f"{paths[0]} has no rows")


def require_names(path: Path, wanted: Sequence[str], there: Sequence[str]) -> None:
    """The same of a table whose columns are known."""
    for name in wanted:
        if there.count(name) > 1:
            raise UserError(f"{path} has {there.count(name)} columns {name!r}; rename all but one")
        if name not in there:
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
    readers: dict[str, Callable[..., Iterator[pa.RecordBatch]]] = {
        "parquet": _read_parquet,
        "arrow": _read_arrow,
        "csv": read_csv,
        "tsv": read_csv,
        "jsonl": read_json_lines,
        IMAGE_FOLDER: read_image_folder,
    }
    with reading(path):
        for batch in readers[kind](path, columns):
            yield batch if kind in ("parquet", "arrow") else _sound(batch)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What is damaged in the file `path` that the block reads is a UserError that says so."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise UserError(f"cannot read {path}: {_reason(error, path, table_format(path))}") from error


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table in the format of the file's ending, whole or not at all; raises UserError for another ending."""
    kind = table_format(path)
    with (
        replace_atomically(path) as temporary,
        pa.output_stream(pa.OSFile(os.fsencode(temporary), "wb"), compression=packing(path)) as file,
    ):
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
            pa.csv.write_csv(table, file, pa.csv.WriteOptions(delimiter=delimiter(path)))


def _sound(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch, looked through: reading on in a damaged one can end the process."""
    batch.validate(full=True)
    batch.rename_columns(batch.schema.names)  # raises where a name is not UTF-8
    return batch


def _read_parquet(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    with pa.parquet.ParquetFile(parquet_source(path)) as file:
        names = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
        yield from bounded(path, map(_sound, read_groups(path, file, names, BATCH_ROWS)))


def _read_arrow(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    require_sound_frames(path)
    with pa.memory_map(os.fsencode(path)) as source:
        try:
            reader: Any = pa.ipc.open_file(source)
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        except pa.ArrowInvalid:
            source.seek(0)
            batches = iter(pa.ipc.open_stream(source))
        yield from bounded(path, (_selected(_sound(batch), columns) for batch in batches))


def _selected(batch: pa.RecordBatch, columns: Sequence[str] | None) -> pa.RecordBatch:
    COLUMNS.require(batch.num_columns, "an Arrow file has")
    return batch if columns is None else batch.select([name for name in columns if name in batch.schema.names])


def _fetched(url: str) -> list[Path]:
    """Copies of the tables, or of the folder of images, that a URL names; what is neither is not fetched."""
    try:
        named = find_remote(url)
        tables = {each: state for each, state in named.items() if is_table(Path(path_of(each)))}
        images = {each: state for each, state in named.items() if is_image(Path(path_of(each)))}
        if images and not tables and url not in images and not is_glob(url):
            return [fetch_folder(url, images)]
        if not tables:
            raise UserError(f"{redacted(url)} names no file that ends in {', '.join(FORMATS)}")
        return fetch_files(url, tables)
    except OSError as error:
        raise UserError(f"cannot read {redacted(url)}: {redacted_text(error.strerror or str(error))}") from error


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (nor a folder {path.parent})"
    close = get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def _reason(error: Exception, path: Path, kind: str) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if kind in ("parquet", "arrow"):
        return text
    with suppress(OSError, EOFError, zlib.error), open_text(path) as file:
        for number, line in enumerate(lines_of(file), start=1):
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
