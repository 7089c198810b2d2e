"""Kinds of files by their endings, and text files opened whatever they are packed with."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from automl.data.bounds import UNPACKED_BYTES, UNPACKED_RATIO
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
IMAGE_FOLDER = "image_folder"  # a folder of image files, read as a table
PACKED = {".gz": "gzip", ".zst": "zstd"}
LINE_BYTES = 16 * 1024 * 1024  # of a line that are kept
SMALL_BYTES = 1 << 20  # a packed file of fewer is allowed as much as one of so many
TEXT_FORMATS = ("csv", "tsv", "jsonl")


def table_format(path: Path) -> str:
    """parquet, csv, tsv, jsonl or arrow, by the file's ending (`.gz` and `.zst` aside), or image_folder.

    Raises UserError for another one.
    """
    if path.is_dir():
        return IMAGE_FOLDER
    suffix = path.with_suffix("").suffix if packing(path) else path.suffix
    found = FORMATS.get(suffix.lower())
    if found is None or (packing(path) and found not in TEXT_FORMATS):
        raise UserError(f"{path}: unknown kind of file; expected one that ends in {', '.join(FORMATS)}")
    return found


def is_table(path: Path) -> bool:
    """Whether a file is a table by its name, and not hidden."""
    suffix = path.with_suffix("").suffix if packing(path) else path.suffix
    found = FORMATS.get(suffix.lower())
    known = found is not None and (not packing(path) or found in TEXT_FORMATS)
    return known and not path.name.startswith((".", "_"))


def table_ending(path: Path) -> str:
    """The ending of a table's name, in lower case: `.parquet`, `.csv.gz`."""
    packed = path.suffix.lower() if packing(path) else ""
    kind = (path.with_suffix("") if packed else path).suffix.lower()
    return f"{kind if kind in FORMATS else ''}{packed}"


def packing(path: Path) -> str | None:
    """How a text table is packed by its ending: gzip, zstd, or not at all."""
    return PACKED.get(path.suffix.lower())


def open_text(path: Path) -> Any:
    """A text table's bytes, unpacked where it is packed.

    Reading raises UserError where they are more than `$AUTOML_MAX_UNPACKED` or `$AUTOML_MAX_UNPACKED_RATIO` allow.
    """
    packed = packing(path)
    if packed is None:
        return path.open("rb")
    plain = gzip.GzipFile(path, "rb") if packed == "gzip" else _unpacked_by_arrow(path, packed)
    return io.BufferedReader(_Unpacked(plain, path), 1 << 20)


def _unpacked_by_arrow(path: Path, packed: str) -> Any:
    import pyarrow as pa  # which every command would else wait for

    return pa.input_stream(pa.OSFile(os.fsencode(path)), compression=packed)


def require_unpackable(path: Path) -> None:
    """Raise UserError for a packed file that is larger than `open_text` allows, before another reader unpacks it."""
    if packing(path):
        state = path.stat()
        _unpack_once(path, state.st_mtime_ns, state.st_size, UNPACKED_BYTES.value(), UNPACKED_RATIO.value())


def lines_of(file: Any, most: int = LINE_BYTES) -> Iterator[Any]:
    """The lines of a file, of a longer one only its first `most + 1` bytes (or characters)."""
    while line := file.readline(most + 1):
        if len(line) > most:
            rest = line
            while rest and rest[-1] not in (10, 13, "\n", "\r"):
                rest = file.readline(most)
        yield line


@lru_cache(maxsize=1024)
def _unpack_once(path: Path, *state: int) -> None:
    with open_text(path) as file:
        while file.read(1 << 22):
            pass


class _Unpacked(io.RawIOBase):
    """What is unpacked from a file, counted."""

    def __init__(self, plain: Any, path: Path) -> None:
        super().__init__()
        packed = max(path.stat().st_size, SMALL_BYTES)
        self._plain, self._path, self._read_bytes = plain, path, 0
        self._most, self._most_of_ratio = UNPACKED_BYTES.value(), UNPACKED_RATIO.value() * packed

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as one read reaches."""
        content = self._plain.read(len(buffer))
        buffer[: len(content)] = content
        self._read_bytes += len(content)
        if self._read_bytes > self._most:
            raise UNPACKED_BYTES.exceeded(f"{self._path} unpacks to")
        if self._read_bytes > self._most_of_ratio:
            raise UNPACKED_RATIO.exceeded(f"{self._path} unpacks to", "times its size")
        return len(content)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._plain.close()
        super().close()


def delimiter(path: Path) -> str:
    """What separates the cells of a CSV or TSV file."""
    return "\t" if table_format(path) == "tsv" else ","
