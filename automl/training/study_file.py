"""Reading the study of a run, also one that another process is writing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO, UnsupportedOperation
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial

from automl.space import UserError
from automl.space.safe_files import parse_json, read_regular, validated
from automl.training.database import Database, database_of
from automl.training.read_only import ReadOnly
from automl.training.run_directory import INFEASIBLE, REACHED, STUDY_NAME, RunDirectory
from automl.training.run_files import MOST_TRIALS, JournalLine, TrialNotes

MAX_BYTES = 512 * 1024 * 1024
MAX_NOTED = 24_000_000  # values in the notes of all trials together
MAX_LINES = 20_000  # of one trial: Optuna copies what it knows of a trial for each
CREATE_TRIAL, NOTES = 4, (4, 8, 9)  # operations of Optuna's journal


def load_study(run: RunDirectory) -> optuna.Study:
    """The study of a run, of a journal file up to its last whole line; nothing is written, to it or anywhere else.

    Every trial has what the search notes of one (`TrialNotes`). Raises UserError where there is none, it is damaged, or
    it lies in a database that the user has not named or that does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if database := database_of(run):
        try:
            study = open_read_only(database, run)
            _check(study.get_trials(deepcopy=False), run.path)
        except StorageInternalError as error:
            failure = database.reason(error)
        else:
            return study
        raise UserError(f"cannot read the study of {run.path}: {failure}")
    journal = run.journal
    if not journal.is_file():
        raise UserError(f"{journal.parent} has no {journal.name}: the run ended before its first trial")
    try:
        snapshot = _Snapshot(journal, read_regular(journal, MAX_BYTES))
        study = optuna.load_study(study_name=STUDY_NAME, storage=JournalStorage(snapshot))
    except (UserError, OSError):
        raise
    except Exception as error:  # Optuna checks little of what it replays, so a damaged line raises anything
        raise UserError(f"{journal} is damaged: {type(error).__name__}: {error}") from error
    _check(study.get_trials(deepcopy=False), journal)
    return study


def open_read_only(database: Database, run: RunDirectory) -> optuna.Study:
    """A study in a database, which is not written to; raises UserError where it is not there."""
    try:
        return optuna.load_study(study_name=database.name, storage=ReadOnly(database.connect(make_tables=False)))
    except KeyError as error:
        raise UserError(f"the database of {run.path} has no study {database.name!r} any more") from error


def _check(trials: Sequence[FrozenTrial], path: Path) -> None:
    for trial in trials:
        if INFEASIBLE not in trial.user_attrs:
            notes = {name: value for name, value in trial.user_attrs.items() if value is not None}
            validated(notes, TrialNotes, path)
        elif not isinstance(trial.user_attrs[INFEASIBLE], str):
            raise UserError(f"{path} is damaged: why trial {trial.number} was not run is no text")


def objectives_of(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """What a run looks for, the metric first."""
    return tuple(manifest.get("objectives") or [manifest["metric"]])


def reached_by(trial: FrozenTrial, mode: str) -> list[float]:
    """A trial's objectives at its best epoch, the first of which is to be `max` or `min`; none before its first."""
    values = trial.intermediate_values.values()
    best = [max(values) if mode == "max" else min(values)] if values else []
    return list(trial.user_attrs.get(REACHED, best))


class _Snapshot(BaseJournalBackend):
    """What a journal file held at one moment, without a line that was being written."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path = path
        self._content = content[: content.rfind(b"\n") + 1]

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        noted, lines = 0, Counter[int]()
        for number, line in enumerate(BytesIO(self._content), start=1):
            if number <= log_number_from:
                continue
            content = parse_json(line, self._path, line=number)
            operation = validated(content, JournalLine, self._path)
            lines[operation.trial_id if operation.op_code > CREATE_TRIAL else -1] += 1
            if operation.op_code in NOTES:
                noted += sum(map(line.count, (b",", b"[", b"{")))
            if noted > MAX_NOTED or lines[-1] > MOST_TRIALS or lines[operation.trial_id] > MAX_LINES:
                raise UserError(
                    f"{self._path} is too large: no search writes as much as is in its first {number} lines"
                )
            yield content

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise UnsupportedOperation("a snapshot is not written to")
