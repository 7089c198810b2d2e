"""The study for its one writer: an Optuna journal file that survives a torn tail and a full disk, or a database."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from automl.space import UserError
from automl.training.database import database_of, study_directions
from automl.training.run_directory import STUDY_NAME, RunDirectory


class Journal:
    """The study of a run, open for writing.

    What is written is there for good at `commit`; in a file several operations reach it in one piece, and
    `commit(durable=True)` waits until the disk has them. OSError (a full disk, a database that does not answer) leaves
    a file as it was before the commit.
    """

    def __init__(
        self, storage: BaseStorage, name: str, directions: Sequence[StudyDirection], file: _JournalFile | None = None
    ) -> None:
        self._file = file
        self._storage = storage
        self.study = optuna.create_study(
            storage=self._storage,
            study_name=name,
            directions=directions,
            load_if_exists=True,
        )
        self._study_id = self._storage.get_study_id_from_name(name)
        self._ids = [trial._trial_id for trial in self.study.get_trials(deepcopy=False)]
        self.commit()

    def trial(self, number: int) -> FrozenTrial:
        """A trial as it stands; not to be changed."""
        with _database_faults():
            return self._storage.get_trial(self._ids[number])

    def add(self, trial: FrozenTrial) -> None:
        """Write a new trial with its parameters and attributes, as one operation."""
        with _database_faults():
            self._ids.append(self._storage.create_new_trial(self._study_id, template_trial=trial))

    def report(self, number: int, epoch: int, value: float) -> None:
        """Write the metric after an epoch."""
        with _database_faults():
            self._storage.set_trial_intermediate_value(self._ids[number], epoch, value)

    def note(self, number: int, **attributes: Any) -> None:
        """Write user attributes of a trial."""
        with _database_faults():
            for name, attribute in attributes.items():
                self._storage.set_trial_user_attr(self._ids[number], name, attribute)

    def end(self, number: int, state: TrialState, values: Sequence[float] | None) -> None:
        """Write how a trial ended, and its value of each objective."""
        with _database_faults():
            self._storage.set_trial_state_values(self._ids[number], state, values)

    def commit(self, *, durable: bool = False) -> None:
        """Write everything since the last commit; raises OSError where there is no room."""
        if self._file is not None:
            self._file.commit(durable=durable)


@contextmanager
def _database_faults() -> Iterator[None]:
    """A database that does not answer is to the search what a full disk is."""
    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise OSError(errno.EIO, f"the study's database: {cause}") from error


class _JournalFile(BaseJournalBackend):
    """The file behind Optuna's journal storage, for one process that alone writes to it.

    Optuna's own backend opens, locks, flushes to disk and reads back the file for every operation, about twenty
    times a trial, and leaves half a line behind where the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._count = 0
        self._applied: list[dict[str, Any]] = []  # what the storage has not read back yet
        self._pending: list[bytes] = []

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        for log in logs:
            line = json.dumps(log, separators=(",", ":")).encode() + b"\n"
            self._pending.append(line)
            self._applied.append(json.loads(line))

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        if log_number_from < self._count:
            raise ValueError("a journal is read from its beginning once")
        if self._count == 0:
            with self._path.open("rb") as file:
                for line in file:
                    self._count += 1
                    yield json.loads(line)
        applied, self._applied = self._applied, []
        self._count += len(applied)
        yield from applied

    def commit(self, *, durable: bool) -> None:
        content = memoryview(b"".join(self._pending))
        end = self._file.seek(0, os.SEEK_END)
        try:
            while content:  # a write may stop short
                content = content[self._file.write(content) or 0 :]
        except OSError:
            self._file.truncate(end)
            raise
        self._pending.clear()
        if durable:
            os.fsync(self._file.fileno())


def open_study(run: RunDirectory, *, modes: Sequence[str]) -> Journal:
    """Open the study of a run for its driver: in the database that its manifest names, else its journal file."""
    database = database_of(run)
    if database is None:
        return open_journal(run.journal, mode=modes[0], further=modes[1:])
    return Journal(database.connect(keep_open=True), database.name, study_directions(modes))


def open_journal(path: Path, *, mode: str, further: Sequence[str] = ()) -> Journal:
    """Open the journal at `path`, making it where there is none. Only the holder of the run's lock may call this.

    `mode` is `max` or `min`, that of the first objective; `further` are those of others. Raises UserError where the
    file holds a study with other directions, or is no journal.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    directions = study_directions((mode, *further))
    if path.exists():
        cut_torn_tail(path)
    try:
        file = _JournalFile(path)
        journal = Journal(JournalStorage(file), STUDY_NAME, directions, file)
    except OSError:
        raise
    except Exception as error:  # Optuna checks nothing of what it replays, so a damaged line raises anything
        raise UserError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    if journal.study.directions != directions:
        held, wanted = (
            ", ".join(direction.name.lower() for direction in each) for each in (journal.study.directions, directions)
        )
        raise UserError(f"{path} holds a study to {held}, this run is to {wanted}")
    return journal


def cut_torn_tail(path: Path) -> int:
    """Cut what follows the last line break: a line that a crash or a full disk left unfinished. Gives the bytes cut."""
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        file.truncate(end)
        file.flush()
        os.fsync(file.fileno())
    return size - end
