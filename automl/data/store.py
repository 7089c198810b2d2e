"""Folders in a store that every node of a cluster reaches by a URL, such as s3://bucket/runs."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from automl.data.bounds import DOWNLOAD_BYTES, DOWNLOAD_FILES, DOWNLOAD_SECONDS
from automl.data.files import replace_atomically
from automl.data.names import checked_name
from automl.data.private_folder import private_folder
from automl.data.urls import WEB, is_url, require_allowed_url
from automl.space import UserError
from automl.space.urls import redacted, redacted_text

if TYPE_CHECKING:  # every command imports this module: what reaches a store is loaded for the first one
    import pyarrow as pa
    import pyarrow.fs

__all__ = ["PATIENCE_SECONDS", "Allowance", "Store", "is_url"]

T = TypeVar("T")

PATIENCE_SECONDS = 120.0  # a store that does not answer is tried again for so long
PAUSE_SECONDS = 1.0  # before the first of these times; then twice as long each time

# Of these kinds an error is one of the program, not of the store.
FAULTS = (
    *(TypeError, ValueError, LookupError, AttributeError, NameError, AssertionError),
    *(ImportError, NotImplementedError, MemoryError),
)

BLOCK_BYTES = 4 * 1024 * 1024  # read at once


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
        import pyarrow.fs

        (there, root), here = _open(self.url), pyarrow.fs.LocalFileSystem()
        self._patiently(lambda: pyarrow.fs.copy_files(str(path), f"{root}/{name}", here, there))

    def get(self, name: str, path: Path, allowance: Allowance | None = None) -> bool:
        """Copy a file of the store to `path`; False where it has none of this name.

        Raises UserError for a name that leads out of the store's folder, for more bytes than `allowance` has left
        (without one as many as `$AUTOML_MAX_DOWNLOAD`, whatever the store says of the size), and after
        `$AUTOML_DOWNLOAD_SECONDS`.
        """
        there, root = _open(self.url)
        checked_name(name, self.url)
        found, allowance = self._look(name), allowance or Allowance(self.url)
        if not found.is_file:
            return False
        allowance.require(int(found.size or 0))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(f"{redacted(self.url)} has a file that it also names as the folder of {name!r}") from error
        with replace_atomically(path) as temporary:
            self._patiently(lambda: _copy(there, f"{root}/{name}", temporary, allowance))
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

        Raises UserError for a name that would lead out of a folder into which it is copied, and for too many.
        """
        import pyarrow.fs

        there, root = _open(self.url)
        wanted = pyarrow.fs.FileSelector(f"{root}/{under}".rstrip("/"), allow_not_found=True, recursive=True)
        found = self._patiently(lambda: there.get_file_info(wanted))
        files = {info.path[len(root) + 1 :]: _state(info) for info in found if info.is_file}
        if len(files) > DOWNLOAD_FILES.value():
            raise DOWNLOAD_FILES.exceeded(f"{redacted(self.url)} has", "files")
        for name in files:
            checked_name(name, self.url)
        return dict(sorted(files.items()))

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return bool(self._look(name).is_file)

    def size(self, name: str) -> int:
        """The bytes of a file; 0 where there is none."""
        return int(self._look(name).size or 0)

    def state(self, name: str) -> str | None:
        """What changes when a file does, its size and its time; None where there is no such file."""
        found = self._look(name)
        return _state(found) if found.is_file else None

    def content(self, name: str, most: int) -> bytes | None:
        """At most `most` bytes of a file; None where there is none of this name."""
        with suppress(FileNotFoundError):
            return self.read(name, lambda file: bytes(file.read(most)))
        return None

    def write(self, content: bytes, name: str) -> None:
        """Write a small file, whatever is there."""
        with private_folder() as folder:
            (folder / "content").write_bytes(content)
            self.put(folder / "content", name)

    def create(self, content: bytes, name: str) -> bool | None:
        """Write a small file if there is none of this name; whether it was written.

        None, and nothing written, where the store, or what is installed to reach it, cannot do both at once. Where an
        answer was lost, it may be False for a file that was written.
        """
        from automl.data.exclusive import create_exclusively

        there, root = _open(self.url)
        return self._patiently(lambda: create_exclusively(there, self.url, f"{root}/{name}", content))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        there, root = _open(self.url)
        with suppress(FileNotFoundError):
            self._patiently(lambda: there.delete_file(f"{root}/{name}"))

    def _look(self, name: str) -> pyarrow.fs.FileInfo:
        there, root = _open(self.url)
        return self._patiently(lambda: there.get_file_info(f"{root}/{name}"))

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask until there is an answer; raises OSError where there is none for `patience` seconds.

        Stores have errors of their own kinds: all but those that would be the same the next time are tried again.
        """
        give_up, pause = time.monotonic() + self.patience, PAUSE_SECONDS
        while True:
            try:
                return ask()
            except (FileNotFoundError, UserError, *FAULTS):
                raise
            except Exception as error:
                if not isinstance(error, OSError) and _status(error) == 404:
                    raise FileNotFoundError(errno.ENOENT, "there is no such file", redacted(self.url)) from error
                if time.monotonic() + pause > give_up or _for_good(error):
                    said = redacted_text(str(error).partition(" (Request ID")[0]) or type(error).__name__
                    raise OSError(errno.EIO, said, redacted(self.url)) from error
            time.sleep(pause)
            pause *= 2


class Allowance:
    """How many bytes may still be copied from a URL, by several threads together: `$AUTOML_MAX_DOWNLOAD` at first."""

    def __init__(self, url: str) -> None:
        self._url, self._left, self._lock = url, DOWNLOAD_BYTES.value(), threading.Lock()

    def require(self, size: int) -> None:
        """Raise UserError where fewer than `size` bytes are left."""
        if size > self._left:
            raise DOWNLOAD_BYTES.exceeded(f"{redacted(self._url)} has")

    def take(self, size: int) -> None:
        """Use `size` bytes, or give so many back where it is negative; raises UserError where fewer are left."""
        with self._lock:
            self.require(size)
            self._left -= size


def _copy(there: pyarrow.fs.FileSystem, name: str, path: Path, allowance: Allowance) -> None:
    """Copy a file to `path`, counting the bytes that come and not those that are announced."""
    give_up, taken = time.monotonic() + DOWNLOAD_SECONDS.value(), 0
    try:
        with there.open_input_stream(name, compression=None) as source, path.open("wb") as sink:
            while block := source.read(BLOCK_BYTES):
                taken += len(block)
                allowance.take(len(block))
                sink.write(block)
                if time.monotonic() > give_up:
                    raise DOWNLOAD_SECONDS.exceeded(f"{redacted(name)} takes", "seconds")
    except Exception:  # of any kind; it is tried again from its start
        allowance.take(-taken)
        raise


@lru_cache(maxsize=64)
def _open(url: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """What reads and writes at a URL, and the folder there; raises UserError for a URL that will not do."""
    require_allowed_url(url)
    import fsspec
    import pyarrow as pa
    import pyarrow.fs

    if url.partition("://")[0].lower() in WEB:
        from automl.data.web_folders import WebFileSystem

        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(WebFileSystem())), url.rstrip("/")
    try:
        there, root = pyarrow.fs.FileSystem.from_uri(url)
    except (pa.ArrowException, ImportError, ValueError) as error:
        try:
            system, root = fsspec.url_to_fs(url)
        except (ImportError, ValueError):
            raise UserError(f"cannot use the store {redacted(url)}: {redacted_text(str(error))}") from error
        there = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(system))
    return there, root.rstrip("/")


def _state(file: pyarrow.fs.FileInfo) -> str:
    return f"{file.size} {file.mtime_ns}"


def _status(error: Exception) -> int | None:
    """The HTTP status in a store's error, as gcsfs (`code`), Azure (`status_code`) and aiohttp (`status`) say it."""
    for name in ("code", "status_code", "status"):
        with suppress(TypeError, ValueError):
            return int(getattr(error, name, None))  # type: ignore[arg-type]
    return None


def _for_good(error: Exception) -> bool:
    """Whether a store's answer will be the same the next time."""
    if isinstance(error, PermissionError) or _status(error) in (400, 401, 403, 405, 501):
        return True
    return any(word in str(error) for word in ("NO_SUCH_BUCKET", "ACCESS_DENIED", "INVALID_ACCESS_KEY", "SIGNATURE"))
