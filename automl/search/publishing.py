"""Holding a run: one process drives it and, where the run lies in a store, keeps that up to date."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from automl.data.copies import remove_missing
from automl.data.files import require_no_links_out
from automl.data.store import Allowance, Store
from automl.search.lease import BeingDrivenError, Lease, LeaseLostError, is_lease, take
from automl.search.stop_file import NAME as STOP_FILE
from automl.space.printable import printable, say
from automl.space.safe_files import MAX_JSON_BYTES, read_regular
from automl.space.urls import redacted
from automl.training.run_directory import ANSWERS, TRIALS, WEIGHTS, RunDirectory, TrialDirectory, read_json, write_json

PUBLISH_SECONDS = 5.0
MOST_OF_THE_TIME = 0.05  # that publishing may take: a journal is copied whole
MANIFEST = "manifest.json"
NOT_UP_TO_DATE = "store"  # the manifest's entry that says what its copy in the store lacks
LONGEST_PAUSE = 300.0  # between two tries to publish
LAST_PAUSES = (1.0, 5.0)  # between the last ones
LEASE_PATIENCE = 20.0
LONGEST_REASON = 500  # characters


class Publisher:
    """Copies what the driver writes into the run's store; what workers write they copy themselves."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._copied: dict[str, tuple[int, int]] = {}
        self._discarded: deque[tuple[str, str]] = deque()
        self._lock = threading.Lock()
        self.lease: Lease | None = None
        self.failures = 0  # since the last success
        self.failure = ""  # the last one

    def discard(self, folder: TrialDirectory, *files: Path) -> None:
        """Remove files of a trial: here at once, in the store with the next round."""
        for file in files:
            file.unlink(missing_ok=True)
            if folder.url is not None:
                self._discarded.append((folder.url, file.name))

    def publish(self) -> None:
        """Copy every file of the driver's that has changed.

        Raises LeaseLostError, and copies nothing more, where this process does not drive the run any more; OSError
        where the store does not answer.
        """
        if self.run.url is None:
            return
        store = Store(self.run.url)
        with self._lock:
            for path in _own_files(self.run):
                name = path.relative_to(self.run.path).as_posix()
                with suppress(FileNotFoundError):  # replaced or removed meanwhile
                    state = path.stat()
                    if self._copied.get(name) != (state.st_mtime_ns, state.st_size):
                        self._require_lease()
                        store.put(path, name)
                        self._copied[name] = (state.st_mtime_ns, state.st_size)
            while self._discarded:
                url, name = self._discarded[0]
                self._require_lease()
                Store(url).remove(name)
                self._discarded.popleft()

    def keep_publishing(self, ended: threading.Event) -> None:
        """Publish every few seconds until `ended`; where that fails, of whatever, again after a longer pause."""
        pause = PUBLISH_SECONDS
        while not ended.wait(pause):
            began = time.monotonic()
            if self.attempt():
                pause = max(PUBLISH_SECONDS, (time.monotonic() - began) / MOST_OF_THE_TIME)
            elif self.lost():
                return
            else:
                pause = min(2 * pause, LONGEST_PAUSE)

    def finish(self) -> None:
        """Publish for the last time, and again where that fails; the run, and the user, learn of what is missing."""
        if self.run.manifest.exists() and read_json(self.run.manifest).get(NOT_UP_TO_DATE):
            self._note("")
        for pause in (*LAST_PAUSES, 0.0):
            if self.attempt() or self.lost():
                break
            time.sleep(pause)
        if self.lost():
            say(self.lost())
        elif self.failure:
            missing = f"{redacted(str(self.run.url))} is not up to date, as it could not be written: {self.failure}"
            if self.run.manifest.exists():
                with suppress(OSError):
                    self._note(missing)
            say(f"{missing}; what lacks there is in {self.run.path}, and is copied by the next automl resume here")

    def lost(self) -> str:
        """Why this process does not drive the run any more, in a sentence; "" while it does."""
        return "" if self.lease is None else self.lease.lost()

    def holds(self) -> bool:
        """Whether this process may still write into the run's store, as far as the store says now."""
        try:
            self._require_lease()
        except (LeaseLostError, OSError):
            return not self.lost()
        return True

    def _note(self, missing: str) -> None:
        write_json(self.run.manifest, {**read_json(self.run.manifest), NOT_UP_TO_DATE: missing})

    def _require_lease(self) -> None:
        if self.lease is not None:
            self.lease.require()

    def attempt(self) -> bool:
        """Publish, and count it where that fails, of whatever; whether it did not."""
        try:
            self.publish()
        except Exception as error:  # stores have errors of their own kinds
            if not self.lost():
                self.failures += 1
                self.failure = printable(f"{type(error).__name__}: {error}".partition("\n")[0][:LONGEST_REASON])
            return False
        self.failures, self.failure = 0, ""
        return True


LOCK_SECONDS = 0.5  # longer than `automl runs` holds the lock, which asks by it whether a run is driven


@contextmanager
def driving(run: RunDirectory) -> Iterator[Publisher]:
    """Hold the run for the time of the block; raises UserError where another process drives it.

    Also where something in it would be written through a link to a place outside.

    At the end of the block, however it ends, everything the driver wrote is in the run's store, or it is said that it
    is not. A run in a store can be lost to another process meanwhile (`Publisher.lost`): nothing more is written there.
    """
    require_no_links_out(run.path)
    lock, publisher = FileLock(run.lock), Publisher(run)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise BeingDrivenError(f"another process is driving {run.path}") from error
    try:
        if run.url is None:
            yield publisher
            return
        publisher.lease = lease = take(Store(run.url, LEASE_PATIENCE))
        try:
            with _beside(lease.keep, "lease"):
                try:
                    with _beside(publisher.keep_publishing, "publisher"):
                        yield publisher
                finally:
                    publisher.finish()
        finally:
            with suppress(LeaseLostError, OSError):
                lease.release()
    finally:
        lock.release()


@contextmanager
def _beside(work: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """For the time of the block a thread does `work`, which ends soon after its event is set."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def not_driven_here(run: RunDirectory) -> Iterator[None]:
    """For the time of the block no process of this machine drives the run; raises BeingDrivenError where one does."""
    run.path.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.lock).acquire(timeout=LOCK_SECONDS):
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
        return models and (inside[0] != TRIALS or inside[-1] in (WEIGHTS, ANSWERS))

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
    return hidden or name == STOP_FILE or is_lease(name) or name.endswith(".lock")


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
        if entry.name.startswith(".") or entry.suffix == ".lock" or entry.name in (TRIALS, run.journal.name):
            continue
        if entry.is_dir():
            yield from (path for path in sorted(entry.rglob("*")) if path.is_file())
        else:
            yield entry
