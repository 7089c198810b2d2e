"""Runs of a cluster copied to this machine, and brought up to date where they were copied before."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from automl.cluster.archive import is_wanted, wanted
from automl.data.files import require_no_links_out
from automl.data.store import Allowance, Store, is_url
from automl.space import UserError
from automl.space.safe_files import read_as
from automl.training.run_directory import RunDirectory, write_json

RECORD = ".fetched.json"  # in a copy
PARTS = ("members", "linear")  # folders of a best model that is an average or linear


class Record(BaseModel):
    """Which run a copy is of, and the states in which it may be unless somebody has gone on with it here."""

    run: str
    states: Annotated[list[str], Field(max_length=4)]


def copy_files(place: str, folder: Path) -> None:
    """Copy what a reader wants of the run at `place`, which may be written meanwhile, into `folder`."""
    if is_url(place):
        store, allowance = Store(place), Allowance(place)
        for name in store.names():
            if is_wanted(name.rpartition("/")[2]):
                store.get(name, folder / name, allowance)
        return
    for path in wanted(Path(place)):
        target = folder / path.relative_to(place)
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # removed since it was listed
            shutil.copyfile(path, target)


def require_replaceable_copy(output: Path, name: str) -> None:
    """Raise UserError where `output` is there and is no copy of the run, or a copy that was changed here."""
    if not output.exists() and not output.is_symlink():
        return
    known = read_as(output / RECORD, Record) if (output / RECORD).is_file() else None
    if known is None or known.run != name:
        raise UserError(f"{output} exists already, and not as a copy fetched of {name}; name another --output")
    if "-".join(_state(output)) not in known.states:
        raise UserError(f"{output} was gone on with on this machine since it was fetched; name another --output")
    require_no_links_out(output)


def put_in_place(folder: Path, output: Path, name: str) -> None:
    """Let the copy in `folder` be `output`: as a whole where that is new, else file by file.

    What was added to `output` on this machine, such as exported models, stays.
    """
    if not output.exists():
        _note(folder, name, ["-".join(_state(folder))])
        try:
            folder.rename(output)
        except OSError as error:
            if not output.exists():
                raise
            raise UserError(f"{output} exists already; name another --output") from error  # since a moment ago
        return
    # Should this be cut short, the files may be of either state, or the journal of one and the manifest of the other.
    _note(output, name, ["-".join(mixed) for mixed in product(*zip(_state(output), _state(folder), strict=True))])
    new = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    for path in sorted(new):
        target = output / path
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / path).replace(target)
    for path in _own_files(output):
        if path.relative_to(output) not in new:  # weights of a trial that is no longer among the best
            path.unlink()
    _note(output, name, ["-".join(_state(output))])


def _note(folder: Path, name: str, states: list[str]) -> None:
    write_json(folder / RECORD, Record(run=name, states=states).model_dump())


def _own_files(output: Path) -> list[Path]:
    """The files of a copy that only its search writes: beside them may lie models that were exported or packed here."""
    run = RunDirectory(output)
    trials = [
        path for _, trial in run.trials() for path in (*trial.path.glob("*"), *trial.rerun(1).path.parent.rglob("*"))
    ]
    parts = [path for name in PARTS for path in (run.best_model / name).rglob("*")]
    return [path for path in (*trials, *run.best_model.glob("*"), *parts) if path.is_file()]


def _state(folder: Path) -> tuple[str, str]:
    """Digests of the two files that change when somebody goes on with the run in `folder`."""
    run = RunDirectory(folder)
    return _digest(run.manifest), _digest(run.journal)


def _digest(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
