"""What a user names as a file of inputs: a table, a folder or files of images, or `-` for what comes on stdin."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from PIL import Image

from automl.data.formats import open_text
from automl.data.found import describe_folders
from automl.data.image_folder import BATCH_FILES, EMPTY, ENDINGS, NO_CLASS, read_content
from automl.data.modalities import MODALITIES, Modality
from automl.data.pixels import READ
from automl.data.store import is_url
from automl.data.tables import find_files, matching
from automl.results.input_rows import Window, read_inputs
from automl.space import UserError

STDIN = "-"
LOOKED_AT = 64 * 1024  # bytes of stdin that say what it is
PACKED = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}
TABLES = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"\xff\xff\xff\xff": ".arrow"}


@contextmanager
def local_file(given: str | Path, modality: Modality) -> Iterator[Path]:
    """The path that `given` names; of `-` a copy of stdin on disk, whose ending says what it holds.

    Its first bytes decide that: Parquet, Arrow, an image where the model takes images, JSON Lines where they begin with
    a brace, else CSV; texts also packed by gzip or zstd. In errors it is called stdin.
    """
    if given != STDIN:
        yield Path(given)
        return
    with TemporaryDirectory(prefix="automl-") as folder:
        path = Path(folder) / STDIN
        with path.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        named = path.with_name(f"stdin{_ending(path, modality)}")
        path.rename(named)
        try:
            yield named
        except UserError as error:
            said = str(error).replace(str(named), "stdin").replace(named.name, "stdin")
            if said.startswith("stdin has no column") and named.suffix in (".csv", ".tsv"):
                said += "; its first line is the names of the columns"
            raise UserError(said) from error


def _ending(path: Path, modality: Modality) -> str:
    with path.open("rb") as file:
        start = file.read(LOOKED_AT)
    if not start.strip():
        raise UserError("stdin is empty; expected rows to label: CSV, JSON Lines, Parquet or Arrow")
    for magic, ending in TABLES.items():
        if start.startswith(magic):
            return ending
    if modality is MODALITIES["image"]:
        with suppress(Exception), Image.open(path, formats=READ):  # whatever Pillow raises for what is none
            return ".png"
    packed = next((ending for magic, ending in PACKED.items() if start.startswith(magic)), "")
    if packed:
        named = path.with_name(f"packed{packed}")
        named.symlink_to(path)
        with suppress(OSError, EOFError, ValueError), open_text(named) as file:
            start = file.read(LOOKED_AT)
    return f"{_text_ending(start)}{packed}"


def _text_ending(start: bytes) -> str:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    first = text.partition(b"\n")[0]
    if text.startswith(b"{"):
        return ".jsonl"
    return ".tsv" if b"\t" in first and b"," not in first else ".csv"


def image_files(path: Path, modality: Modality) -> list[Path]:
    """The image files that a path or a pattern names, where it names no tables.

    Raises UserError where the model is asked about something else.
    """
    if is_url(str(path)) or path.is_dir():
        return []
    files = [path] if path.is_file() else matching(path) if any(each in str(path) for each in "*?[") else []
    if not files or any(file.suffix.lower() not in ENDINGS for file in files):
        return []
    if modality is not MODALITIES["image"]:
        raise UserError(
            f"{path}: unknown kind of file for this model: it is an image, the model is for {modality.plural}"
        )
    return files


def image_windows(files: Sequence[Path], modality: Modality, names: Sequence[str]) -> Iterator[Window]:
    """Image files as rows of a CSV file with these names."""
    for start in range(0, len(files), BATCH_FILES):
        some = files[start : start + BATCH_FILES]
        column = pa.array([read_content(file) for file in some], pa.large_binary())
        yield Window([[name] for name in names[start : start + BATCH_FILES]], *read_inputs(column, "", modality))


def single(path: Path) -> Path:
    """The one table or folder of images that a path names; raises UserError where it names several."""
    files = find_files([str(path)])
    if len(files) != 1:
        raise UserError(f"{path} names {len(files)} files; give one")
    return files[0]


def skipped_in(folder: Path) -> str | None:
    """What of a folder is not used, and why, in a sentence; None where all of it is."""
    if not folder.is_dir():
        return None
    (found,) = describe_folders({"train": [str(folder)], "validation": None, "test": None}).values()
    unused: Mapping[str, Any] = found["unused"]
    parts = []
    for reason, count in unused["counts"].items():
        if reason not in (NO_CLASS, EMPTY):
            examples = unused["examples"][reason]
            parts.append(f"{count:,} {reason} ({', '.join(examples)}{', ...' if count > len(examples) else ''})")
    return f"{folder}: skipped {'; '.join(parts)}" if parts else None
