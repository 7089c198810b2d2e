"""Folders as one piece of bytes, and back."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from automl.data.bounds import DOWNLOAD_BYTES, DOWNLOAD_FILES
from automl.space import UserError

CHECKPOINTS = ("checkpoint.pt",)  # of no use but to go on with the run


def archive(folder: Path, files: Iterable[Path]) -> bytes:
    """Files of a folder as a tar, gzipped."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=3) as tar:
        for path in files:
            with suppress(FileNotFoundError):  # removed since it was listed: a run may be archived while it goes on
                tar.add(path, arcname=path.relative_to(folder).as_posix(), recursive=False)
    return buffer.getvalue()


def wanted(place: Path) -> Iterator[Path]:
    """The files of a run that whoever reads it wants."""
    for path in sorted(place.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(place).parts)
        if path.is_file() and not path.is_symlink() and not hidden and is_wanted(path.name):
            yield path


def is_wanted(name: str) -> bool:
    """Whether a file of this name is more than a checkpoint or a lock."""
    return name not in CHECKPOINTS and not name.endswith(".lock")


def unpack(content: bytes, folder: Path) -> None:
    """Write an archive's files into `folder`; raises UserError where one would lie outside of it, or for too much."""
    written, files = 0, 0

    def counted(member: tarfile.TarInfo, place: str) -> tarfile.TarInfo:
        nonlocal written, files
        written, files = written + member.size, files + 1
        if written > DOWNLOAD_BYTES.value():
            raise DOWNLOAD_BYTES.exceeded("the cluster's answer unpacks to")
        if files > DOWNLOAD_FILES.value():
            raise DOWNLOAD_FILES.exceeded("the cluster's answer has", "files")
        kept = tarfile.data_filter(member, place)
        return kept.replace(mode=None, deep=False)  # type: ignore[arg-type]  # without one the umask decides

    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r|gz") as tar:  # a stream: one member after another
            tar.extractall(folder, filter=counted)
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"the cluster's answer is not unpacked: {error}") from error
