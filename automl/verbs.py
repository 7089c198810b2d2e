"""What the command does, as functions: `automl.run("space.yaml")` in Python is `automl run space.yaml` in a shell."""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import socket
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from automl.data.store import Store
from automl.places import cache_directory, model_folder, open_run, run_directory, shared_cache
from automl.space import SearchSpec, UserError, json_schema, load, resolved_text, sample_configs
from automl.training.run_directory import RunDirectory

if TYPE_CHECKING:
    from automl.checking import Checked
    from automl.data import Prepared
    from automl.results.package import Model
    from automl.search.publishing import Publisher
    from automl.search.resources import Capacity


@dataclass(frozen=True)
class RunResult:
    """Where a run lies and how it ended: `finished`, `interrupted` or `failed` (then with a reason)."""

    path: Path
    status: str
    reason: str
    url: str | None = None  # where `path` is a copy of a run in a store

    @property
    def place(self) -> str:
        """Where the run lies, as the command takes it."""
        return self.url or str(self.path)


def load_space(space: str | Path, overrides: Sequence[str] = (), *, beside: str | Path | None = None) -> SearchSpec:
    """Read and validate a search-space file with the families this package has and those that the user wrote.

    The latter are looked for beside the file (of a copy: `beside` the original) and in the current directory. Raises
    UserError (SpaceError with positions where the file is wrong).
    """
    from automl.models import FAMILIES, family_section

    folders = (Path(beside or space).parent, Path.cwd())
    return load(Path(space), FAMILIES, overrides, find_family=partial(family_section, folders=folders))


class Example(StrEnum):
    """Data sets that `examples` writes."""

    tweets = "tweets"


def check(space: str | Path, *, overrides: Sequence[str] = (), samples: int = 5) -> Checked:
    """Validate a search-space file, and the files and columns that it names; draw `samples` configurations.

    Raises UserError (SpaceError with all problems and their places) where anything is wrong. Nothing is written.
    """
    from automl.checking import check_space

    return check_space(load_space(space, overrides), samples)


def schema() -> dict[str, Any]:
    """The JSON Schema of search-space files."""
    from automl.models import FAMILIES

    return json_schema(FAMILIES)


def run(
    space: str | Path,
    *,
    output: str | Path | None = None,
    trials: int | None = None,
    time_budget: str | None = None,
    seed: int | None = None,
    overrides: Sequence[str] = (),
    address: str | None = None,
    quiet: bool = False,
) -> RunResult:
    """Search: prepare the data, run trials until the budget is used, write the run directory.

    `output` is the run directory to make (default `runs/<name>-<time>`); `overrides` are `key.path=value`; `address`
    names a Ray cluster (default: a local Ray of its own). Raises UserError before anything is written where
    the file, the data, the resources or the output folder will not do.
    """
    space = Path(space)
    overrides = (*overrides, *_budget_overrides(trials, time_budget, seed))
    spec = load_space(space, overrides)
    place = output or Path("runs") / f"{spec.name}-{datetime.now():%Y%m%d-%H%M%S}"
    directory = run_directory(place)
    if _is_there(directory):
        go_on = f", or go on with: automl resume {place}" if _is_there(directory, "manifest.json") else ""
        raise UserError(f"{place} exists already; name another --output{go_on}")
    _require_cluster(address)

    from automl.search.ray_session import local_capacity, ray_beside
    from automl.search.resources import check_request
    from automl.training.beforehand import check_files

    capacity = local_capacity()
    if address is None:
        check_request(spec, capacity)
    check_files(spec)
    with ray_beside(lambda: _prepare(spec), address) as prepared:
        return _begin(spec, space, overrides, directory, prepared, capacity, address, quiet)


def resume(
    run: str | Path,
    *,
    trials: int | None = None,
    time_budget: str | None = None,
    address: str | None = None,
    quiet: bool = False,
) -> RunResult:
    """Go on with a run that was interrupted or killed, or, with a larger budget, with one that is finished.

    Trials that have ended are kept and not run again. Raises UserError where `run` is no run directory, where another
    process drives it, or where its file or its data has changed since it began.
    """
    from automl.results import read_manifest

    directory = open_run(run, drive=True)
    manifest = read_manifest(directory)
    _require_cluster(address)
    if _hash(directory.space) != manifest["space_hash"]:
        raise UserError(f"{directory.space} has been edited since the run began; run it as a new search instead")

    from automl.search.manifest import budget, update_manifest
    from automl.search.publishing import driving
    from automl.search.ray_session import ray_beside

    overrides = (*manifest["overrides"], *_budget_overrides(trials, time_budget, None))
    with driving(directory) as publisher, chdir(_working_directory(manifest)):
        spec = load_space(directory.space, overrides, beside=manifest["space_file"])
        with ray_beside(lambda: _prepare(spec), address) as prepared:
            if prepared.fingerprint != manifest["data"]["fingerprint"]:
                raise UserError(f"the data of {directory.path} has changed since the run began; run it as a new search")
            update_manifest(directory, status="running", budget=budget(spec), overrides=list(overrides))
            return _search(spec, directory, publisher, prepared, address=address, quiet=quiet)


def leaderboard(run: str | Path) -> list[dict[str, Any]]:
    """The rows of a run's leaderboard, best first, then ensemble and floor; `pandas.DataFrame(rows)` is a table."""
    from automl.results.leaderboard import beside, rows
    from automl.results.study import read_run

    record = read_run(open_run(run))
    return rows(record) + beside(record)


def format_leaderboard(run: str | Path, kind: str, *, top: int | None = None) -> str:
    """The leaderboard as `csv`, `json` or `md`, of the best `top` trials."""
    from automl.results.leaderboard import format_leaderboard as formatted
    from automl.results.study import read_run

    return formatted(read_run(open_run(run)), kind, top)


def print_leaderboard(run: str | Path, *, top: int) -> None:
    """Print the best `top` trials of the leaderboard for people."""
    from automl.results.leaderboard import render_table
    from automl.results.study import read_run

    Console(highlight=False).print(render_table(read_run(open_run(run)), top))


def report(run: str | Path) -> Path:
    """Write a run's leaderboard, best model and report again; gives the report's path.

    While another process drives the run, the leaderboard and the report show how far it is, and no model is measured.
    """
    from automl.results import finish, summarise
    from automl.search.publishing import BeingDrivenError, driving

    directory = open_run(run, models=True)
    try:
        with driving(directory):
            return finish(directory).directory.report
    except BeingDrivenError:
        return summarise(directory).directory.report


def load_model(path: str | Path) -> Model:
    """The model of a run directory or of a best_model directory; `.predict(texts)` labels raw texts."""
    from automl.results.package import load_model as loaded

    return loaded(model_folder(path))


def predict(model: str | Path, input: str | Path, *, output: str | Path | None = None, text: str | None = None) -> int:
    """Label the rows of a CSV, Parquet or JSON Lines file; writes the same format to `output` or stdout.

    Gives the number of rows that have no text and therefore no label. Raises UserError for wrong input.
    """
    from automl.results.predict import predict_file

    return predict_file(load_model(model), Path(input), None if output is None else Path(output), text=text)


def evaluate(
    model: str | Path, data: str | Path, *, text: str | None = None, label: str | None = None
) -> dict[str, Any]:
    """Measure a model on labelled rows: rows, metrics, figures of each class, confusion matrix."""
    from automl.results.predict import evaluate_file

    return evaluate_file(load_model(model), str(data), text=text, label=label)


def examples(name: str, *, output: str | Path | None = None) -> Path:
    """Write an example data set as Parquet into `output` (default `data/<name>`); gives the folder."""
    from automl.data.examples import write_tweets

    folder = Path(output) if output else Path("data") / Example(name)
    write_tweets(folder)
    return folder


def _begin(
    spec: SearchSpec,
    space: Path,
    overrides: Sequence[str],
    directory: RunDirectory,
    prepared: Prepared,
    capacity: Capacity,
    address: str | None,
    quiet: bool,
) -> RunResult:
    """Make the run directory and search; where no trial has begun, nothing of it is left."""
    from automl.search.manifest import create_manifest, update_manifest
    from automl.search.publishing import driving
    from automl.search.warm_start import gather

    path = directory.path
    if directory.url is not None and path.exists():
        shutil.rmtree(path)  # the copy of a run that is in the store no more
    made = next(folder for folder in (*reversed(path.parents), path) if not folder.exists())
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {path}: {error.strerror}") from error
    try:
        with driving(directory) as publisher:
            directory.space.write_text(resolved_text(space), encoding="utf-8")
            create_manifest(
                directory,
                spec,
                prepared,
                capacity,
                space_file=space,
                space_hash=_hash(directory.space),
                overrides=overrides,
            )
            if spec.search.warm_start:
                notes = gather(spec, prepared.fingerprint, directory.warm_start)
                update_manifest(directory, warm_start=notes)
            return _search(spec, directory, publisher, prepared, address=address, quiet=quiet)
    except BaseException:
        if not directory.has_begun():  # there is nothing to go on with
            directory.remove()
            shutil.rmtree(made, ignore_errors=True)
        raise


def _search(
    spec: SearchSpec,
    directory: RunDirectory,
    publisher: Publisher,
    prepared: Prepared,
    *,
    address: str | None,
    quiet: bool,
) -> RunResult:
    from automl.results import finish
    from automl.search.engine import search
    from automl.search.manifest import update_manifest
    from automl.search.publishing import fetch_run

    outcome = search(
        spec,
        directory,
        prepared,
        publisher=publisher,
        prepared_from=_first_config(spec)["data"],
        cache=cache_directory(),
        shared_cache=shared_cache(),
        address=address,
        quiet=quiet,
    )
    try:
        update_manifest(directory, status=outcome.status, reason=outcome.reason)
        fetch_run(directory, models=True)
        finish(directory)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        return RunResult(directory.path, "interrupted", outcome.reason or f"the disk is full: {error}", directory.url)
    return RunResult(directory.path, outcome.status, outcome.reason, directory.url)


def _is_there(directory: RunDirectory, name: str = "") -> bool:
    """Whether there is such a run, or such a file of it."""
    if directory.url is None:
        return (directory.path / name).exists()
    return bool(Store(directory.url).names()) if not name else Store(directory.url).has(name)


def _require_cluster(address: str | None) -> None:
    """Raise UserError where nobody listens at `address`: Ray itself takes minutes to say so."""
    if address is None or address == "auto":
        return
    found = re.fullmatch(r"(?:ray://)?(?P<host>[^\s:/]+|\[[0-9a-fA-F:.]+\]):(?P<port>\d{1,5})", address)
    if found is None:
        raise UserError(f"--address {address}: expected HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster answers at {address}: {getattr(error, 'strerror', None) or error}") from error


def _first_config(spec: SearchSpec) -> dict[str, Any]:
    """One configuration of the space: its data settings are prepared before the search and feed the linear floor."""
    return (sample_configs(spec, 1, seed=0) or sample_configs(spec, 1, seed=0, feasible=False))[0]


def _prepare(spec: SearchSpec) -> Prepared:
    """Prepare the data of the search, and import what it takes besides Ray: seconds, in which Ray starts."""
    from automl.data import prepare

    prepared = prepare(
        _first_config(spec)["data"], seed=spec.search.seed, cache=cache_directory(), shared=shared_cache()
    )
    import automl.search.ledger
    import automl.training.fit  # noqa: F401

    return prepared


def _budget_overrides(trials: int | None, time_budget: str | None, seed: int | None) -> list[str]:
    asked = {"search.trials": trials, "search.time_budget": time_budget, "search.seed": seed}
    return [f"{key}={value}" for key, value in asked.items() if value is not None]


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _working_directory(manifest: dict[str, Any]) -> Path:
    """Where the run was started, for its file names data relative to there; here if that place is gone."""
    there = Path(manifest["working_directory"])
    return there if there.is_dir() else Path.cwd()
