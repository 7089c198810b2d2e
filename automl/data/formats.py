"""Kinds of files by their endings, and text files opened whatever they are packed with."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa

from automl.data.image_folder import IMAGE_FOLDER
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
PACKED = {".gz": "gzip", ".zst": "zstd"}
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
    """A text table's bytes, unpacked where it is packed."""
    packed = packing(path)
    if packed == "gzip":
        return gzip.open(path, "rb")
    return path.open("rb") if packed is None else io.BufferedReader(pa.input_stream(str(path), compression=packed))


def delimiter(path: Path) -> str:
    """What separates the cells of a CSV or TSV file."""
    return "\t" if table_format(path) == "tsv" else ","
