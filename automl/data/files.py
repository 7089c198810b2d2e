"""Files and folders that are there whole or not at all, and folders that belong to one process."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from automl.space import UserError

ATTEMPTS = 20  # against others who put or remove the same folder at the same time


class TakenError(UserError):
    """Somebody else has this name already."""


@dataclass(frozen=True)
class OwnFolder:
    """A folder that one process has made for itself, and the parents it had to make for that, the outermost first."""

    path: Path
    parents: tuple[Path, ...]

    def remove(self) -> None:
        """Remove the folder; and of the parents those in which nobody else has put anything meanwhile."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):  # not empty, or gone
            for parent in reversed(self.parents):
                parent.rmdir()


def make_own_folder(path: Path) -> OwnFolder:
    """Make the folder `path`, which is then nobody else's: of several processes that ask at once only one gets it.

    Raises TakenError where there is something of this name, UserError where it cannot be made.
    """
    missing = tuple(folder for folder in reversed(path.absolute().parents) if not folder.exists())
    for attempt in range(1, ATTEMPTS + 1):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir()
            break
        except FileExistsError as error:
            if path.exists() or path.is_symlink():
                raise TakenError(f"{path} exists already") from error
            if attempt == ATTEMPTS:  # else it, or a parent, was removed meanwhile
                raise UserError(f"cannot make the folder {path}: {error.filename} is no folder") from error
        except OSError as error:
            if error.errno != errno.ENOENT or attempt == ATTEMPTS:  # a parent was removed, which was empty
                raise UserError(f"cannot make the folder {path}: {error.strerror}") from error
    return OwnFolder(path, missing)


def make_private(folder: Path) -> None:
    """Make a folder, and the parents that it lacks, for this user alone, whatever the umask; what is there stays."""
    for each in reversed([folder, *folder.parents]):
        if not each.is_dir():
            with suppress(FileExistsError):  # another process was faster, or it is no folder, which is found next
                each.mkdir(mode=0o700)
                each.chmod(0o700)


def require_replaceable(path: Path, *marks: str) -> None:
    """Raise UserError where `path` is something else than an empty folder or one with a file of one of these names.

    What a user names as output may be a folder with work of theirs, which `replace_folder` would remove.
    """
    if not path.exists() or any((path / mark).is_file() for mark in marks):
        return
    if not path.is_dir() or any(path.iterdir()):
        raise UserError(f"{path} exists already and is none of what is written there; name another --output")


def require_no_links_out(folder: Path) -> None:
    """Raise UserError where a link anywhere in `folder` leads out of it: what is written there would land elsewhere.

    This decides about every write into a folder that came from someone else.
    """
    inside = folder.resolve()
    waiting = [inside]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                if entry.is_symlink():
                    if not _leads_to(path).is_relative_to(inside):
                        name = path.relative_to(inside)
                        raise UserError(
                            f"{name} in {folder} is a link that leads out of it, to {path.readlink()}; nothing is "
                            "written there: remove the link"
                        )
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(path)


def _leads_to(link: Path) -> Path:
    try:
        return link.resolve()
    except (OSError, RuntimeError):  # links in a circle
        return Path(os.sep)


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what the block writes there takes the place of `path` at its end.

    The content is on the disk before the rename. Nothing is left behind, and `path` is as it was, where the block
    raises.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        _to_disk(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """The same for a folder: the block fills a temporary folder, which then takes the place of `path`.

    Of several processes that do so at once the last one's content stays. Modes follow the umask, whatever a library
    that writes there prefers.
    """
    temporary = _temporary(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        mode = stat.S_IMODE(temporary.stat().st_mode)  # which the umask, or the parent's default ACL, has decided
        for each in temporary.rglob("*"):
            if each.is_file():
                _set_mode(each, mode & 0o666)
                _to_disk(each)
            elif each.is_dir():
                _set_mode(each, mode)
        _take_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _set_mode(path: Path, mode: int) -> None:
    if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) != mode:
        with suppress(PermissionError):  # a file system that has no modes
            path.chmod(mode)


def _take_place(temporary: Path, path: Path) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        old = _temporary(path)
        with suppress(FileNotFoundError):
            path.replace(old)
        try:
            temporary.replace(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == ATTEMPTS:
                with suppress(OSError):
                    old.replace(path)
                raise
        else:
            return
        finally:
            shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Remove the temporary folders that killed writers of the folder `path` left beside it.

    Only where no other process can be writing `path`.
    """
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
