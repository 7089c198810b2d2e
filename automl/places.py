"""Where runs, models and prepared data lie: paths, or URLs of a store of which this machine works on a copy."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from automl.data.copies import DRIVEN, remove_missing, use_copy
from automl.data.remote import user_cache
from automl.data.store import Allowance, Store, is_url
from automl.space import UserError
from automl.space.urls import redacted
from automl.training.run_directory import Allowed, RunDirectory

NOTHING = Allowed()


def shared_cache() -> str | None:
    """Where prepared data is kept for all machines: `$AUTOML_CACHE` where that is a URL."""
    asked = os.environ.get("AUTOML_CACHE", "")
    return asked.rstrip("/") if is_url(asked) else None


def run_directory(place: str | Path) -> RunDirectory:
    """The directory of a run to be driven, which need not exist; of a URL, the copy that its driver works on."""
    return _copied(DRIVEN, str(place)) if is_url(str(place)) else RunDirectory(Path(place))


def open_run(
    place: str | Path, *, models: bool = False, drive: bool = False, allowed: Allowed = NOTHING
) -> RunDirectory:
    """The run that lies at `place`, a path or a URL; raises UserError where there is none.

    Of a URL it is a copy brought up to date, weights and packages only with `models`: the driver's with `drive`, else
    one for reading. `allowed` is what the user has named beside it: nothing else that the run names is reached for.
    """
    if is_url(str(place)):
        from automl.search.publishing import fetch_run, not_driven_here

        directory = _copied(DRIVEN if drive else "read", str(place))
        with not_driven_here(directory) if drive else nullcontext():
            fetch_run(directory, models=models)
    else:
        directory = RunDirectory(Path(place).resolve())
        if not directory.path.is_dir():
            raise UserError(f"there is no run directory {place}")
    if not directory.manifest.is_file() or not directory.space.is_file():
        lacks = f"it has no {directory.manifest.name} or no {directory.space.name}"
        raise UserError(f"{redacted(str(place))} is no run directory: {lacks}")
    return replace(directory, allowed=allowed)


def run_of_trials(place: str | Path, allowed: Allowed = NOTHING) -> RunDirectory:
    """The run at `place` with the weights of its trials; raises UserError where that is a model without its run."""
    if not is_url(str(place)):
        folder = Path(place)
        if (folder / "config.json").is_file() and not RunDirectory(folder).manifest.exists():
            raise UserError(f"{place} is a model, not a run: --trial chooses among the trials of a run directory")
    return open_run(place, models=True, allowed=allowed)


def require_own_place(run: RunDirectory) -> None:
    """Raise UserError where the run lies in a store: what is written into the copy here would be lost."""
    if run.url is not None:
        raise UserError("the run lies in a store; name a folder to write to with --output")


def model_folder(place: str | Path) -> Path:
    """The folder of a model, which is a run directory or a best_model directory; of a URL, a copy of it."""
    if not is_url(str(place)):
        return Path(place)
    store = Store(str(place).rstrip("/"))
    best = "best_model/" if store.has("manifest.json") else ""
    folder = _copy("models", store.url)
    names = store.names(best)
    if not names:
        raise UserError(f"there is no model at {redacted(str(place))}")
    allowance = Allowance(store.url)
    remove_missing(folder, {name.removeprefix(best) for name in names})
    for name in names:
        store.get(name, folder / name.removeprefix(best), allowance)
    return folder


def _copied(purpose: str, url: str) -> RunDirectory:
    url = url.rstrip("/")
    return RunDirectory(_copy(purpose, url), url)


def _copy(purpose: str, url: str) -> Path:
    digest = hashlib.blake2b(url.encode(), digest_size=8).hexdigest()
    folder = use_copy(user_cache(purpose) / digest)
    name = url.rpartition("/")[2]
    return folder / (name if re.fullmatch(r"[\w-][\w.-]{0,99}", name) else "copy")
