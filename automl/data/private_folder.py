"""Temporary folders that only their user can enter, and that the next start removes where their process was killed."""

from __future__ import annotations

import fcntl
import grp
import logging
import os
import pwd
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from automl.space import UserError

PREFIX = "automl."
MARK = "in-use-while-locked"  # a file in each such folder: no folder of the user's own is taken for one
LONGEST_PATH = 4096  # bytes
# In which Ray can have its Unix sockets, whose paths have at most 107 bytes, 103 on macOS. Ray 2.60 adds /ray, a
# session's name with a process id of at most 7 digits (42 bytes), and /sockets/dash_TaskEventsHead.
LONGEST_WITH_RAY = (103 if sys.platform == "darwin" else 107) - len("/ray/") - 42 - len("/sockets/dash_TaskEventsHead")
_OVERFLOW = Path("/proc/sys/kernel/overflowuid")  # the owner of what belongs to nobody in a container


@contextmanager
def private_folder(*, longest: int = LONGEST_PATH, first: Sequence[str] = ()) -> Iterator[Path]:
    """A new folder of mode 0700 for the time of the block, whose path has at most `longest` bytes.

    It lies in the first folder that will do: those of `first`, `$TMPDIR`, /tmp, /var/tmp or `$XDG_RUNTIME_DIR`. While
    the block runs the folder itself is locked (flock), which also keeps systemd-tmpfiles from it. What processes of
    this user that are gone have left there is removed. Raises UserError where no folder will do.
    """
    path, lock = _make([*first, *_usual()], longest)
    try:
        yield path
    finally:
        _empty(path)
        os.close(lock)


def _usual() -> list[str]:
    named = [os.environ.get("TMPDIR", ""), "/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR", "")]
    return [place for place in named if place]


def _make(places: Sequence[str], longest: int) -> tuple[Path, int]:
    """The folder and the descriptor that holds its lock."""
    refused: dict[str, str] = {}
    for place in dict.fromkeys(places):
        reason = _reason_against(place)
        if reason is None:
            _remove_leftovers(Path(place))
            if len(os.fsencode(place.rstrip("/"))) + len(f"/{PREFIX}xxxxxxxx") > longest:
                reason = "the path is too long for sockets"
            else:
                try:
                    made = _make_in(place)
                except OSError as error:
                    reason = error.strerror or type(error).__name__
        if reason is None:
            if refused and any("too long" not in why for why in refused.values()):
                _say(f"temporary files go to {place} ({_listed(refused)})")
            return made
        refused[place] = reason
    reasons = _listed(refused)
    raise UserError(f"there is no folder for temporary files that only you can change; set TMPDIR to one ({reasons})")


@lru_cache  # once
def _say(sentence: str) -> None:
    logging.getLogger(__name__).warning("automl: %s", sentence)


def _listed(refused: Mapping[str, str]) -> str:
    return "; ".join(f"{place}: {reason}" for place, reason in refused.items())


def _reason_against(place: str) -> str | None:
    """Why others could put a folder of theirs in the place of one that is made here; None where they could not."""
    if not Path(place).is_absolute():
        return "not an absolute path"
    trusted = {0, os.geteuid()}
    with suppress(OSError, ValueError):
        trusted.add(int(_OVERFLOW.read_text()))
    try:
        real = Path(place).resolve(strict=True)
        for each in (real, *real.parents):
            state = each.stat()
            if not stat.S_ISDIR(state.st_mode):
                return "not a folder"
            if state.st_uid not in trusted:
                return f"{each} is another user's"
            open_to_others = state.st_mode & 0o002 or (state.st_mode & 0o020 and not _is_own_group(state.st_gid))
            if open_to_others and not state.st_mode & stat.S_ISVTX:
                return f"others may rename what is in {each}"
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _is_own_group(group: int) -> bool:
    """Whether only this user is in a group, as in that of the same name which many systems give to each user."""
    try:
        known, name = grp.getgrgid(group), pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return known.gr_name == name and set(known.gr_mem) <= {name}


def _make_in(place: str) -> tuple[Path, int]:
    """A new folder, locked. Raises OSError where there can be none."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        lock = -1
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(lock, 0o700)
            (path / MARK).touch()
            state = os.lstat(path)
        except (BlockingIOError, FileNotFoundError):  # a start at the same time took it for a leftover
            if lock >= 0:
                os.close(lock)
            continue
        except OSError:
            if lock >= 0:
                os.close(lock)
            _empty(path)
            raise
        if not os.path.samestat(state, os.fstat(lock)):
            os.close(lock)
            continue
        if state.st_uid != os.geteuid() or stat.S_IMODE(state.st_mode) & 0o777 != 0o700:
            os.close(lock)
            _empty(path)
            raise PermissionError(0, "its file system does not keep others out")
        return path, lock


def _remove_leftovers(place: Path) -> None:
    """Remove the private folders in `place` that no process holds any more; never another user's."""
    try:
        entries = [entry.path for entry in os.scandir(place) if entry.name.startswith(PREFIX)]
    except OSError:
        return
    for entry in entries:
        try:
            lock = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            state = os.fstat(lock)
            if state.st_uid == os.geteuid() and stat.S_IMODE(state.st_mode) == 0o700:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.lstat(entry), state):
                    if (Path(entry) / MARK).exists():
                        _empty(Path(entry))
                    else:  # killed before it was marked, or somebody's own
                        Path(entry).rmdir()
        except OSError:
            continue
        finally:
            os.close(lock)


def _empty(path: Path) -> None:
    """Remove a private folder, its mark last: one whose removal is interrupted is removed later."""
    with suppress(OSError):
        for child in path.iterdir():
            if child.name == MARK:
                continue
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child, ignore_errors=True)
            else:
                child.unlink(missing_ok=True)
        left = [child for child in path.iterdir() if child.name != MARK]
        if not left:
            (path / MARK).unlink(missing_ok=True)
            path.rmdir()
