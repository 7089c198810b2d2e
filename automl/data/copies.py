"""Copies of folders in a store, in this machine's cache: they hold what the store holds, and not for ever."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

DRIVEN = "driven"  # the folder with the copies that drivers work on
KEPT_SECONDS = 7 * 24 * 3600.0  # after its last use a copy is removed
_held: dict[Path, int] = {}  # the copies that this process uses, until its end


def use_copy(folder: Path) -> Path:
    """Make `folder`, of which this process has a use until its end; copies beside it that nobody uses are removed.

    Those are the folders whose last use is a week ago and that no process holds (flock). A link is not followed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if folder not in _held or not _is_same(folder, _held[folder]):
        _held[folder] = hold(folder)
    os.utime(folder)
    remove_unused(folder.parent, KEPT_SECONDS)
    return folder


def remove_unused(parent: Path, seconds: float) -> None:
    """Remove the folders of `parent` that were last used so long ago and that no process holds."""
    with suppress(OSError):
        for entry in list(os.scandir(parent)):
            with suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    continue
                if time.time() - entry.stat(follow_symlinks=False).st_mtime >= seconds:
                    remove_if_unused(Path(entry.path))


def hold(folder: Path) -> int:
    """Let no process remove `folder`, which is made where it is not there, before the descriptor given is closed."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_SH)
                if _is_same(folder, lock):
                    return lock
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)


def remove_if_unused(folder: Path) -> bool:
    """Remove `folder` unless a process holds it; whether it is gone."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return not folder.exists()
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_same(folder, lock):
            shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return not folder.exists()


def files_in(folder: Path) -> Iterator[str]:
    """The names, with slashes, of all files in a folder, links among them; no link is followed."""
    for place, _, files in os.walk(folder, followlinks=False):
        for file in files:
            yield (Path(place) / file).relative_to(folder).as_posix()


def remove_missing(folder: Path, names: set[str], wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Remove those files of a copy that are not among `names` and whose names are `wanted`, and folders left empty.

    Of a link it is the link that is removed, and no folder behind one is looked into.
    """
    for name in list(files_in(folder)):
        if name not in names and wanted(name):
            (folder / name).unlink(missing_ok=True)
            with suppress(OSError):  # the first that is not empty
                for parent in (folder / name).relative_to(folder).parents[:-1]:
                    (folder / parent).rmdir()


def _is_same(folder: Path, lock: int) -> bool:
    try:
        return os.path.samestat(os.lstat(folder), os.fstat(lock))
    except OSError:
        return False
