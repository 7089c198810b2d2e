"""The study on disk: an Optuna journal file that is opened by one writer and survives a torn tail."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from automl.space import SearchSpec, UserError
from automl.training.run_directory import STUDY_NAME


def open_study(path: Path, *, mode: str) -> optuna.Study:
    """Open the study at `path`, making it where there is none. Only the holder of the run's lock may call this.

    Raises UserError where the file holds a study with another direction, or is no journal.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    direction = "maximize" if mode == "max" else "minimize"
    if path.exists():
        cut_torn_tail(path)
    # A lock that a killed process left behind would block for 30 s; the run's own lock already excludes others.
    Path(f"{path}.lock").unlink(missing_ok=True)
    try:
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))
        study = optuna.create_study(
            storage=storage,
            study_name=STUDY_NAME,
            direction=optuna.study.StudyDirection[direction.upper()],
            load_if_exists=True,
        )
    except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged and cannot be read as a study: {error}") from error
    if study.direction.name.lower() != direction:
        raise UserError(f"{path} holds a study to {study.direction.name.lower()}, this run is to {direction}")
    return study


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


def make_sampler(spec: SearchSpec, number: int) -> optuna.samplers.BaseSampler:
    """The sampler that proposes trial `number`.

    Seeded by the file's seed and the number, so that a resumed run proposes what an uninterrupted one would have and
    never the same point twice. `group` lets TPE model each branch of a conditional space jointly.
    """
    seed = (spec.search.seed * 1_000_003 + number * 7919 + 1) % (2**32 - 1)
    if spec.search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # group and constant_liar
        return optuna.samplers.TPESampler(
            seed=seed,
            multivariate=True,
            group=True,
            constant_liar=True,
            n_startup_trials=10,
        )
