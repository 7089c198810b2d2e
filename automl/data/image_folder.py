"""A folder with a folder of image files for each class, read as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

IMAGE_FOLDER = "image_folder"
ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
BATCH_FILES = 256


def image_files(folder: Path) -> Iterator[Path]:
    """The image files below a folder, in order; hidden ones are left out."""
    for path in sorted(folder.rglob("*")):
        if is_image(path) and path.is_file():
            yield path


def is_image(path: Path) -> bool:
    """Whether a file is an image by its name, and not hidden."""
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".")


def read_image_folder(folder: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """Rows with `image` (the file's bytes), `label` (the folder it lies in) and `file`, a few hundred at a time."""
    whole = list(image_files(folder))
    for start in range(0, len(whole), BATCH_FILES):
        files = whole[start : start + BATCH_FILES]
        found = {
            "image": pa.array([file.read_bytes() for file in files], pa.large_binary()),
            "label": pa.array([file.parent.name for file in files], pa.large_string()),
            "file": pa.array([str(file.relative_to(folder)) for file in files], pa.large_string()),
        }
        names = [name for name in found if columns is None or name in columns]
        yield pa.record_batch([found[name] for name in names], names=names)
