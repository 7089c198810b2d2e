"""A folder with a folder of image files for each class, read as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from automl.data.folders import SHOWN, Unused, is_hidden, walk
from automl.data.image_paths import open_image
from automl.space import UserError

ENDINGS = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"} | {
    *(".ppm", ".pgm", ".pbm", ".pnm")
}
ENDING, NO_CLASS, EMPTY = "an ending that is not read", "in no class's folder", "a class's folder without an image"
SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}
BATCH_FILES = 256


@dataclass(frozen=True)
class ImageFolder:
    """The image files below a folder, relative to it, those that lie in a class's folder, and what is not used."""

    files: tuple[Path, ...]
    labelled: tuple[Path, ...]
    inner: tuple[str, ...]
    """The first names of folders within those of the classes, which are no classes."""
    unused: Unused

    @property
    def classes(self) -> dict[str, int]:
        """The folders at the top, which are the classes, with the images in each."""
        found: dict[str, int] = {}
        for file in self.labelled:
            found[file.parts[0]] = found.get(file.parts[0], 0) + 1
        return found

    def described(self) -> dict[str, Any]:
        """As JSON has it."""
        found = {"images": len(self.labelled), "classes": len(self.classes), "inner": list(self.inner)}
        return {**found, "unused": self.unused.described()}


def survey(folder: Path) -> ImageFolder:
    """Look through a folder of images. Links are followed; what is hidden or a system's own is not looked at."""
    unused = Unused()
    files: list[Path] = []
    tops: dict[str, bool] = {}
    for file in walk(folder, unused, tops=True):
        if len(file.parts) > 1:
            tops.setdefault(file.parts[0], False)
        if file.suffix.lower() not in ENDINGS:
            unused.note(f"{ENDING} ({file.suffix or 'none'})", str(file))
            continue
        files.append(file)
        if len(file.parts) > 1:
            tops[file.parts[0]] = True
        else:
            unused.note(NO_CLASS, str(file))
    with_folders = {entry.name for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name)}
    for name in sorted({*tops, *with_folders}):
        if not tops.get(name):
            unused.note(EMPTY, f"{name}/")
    labelled = tuple(file for file in files if len(file.parts) > 1)
    inner = list(dict.fromkeys(file.parts[1] for file in labelled if len(file.parts) > 2))[: SHOWN + 1]
    return ImageFolder(tuple(files), labelled, tuple(inner), unused)


def is_image(path: Path) -> bool:
    """Whether a file is an image by its name, and not hidden."""
    return path.suffix.lower() in ENDINGS and not is_hidden(path.name)


def read_image_folder(folder: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """Rows with `image` (the file's bytes), `label` and `file` (its path in the folder), a few hundred at a time.

    The label is the folder at the top in which a file lies, however deep; without `label` files have rows that lie in
    none, too. Raises UserError where the folders at the top are splits.
    """
    found = survey(folder)
    with_labels = columns is None or "label" in columns
    if with_labels:
        _require_classes(folder, found)
    whole = found.labelled if with_labels else found.files
    for start in range(0, len(whole), BATCH_FILES):
        files = whole[start : start + BATCH_FILES]
        values = {
            "image": pa.array([read_content(folder / file) for file in files], pa.large_binary()),
            "label": pa.array([file.parts[0] for file in files], pa.large_string()),
            "file": pa.array([str(file) for file in files], pa.large_string()),
        }
        names = [name for name in values if columns is None or name in columns]
        yield pa.record_batch([values[name] for name in names], names=names)


def read_content(file: Path) -> bytes:
    """A file's bytes; none, which no decoder takes, where it cannot be read."""
    try:
        return open_image(file)
    except (OSError, UserError):
        return b""


def _require_classes(folder: Path, found: ImageFolder) -> None:
    names = list(found.classes)
    if len(names) > 1 and {name.lower() for name in names} <= SPLITS:
        raise UserError(
            f"{folder} has a folder for each split, {' and '.join(names)}, where a folder for each class is expected; "
            f"name them: train: {folder / names[0]}"
        )
