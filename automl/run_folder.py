"""The folder of a new run: it belongs to one run alone, and where nothing came of that, nothing else goes with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from automl.data.files import OwnFolder, TakenError, make_own_folder
from automl.data.store import Store
from automl.places import run_directory
from automl.search.lease import BeingDrivenError, is_lease
from automl.search.publishing import LOCK_SECONDS, Publisher, driving
from automl.training.database import Database
from automl.training.run_directory import RunDirectory


@dataclass(frozen=True)
class NewRun:
    """A run that this process has just made and holds; `database` has its study, if not its journal."""

    directory: RunDirectory
    publisher: Publisher
    database: Database | None


def require_free(place: str | Path) -> None:
    """Raise TakenError where there is something at `place` already."""
    directory = run_directory(place)
    if _is_there(directory):
        raise _taken(place, directory)


@contextmanager
def new_run(places: Iterable[str | Path], study: str | None, modes: Sequence[str]) -> Iterator[NewRun]:
    """Make and hold, for the time of the block, a run at the first of `places` that nobody has.

    `study` is the URL of a database that is to keep its study, whose objectives are `modes`, `max` or `min`. Where the
    block raises before a trial has begun, nothing that was made here is left, and nothing of anybody else's is touched.
    Raises TakenError where others have all places, UserError where the run cannot be made.
    """
    with ExitStack() as claim:
        directory, made, database = _claim(places, study, modes, claim)
        held = False
        try:
            with driving(directory) as publisher:
                if directory.url is not None and _is_there(directory):  # whoever held it until now has made one
                    raise _taken(directory.url, directory)
                held = True
                claim.close()
                yield NewRun(directory, publisher, database)
        except BaseException:
            if not held or not directory.has_begun():  # there is nothing to go on with
                if held and not publisher.lost():
                    directory.remove_from_store()
                if database is not None:
                    database.delete()
                made.remove()
            raise


def _claim(
    places: Iterable[str | Path], study: str | None, modes: Sequence[str], claim: ExitStack
) -> tuple[RunDirectory, OwnFolder, Database | None]:
    taken: TakenError | None = None
    for place in places:
        directory = run_directory(place)
        try:
            if directory.url is not None:
                _claim_copy(directory, claim)
            made = make_own_folder(directory.path)
        except TakenError:
            taken = _taken(place, directory)
            continue
        database = Database(study, directory.name) if study else None
        try:
            if database is not None:
                database.create(modes)
        except TakenError as error:
            made.remove()
            taken = error
            continue
        except BaseException:
            made.remove()
            raise
        return directory, made, database
    assert taken is not None  # there is at least one place
    raise taken


def _claim_copy(directory: RunDirectory, claim: ExitStack) -> None:
    """Remove the copy of a run that is in its store no more; one at a time, until the new one is held.

    Raises TakenError where the run is there or another process on this machine drives it.
    """
    directory.path.parent.mkdir(parents=True, exist_ok=True)
    claim.enter_context(FileLock(directory.path.with_name("claim.lock")))
    if _is_there(directory):
        raise TakenError(f"{directory.url} exists already")
    if directory.path.exists():
        try:
            FileLock(directory.lock).acquire(timeout=LOCK_SECONDS).lock.release()
        except Timeout as error:
            raise BeingDrivenError(f"another process is driving {directory.url}") from error
        shutil.rmtree(directory.path)


def _taken(place: str | Path, directory: RunDirectory) -> TakenError:
    go_on = f", or go on with: automl resume {place}" if _is_there(directory, "manifest.json") else ""
    return TakenError(f"{place} exists already; name another --output{go_on}")


def _is_there(directory: RunDirectory, name: str = "") -> bool:
    """Whether there is such a run, or such a file of it."""
    if directory.url is None:
        return (directory.path / name).exists()
    store = Store(directory.url)
    return store.has(name) if name else not all(map(is_lease, store.names()))
