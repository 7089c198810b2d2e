"""Reading the study of a run, also one that another process is writing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from io import UnsupportedOperation
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial

from automl.space import UserError
from automl.training.database import database_of
from automl.training.run_directory import REACHED, STUDY_NAME, RunDirectory


def load_study(run: RunDirectory) -> optuna.Study:
    """The study of a run, of a journal file up to its last whole line; nothing is written, to it or anywhere else.

    Raises UserError where there is none, it is damaged, or its database does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if database := database_of(run):
        try:
            return optuna.load_study(study_name=database.name, storage=database.connect())
        except KeyError as error:
            raise UserError(f"the database of {run.path} has no study {database.name!r} any more") from error
    journal = run.journal
    if not journal.is_file():
        raise UserError(f"{journal.parent} has no {journal.name}: the run ended before its first trial")
    try:
        return optuna.load_study(study_name=STUDY_NAME, storage=JournalStorage(_Snapshot(journal.read_bytes())))
    except Exception as error:  # Optuna checks nothing of what it replays, so a damaged line raises anything
        raise UserError(f"{journal} is damaged: {type(error).__name__}: {error}") from error


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

    def __init__(self, content: bytes) -> None:
        self._lines = content[: content.rfind(b"\n") + 1].splitlines()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return map(json.loads, self._lines[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise UnsupportedOperation("a snapshot is not written to")
