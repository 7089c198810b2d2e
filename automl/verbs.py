"""What the command does, as functions: `automl.run("space.yaml")` in Python is `automl run space.yaml` in a shell."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import platformdirs

from automl.results import finish
from automl.space import SearchSpec, UserError, load, sample_configs
from automl.training.run_directory import RunDirectory, read_json


@dataclass(frozen=True)
class RunResult:
    """Where a run lies and how it ended: `finished`, `interrupted` or `failed` (then with a reason)."""

    path: Path
    status: str
    reason: str


def cache_directory() -> Path:
    """Where prepared data is kept: `$AUTOML_CACHE`, else the user's cache folder."""
    return Path(os.environ.get("AUTOML_CACHE") or platformdirs.user_cache_path("automl"))


def load_space(space: str | Path, overrides: Sequence[str] = ()) -> SearchSpec:
    """Read and validate a search-space file with the families this package has.

    Raises UserError (SpaceError with positions where the file is wrong).
    """
    from automl.models import FAMILIES

    return load(Path(space), FAMILIES, overrides)


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
    path = Path(output) if output else Path("runs") / f"{spec.name}-{datetime.now():%Y%m%d-%H%M%S}"
    if path.exists():
        raise UserError(f"{path} exists already; name another --output, or go on with: automl resume {path}")

    from automl.search.engine import driving
    from automl.search.manifest import create_manifest
    from automl.search.ray_session import check_request, local_capacity

    capacity = local_capacity()
    if address is None:
        check_request(spec, capacity)
    prepared = _prepare(spec)
    directory = RunDirectory(path)
    path.mkdir(parents=True)
    try:
        with driving(directory):
            shutil.copyfile(space, directory.space)
            create_manifest(
                directory,
                spec,
                prepared,
                capacity,
                space_file=space,
                space_hash=_hash(space),
                overrides=overrides,
            )
            return _search(spec, directory, prepared, address=address, quiet=quiet)
    except UserError:
        if not (path / "trials").exists():
            shutil.rmtree(path)
        raise


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
    directory = open_run(run)
    manifest = read_json(directory.manifest)
    if _hash(directory.space) != manifest["space_hash"]:
        raise UserError(f"{directory.space} has been edited since the run began; run it as a new search instead")

    from automl.search.engine import driving
    from automl.search.manifest import update_manifest

    overrides = (*manifest["overrides"], *_budget_overrides(trials, time_budget, None))
    with driving(directory), chdir(_working_directory(manifest)):
        spec = load_space(directory.space, overrides)
        prepared = _prepare(spec)
        if prepared.fingerprint != manifest["data"]["fingerprint"]:
            raise UserError(f"the data of {directory.path} has changed since the run began; run it as a new search")
        budget = {"trials": spec.search.trials, "time_budget_seconds": spec.search.time_budget_seconds}
        update_manifest(directory, status="running", budget=budget, overrides=list(overrides))
        return _search(spec, directory, prepared, address=address, quiet=quiet)


def open_run(run: str | Path) -> RunDirectory:
    """The run directory at `run`; raises UserError where it is none."""
    directory = RunDirectory(Path(run).resolve())
    if not directory.path.is_dir():
        raise UserError(f"there is no run directory {run}")
    if not directory.manifest.is_file() or not directory.space.is_file():
        raise UserError(f"{run} is no run directory: it has no {directory.manifest.name} or no {directory.space.name}")
    return directory


def _search(spec: SearchSpec, directory: RunDirectory, prepared: Any, *, address: str | None, quiet: bool) -> RunResult:
    from automl.search.engine import search
    from automl.search.manifest import update_manifest

    outcome = search(
        spec,
        directory,
        prepared,
        clean=_first_config(spec)["data"]["clean"],
        cache=cache_directory(),
        address=address,
        quiet=quiet,
    )
    update_manifest(directory, status=outcome.status, reason=outcome.reason)
    finish(directory)
    return RunResult(directory.path, outcome.status, outcome.reason)


def _first_config(spec: SearchSpec) -> dict[str, Any]:
    """One configuration of the space: its data settings are prepared before the search and feed the linear floor."""
    return sample_configs(spec, 1, seed=0)[0]


def _prepare(spec: SearchSpec) -> Any:
    from automl.data import prepare

    return prepare(_first_config(spec)["data"], seed=spec.search.seed, cache=cache_directory())


def _budget_overrides(trials: int | None, time_budget: str | None, seed: int | None) -> list[str]:
    asked = {"search.trials": trials, "search.time_budget": time_budget, "search.seed": seed}
    return [f"{key}={value}" for key, value in asked.items() if value is not None]


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _working_directory(manifest: dict[str, Any]) -> Path:
    """Where the run was started, for its file names data relative to there; here if that place is gone."""
    there = Path(manifest["working_directory"])
    return there if there.is_dir() else Path.cwd()
