"""Folders in a store that every node of a cluster reaches by a URL, such as s3://bucket/runs."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import fsspec
import pyarrow as pa
import pyarrow.fs

from automl.data.files import replace_atomically
from automl.space import UserError

T = TypeVar("T")

PATIENCE_SECONDS = 120.0  # a store that does not answer is tried again for so long
PAUSE_SECONDS = 1.0  # before the first of these times; then twice as long each time

_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<root>[^?#]+)", re.IGNORECASE)


def is_url(place: str) -> bool:
    """Whether `place` is a URL and no path."""
    return "://" in place


@dataclass(frozen=True)
class Store:
    """The folder at `url`, which need not exist; names are relative to it, with slashes.

    A method tries again for `patience` seconds where the store does not answer, then raises OSError. A file is in the
    store whole or not at all.
    """

    url: str
    patience: float = PATIENCE_SECONDS

    def put(self, path: Path, name: str) -> None:
        """Copy the file `path` into the store."""
        there, root = _open(self.url)
        self._patiently(lambda: pyarrow.fs.copy_files(str(path), f"{root}/{name}", _HERE, there))

    def get(self, name: str, path: Path) -> bool:
        """Copy a file of the store to `path`; False where it has none of this name."""
        there, root = _open(self.url)
        if not self.has(name):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as temporary:
            self._patiently(lambda: pyarrow.fs.copy_files(f"{root}/{name}", str(temporary), there, _HERE))
        return True

    def read(self, name: str, read: Callable[[pa.NativeFile], T]) -> T:
        """What `read` makes of a file, opened for random access; raises FileNotFoundError where there is none."""
        there, root = _open(self.url)

        def ask() -> T:
            with there.open_input_file(f"{root}/{name}") as file:
                return read(file)

        return self._patiently(ask)

    def names(self, under: str = "") -> list[str]:
        """The names of all files in the folder `under`, in order; may raise UserError as `states` does."""
        return list(self.states(under))

    def states(self, under: str = "") -> dict[str, str]:
        """Of all files in the folder `under`, in order of their names, what changes when they do, by one request.

        Raises UserError for a name that would lead out of a folder into which it is copied.
        """
        there, root = _open(self.url)
        wanted = pyarrow.fs.FileSelector(f"{root}/{under}".rstrip("/"), allow_not_found=True, recursive=True)
        found = self._patiently(lambda: there.get_file_info(wanted))
        files = {info.path[len(root) + 1 :]: _state(info) for info in found if info.type == pyarrow.fs.FileType.File}
        for name in files:
            if not {"", ".", ".."}.isdisjoint(name.split("/")):
                raise UserError(f"{self.url} has a file whose name leads out of its folder: {name!r}")
        return dict(sorted(files.items()))

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return bool(self._look(name).type == pyarrow.fs.FileType.File)

    def size(self, name: str) -> int:
        """The bytes of a file; 0 where there is none."""
        return int(self._look(name).size or 0)

    def state(self, name: str) -> str | None:
        """What changes when a file does, its size and its time; None where there is no such file."""
        found = self._look(name)
        return _state(found) if found.type == pyarrow.fs.FileType.File else None

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        there, root = _open(self.url)
        with suppress(FileNotFoundError):
            self._patiently(lambda: there.delete_file(f"{root}/{name}"))

    def _look(self, name: str) -> pyarrow.fs.FileInfo:
        there, root = _open(self.url)
        return self._patiently(lambda: there.get_file_info(f"{root}/{name}"))

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask until there is an answer; raises OSError where there is none for `patience` seconds."""
        give_up, pause = time.monotonic() + self.patience, PAUSE_SECONDS
        while True:
            try:
                return ask()
            except FileNotFoundError:
                raise
            except OSError as error:
                if time.monotonic() + pause > give_up or _for_good(error):
                    raise OSError(errno.EIO, str(error).partition(" (Request ID")[0], self.url) from error
            time.sleep(pause)
            pause *= 2


_HERE = pyarrow.fs.LocalFileSystem()


@lru_cache(maxsize=64)
def _open(url: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """What reads and writes at a URL, and the folder there; raises UserError for a URL that will not do."""
    found = _URL.match(url)
    if found is None:
        raise UserError(f"{url!r} is no URL of a store; expected one such as s3://bucket/runs")
    if "@" in found["root"].partition("/")[0]:
        raise UserError("a URL that holds credentials would be written down with the run; give them in the environment")
    try:
        there, root = pyarrow.fs.FileSystem.from_uri(url)
    except (pa.ArrowException, ImportError, ValueError) as error:
        try:
            system, root = fsspec.url_to_fs(url)
        except (ImportError, ValueError):
            raise UserError(f"cannot use the store {url}: {error}") from error
        there = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(system))
    return there, root.rstrip("/")


def _state(file: pyarrow.fs.FileInfo) -> str:
    return f"{file.size} {file.mtime_ns}"


def _for_good(error: OSError) -> bool:
    """Whether a store's answer will be the same the next time."""
    return any(word in str(error) for word in ("NO_SUCH_BUCKET", "ACCESS_DENIED", "INVALID_ACCESS_KEY", "SIGNATURE"))
