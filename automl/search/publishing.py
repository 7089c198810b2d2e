"""Holding a run: one process drives it and, where the run lies in a store, keeps that up to date."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, Field

from automl.data.copies import remove_missing
from automl.data.files import require_no_links_out
from automl.data.store import Allowance, Store
from automl.search.stop_file import NAME as STOP_FILE
from automl.space import UserError
from automl.space.safe_files import MAX_JSON_BYTES, read_as, read_regular
from automl.training.run_directory import TRIALS, WEIGHTS, RunDirectory, TrialDirectory, write_json

PUBLISH_SECONDS = 5.0
MOST_OF_THE_TIME = 0.05  # that publishing may take: a journal is copied whole
MANIFEST = "manifest.json"
LEASE = "driver.json"
LEASE_SECONDS = 60.0  # after so long without a sign of life a driver is taken for dead


class Lease(BaseModel):
    """What a driver says in the store: where it is, and when it last was alive."""

    host: str
    pid: int = Field(ge=1, lt=2**31)
    time: float


class BeingDrivenError(UserError):
    """Another process drives the run."""


class Publisher:
    """Copies what the driver writes into the run's store; what workers write they copy themselves."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._copied: dict[str, tuple[int, int]] = {}
        self._discarded: deque[tuple[str, str]] = deque()

    def discard(self, folder: TrialDirectory, *files: Path) -> None:
        """Remove files of a trial: here at once, in the store with the next round."""
        for file in files:
            file.unlink(missing_ok=True)
            if folder.url is not None:
                self._discarded.append((folder.url, file.name))

    def publish(self) -> None:
        """Copy every file of the driver's that has changed; raises OSError where the store does not answer."""
        if self.run.url is None:
            return
        store = Store(self.run.url)
        for path in _own_files(self.run):
            name = path.relative_to(self.run.path).as_posix()
            with suppress(FileNotFoundError):  # replaced or removed meanwhile
                state = path.stat()
                if self._copied.get(name) != (state.st_mtime_ns, state.st_size):
                    store.put(path, name)
                    self._copied[name] = (state.st_mtime_ns, state.st_size)
        while self._discarded:
            url, name = self._discarded[0]
            Store(url).remove(name)
            self._discarded.popleft()

    def keep_publishing(self, ended: threading.Event) -> None:
        """Publish every few seconds until `ended`; a store that does not answer is tried again the next time."""
        pause = PUBLISH_SECONDS
        while not ended.wait(pause):
            began = time.monotonic()
            with suppress(OSError):
                _renew_lease(self.run)
                self.publish()
            pause = max(PUBLISH_SECONDS, (time.monotonic() - began) / MOST_OF_THE_TIME)


@contextmanager
def driving(run: RunDirectory) -> Iterator[Publisher]:
    """Hold the run for the time of the block; raises UserError where another process drives it.

    Also where something in it would be written through a link to a place outside.

    At the end of the block, however it ends, everything the driver wrote is in the run's store.
    """
    require_no_links_out(run.path)
    lock, publisher, ended = FileLock(run.lock), Publisher(run), threading.Event()
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BeingDrivenError(f"another process is driving {run.path}") from error
    thread = threading.Thread(target=publisher.keep_publishing, args=(ended,), name="publisher", daemon=True)
    try:
        if run.url is not None:
            _take_lease(run)
            thread.start()
        yield publisher
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()
            publisher.publish()
            Store(str(run.url)).remove(LEASE)
        lock.release()


@contextmanager
def not_driven_here(run: RunDirectory) -> Iterator[None]:
    """For the time of the block no process of this machine drives the run; raises BeingDrivenError where one does."""
    run.path.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.lock).acquire(timeout=0):
            yield
    except Timeout as error:
        raise BeingDrivenError(f"another process is driving {run.url or run.path}") from error


def fetch_run(run: RunDirectory, *, models: bool, top: bool = True) -> None:
    """Bring the run's files from its store: those of its top, and with `models` the weights and packages too.

    The driver, whose own files at the top are newer than their copies, asks without `top`.
    What the store lacks is removed here, and all of it where another run lay at this place before.
    A journal that is longer here was not copied any more before its driver was killed on this machine; it stays.
    """
    if run.url is None:
        return
    store = Store(run.url)
    allowance = Allowance(store.url)
    names = [name for name in store.names() if not _is_own(name)]

    def wanted(name: str) -> bool:
        inside = name.split("/")
        if len(inside) == 1 or run.path / name == run.compressed_record:
            return top
        return models and (inside[0] != TRIALS or inside[-1] == WEIGHTS)

    if top:
        if run.manifest.exists() and _begun(read_regular(run.manifest, MAX_JSON_BYTES)) != _begun_there(store, names):
            remove_missing(run.path, set(), lambda name: not _is_own(name))
        remove_missing(run.path, {run.journal.name, *names}, lambda name: wanted(name) and not _is_own(name))
    elif models:  # the driver's own files, but for trials, may be newer than their copies
        remove_missing(run.path, {*names}, lambda name: name.startswith(f"{TRIALS}/") and wanted(name))
    for name in filter(wanted, names):
        path = run.path / name
        if path == run.journal and path.exists() and store.size(name) <= path.stat().st_size:
            continue
        store.get(name, path, allowance)


def _is_own(name: str) -> bool:
    """Whether a file at the top of a run says what a process of this machine does, and is none of the run's."""
    hidden = name.startswith(".") and "/" not in name
    return hidden or name == STOP_FILE or name.startswith(LEASE) or name.endswith(".lock")


def _begun(manifest: bytes) -> tuple[object, object]:
    """What tells a run from another one in the same place, of its manifest."""
    try:
        content = json.loads(manifest)
    except (ValueError, RecursionError):
        return None, None
    return (content.get("id"), content.get("created")) if isinstance(content, dict) else (None, None)


def _begun_there(store: Store, names: Sequence[str]) -> tuple[object, object]:
    return _begun(store.read(MANIFEST, lambda file: file.read(MAX_JSON_BYTES))) if MANIFEST in names else (None, None)


def _own_files(run: RunDirectory) -> Iterator[Path]:
    """The files that the driver writes and readers want, the journal first."""
    if run.journal.exists():
        yield run.journal
    for entry in sorted(run.path.iterdir()):
        if entry.name.startswith(".") or entry.suffix == ".lock" or entry.name in (TRIALS, run.journal.name, LEASE):
            continue
        if entry.is_dir():
            yield from (path for path in sorted(entry.rglob("*")) if path.is_file())
        else:
            yield entry


def _take_lease(run: RunDirectory) -> None:
    """Say in the store that this process drives the run; raises UserError where another one does."""
    path = run.path / LEASE
    if Store(str(run.url)).get(LEASE, path):
        try:
            lease = read_as(path, Lease)
        except UserError:  # half of one
            lease = None
        if lease is not None:
            here = lease.host == platform.node()
            alive = _is_alive(lease.pid) if here else time.time() - lease.time < LEASE_SECONDS
            if alive:
                raise BeingDrivenError(
                    f"another process is driving {run.url}: process {lease.pid} on {lease.host}; "
                    f"had it been killed, it would be given up after {LEASE_SECONDS:.0f} seconds"
                )
    _renew_lease(run)


def _renew_lease(run: RunDirectory) -> None:
    path = run.path / LEASE
    write_json(path, {"host": platform.node(), "pid": os.getpid(), "time": time.time()})
    Store(str(run.url)).put(path, LEASE)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
