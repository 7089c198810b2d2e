"""Where prepared rows came from: a file, and the line or the row there, as an editor counts them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc

from automl.data.csv_rows import HEADER, decoded, has_quotes_or_long_lines, rows_of
from automl.data.formats import IMAGE_FOLDER, delimiter, lines_of, table_format
from automl.data.image_folder import survey
from automl.data.parts import open_split
from automl.data.text_tables import json_lines
from automl.space import UserError

SCHEMA = pa.schema([("file", pa.int32()), ("row", pa.int64())])
FILES = "files"  # of the schema's metadata: the paths and the states of the files, as JSON


class OriginWriter:
    """Writes the origins of a split's rows: of each the number of its file and the row there, from 0."""

    def __init__(self, folder: Path, split: str, files: Sequence[tuple[str, list[int]]]) -> None:
        self._sink = pa.OSFile(str(_path(folder, split)), "wb")
        self._writer = pa.ipc.new_file(self._sink, SCHEMA.with_metadata({FILES: json.dumps(list(files))}))

    def __enter__(self) -> OriginWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._sink.close()

    def write(self, file: pa.Array, row: pa.Array) -> None:
        """Add rows: `file` int32 and `row` int64 of the same length."""
        self._writer.write_batch(pa.record_batch([file, row], schema=SCHEMA))


def describe_files(files: Sequence[Path]) -> list[tuple[str, list[int]]]:
    """The paths of files and what changes with each, as origins keep them; looks through folders of images."""
    return [(str(file), _state(file)) for file in files]


def find_origins(source: Path, split: str, rows: Sequence[int]) -> list[str] | None:
    """Where rows (from 0) of a prepared split lie, as `origins_of` has it.

    None where the data was prepared before origins were kept, or a file has gone or changed since.
    """
    if not _path(source, split).exists():
        return None
    table = open_split(_path(source, split))
    described = json.loads(table.schema.metadata[FILES.encode()])
    try:
        if any(_state(Path(file)) != state for file, state in described):
            return None
        return origins_of([file for file, _ in described], table, rows)
    except (OSError, UserError):
        return None


def origins_of(files: Sequence[str], table: pa.Table, rows: Sequence[int]) -> list[str]:
    """Of rows (from 0) of a table with `file` and `row`: `a.csv, line 17`, `a.parquet, row 16`, `images/cat/3.png`.

    Raises OSError or UserError where a file cannot be read any more.
    """
    chosen = pa.array(rows, pa.int64())
    numbers, found = (table.column(name).take(chosen).to_pylist() for name in ("file", "row"))
    words = {
        number: row_places(
            Path(files[number]), [row for each, row in zip(numbers, found, strict=True) if each == number]
        )
        for number in set(numbers)
    }
    return [_named(Path(files[each]), words[each][row]) for each, row in zip(numbers, found, strict=True)]


def row_places(path: Path, rows: Sequence[int]) -> dict[int, str]:
    """What an editor calls rows (from 0) of a file: `line 3` of CSV and JSON Lines, else `row 3`; files of a folder.

    Raises OSError or UserError where the file cannot be read.
    """
    kind = table_format(path)
    if kind == IMAGE_FOLDER:
        files = survey(path).labelled
        return {row: str(files[row]) if row < len(files) else f"row {row + 1}" for row in rows}
    if kind not in ("csv", "tsv", "jsonl"):
        return {row: f"row {row + 1}" for row in rows}
    lines = _lines(path, kind, set(rows))
    return {row: f"line {lines[row]}" if row in lines else f"row {row + 1}" for row in rows}


def _lines(path: Path, kind: str, rows: set[int]) -> dict[int, int]:
    """The line (from 1) where each of these rows begins; the file is read no farther than the last of them."""
    numbered = _rows_of_one_line(path, kind) if kind == "jsonl" or not has_quotes_or_long_lines(path) else _csv(path)
    found: dict[int, int] = {}
    last = max(rows, default=-1)
    for row, line in numbered:
        if row in rows:
            found[row] = line
        if row >= last:
            break
    return found


def _rows_of_one_line(path: Path, kind: str) -> Iterator[tuple[int, int]]:
    if kind == "jsonl":
        yield from enumerate(line for line, _ in json_lines(path))
        return
    with decoded(path) as file:
        filled = (line for line, content in enumerate(lines_of(file), start=1) if content.strip("\r\n"))
        yield from enumerate(filled, start=HEADER)


def _csv(path: Path) -> Iterator[tuple[int, int]]:
    with decoded(path) as file:
        for row, raw in enumerate(rows_of(file, delimiter(path)), start=HEADER):
            yield row, raw.line


def _named(file: Path, place: str) -> str:
    return str(file / place) if file.is_dir() else f"{file}, {place}"


def _state(file: Path) -> list[int]:
    """What changes with a file; of a folder of images how many there are."""
    if file.is_dir():
        return [len(survey(file).labelled)]
    found = file.stat()
    return [found.st_size, found.st_mtime_ns]


def _path(folder: Path, split: str) -> Path:
    return folder / f"origins-{split}.arrow"


def origin_columns(file: int, rows: npt.NDArray[np.int64]) -> Mapping[str, pa.Array]:
    """The two columns of rows (from 0) of one file."""
    return {"file": pa.array(np.full(len(rows), file, dtype=np.int32)), "row": pa.array(rows, pa.int64())}
