"""Runs from their beginning to their end: started from a search-space file, or gone on with."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.data.remote import cache_directory
from automl.places import open_run, shared_cache
from automl.run_name import default_places, named, say_where
from automl.space import SearchSpec, Section, UserError, load, resolved_text
from automl.space.document import MAX_BYTES
from automl.space.families import FAMILIES
from automl.space.owners import labels_of, owner_name
from automl.space.printable import say
from automl.space.reading import located
from automl.space.safe_files import read_regular
from automl.space.spinner import waiting
from automl.training.run_directory import Allowed, RunDirectory

if TYPE_CHECKING:
    from automl.data import Prepared
    from automl.run_folder import NewRun
    from automl.search.publishing import Publisher
    from automl.search.resources import Capacity


@dataclass(frozen=True)
class RunResult:
    """Where a run lies and how it ended: `finished`, `interrupted` or `failed` (then with a reason)."""

    path: Path
    status: str
    reason: str
    url: str | None = None  # where `path` is a copy of a run in a store
    note: str = ""  # what went wrong after a search that is finished

    @property
    def place(self) -> str:
        """Where the run lies, as the command takes it."""
        return self.url or str(self.path)


def load_space(space: str | Path, overrides: Sequence[str] = (), *, beside: str | Path | None = None) -> SearchSpec:
    """Read and validate a search-space file with the families this package has and those that the user wrote.

    The latter are looked for beside the file (of a copy: `beside` the original) and in the current directory. Raises
    UserError (SpaceError with positions where the file is wrong).
    """
    folders = (Path(beside or space).parent, Path.cwd())
    return load(Path(space), FAMILIES, overrides, find_family=partial(_own_family, folders=folders))


def _own_family(name: str, folders: Sequence[Path]) -> type[Section]:
    from automl.models import family_section  # PyTorch: a mistake in a file without such a family is said sooner

    return family_section(name, folders)


def run(
    space: str | Path,
    *,
    output: str | Path | None = None,
    trials: int | None = None,
    time_budget: str | None = None,
    seed: int | None = None,
    overrides: Sequence[str] = (),
    address: str | None = None,
    study: str | None = None,
    owner: str | None = None,
    labels: Sequence[str] = (),
    quiet: bool = False,
) -> RunResult:
    """Search: prepare the data, run trials until the budget is used, write the run directory.

    `output` is the run directory to make (default `runs/<name>-<time>`); `overrides` are `key.path=value`; `address`
    names a Ray cluster (default: a local Ray of its own); `study` is the URL of a database to keep the study in
    (default: the file study.journal). `owner` (default: your login name) and `labels`, each `key=value`, are written
    into its manifest. Raises UserError before anything is written where the file, the data, the resources, the output
    folder or a label will not do. Unless `quiet`, the directory is said first.
    """
    space = Path(space)
    overrides = (*overrides, *_budget_overrides(trials, time_budget, seed))
    belongs = owner_name(owner), labels_of(labels)
    spec = load_space(space, overrides)
    places = list(default_places(spec.name)) if output is None else [output]
    with named(places, quiet=quiet) as tell:
        _require_cluster(address)
        with waiting("loading PyTorch and Ray"):
            from automl.refusals import require_all
            from automl.run_folder import new_run, require_free
            from automl.search.ray_session import ray_beside, require_no_ray
            from automl.search.resources import check_request, local_capacity
            from automl.training.database import Database

        if output is not None:
            require_free(output)
        require_no_ray()
        if study:
            Database(study, spec.name).connect()
        capacity = local_capacity()
        if address is None:
            check_request(spec, capacity)
        with located(space, overrides), waiting("looking at the data"):
            require_all(spec)
        with (
            located(space, overrides),
            ray_beside(lambda: _prepare(spec, address), address) as prepared,
            new_run(places, study, spec.search.modes) as begun,
        ):
            tell(begun.directory.url or begun.directory.path)
            return _begin(spec, space, overrides, begun, prepared, capacity, address, belongs, quiet)


def resume(
    run: str | Path,
    *,
    trials: int | None = None,
    time_budget: str | None = None,
    address: str | None = None,
    study: str | None = None,
    quiet: bool = False,
) -> RunResult:
    """Go on with a run that was interrupted or killed, or, with a larger budget, with one that is finished.

    Trials that have ended are kept and not run again. It runs what the run's file asks for, as `run` does, but connects
    to no database that neither `study` nor the environment names. Raises UserError where `run` is no run directory,
    where another process drives it, or where its file or its data has changed since it began.
    """
    from automl.results import read_manifest

    directory = open_run(run, drive=True, allowed=Allowed(study, data=True))
    manifest = read_manifest(directory)
    _require_cluster(address)
    if _hash(directory.space) != manifest["space_hash"]:
        raise UserError(f"{directory.space} has been edited since the run began; run it as a new search instead")
    if not quiet:
        say_where(directory.url or directory.path)

    with waiting("loading PyTorch and Ray"):
        from automl.training.database import database_of

        database_of(directory)  # raises where it is not named, before any data is prepared
        from automl.data.fingerprint import changed_data
        from automl.models.family_source import require_same_source
        from automl.refusals import first_config
        from automl.search.manifest import budget, update_manifest
        from automl.search.publishing import driving, fetch_run
        from automl.search.ray_session import ray_beside, require_no_ray
        from automl.training.named_files import require_unchanged

    require_no_ray()
    overrides = (*manifest["overrides"], *_budget_overrides(trials, time_budget, None))
    with driving(directory) as publisher, chdir(_working_directory(manifest)):
        fetch_run(directory, models=False)  # another driver may have gone on with it until a moment ago
        manifest = read_manifest(directory)
        require_same_source(manifest.get("families", {}), [Path(manifest["space_file"]).parent, Path.cwd()])
        spec = load_space(directory.space, overrides, beside=manifest["space_file"])
        prepare = partial(_prepare, spec, address)
        with located(directory.space, overrides), ray_beside(prepare, address) as prepared:
            known = manifest["data"].get("files", "")  # runs of earlier versions do not have it
            if prepared.fingerprint != manifest["data"]["fingerprint"]:
                raise changed_data(first_config(spec)["data"], known, prepared.files)
            data = {**manifest["data"], "files": prepared.files}
            require_unchanged(manifest.get("named_files", {}), cache_directory())
            update_manifest(directory, status="running", budget=budget(spec), overrides=list(overrides), data=data)
            return _search(spec, directory, publisher, prepared, address=address, quiet=quiet)


def _begin(
    spec: SearchSpec,
    space: Path,
    overrides: Sequence[str],
    begun: NewRun,
    prepared: Prepared,
    capacity: Capacity,
    address: str | None,
    belongs: tuple[str, Mapping[str, str]],
    quiet: bool,
) -> RunResult:
    """Write what a run has from its beginning, and search."""
    from automl.search.manifest import create_manifest, update_manifest
    from automl.search.warm_start import gather

    url = begun.database.url if begun.database else None
    directory = replace(begun.directory, allowed=Allowed(url, data=True))
    directory.space.write_text(resolved_text(space), encoding="utf-8")
    create_manifest(
        directory,
        spec,
        prepared,
        capacity,
        space_file=space,
        space_hash=_hash(directory.space),
        overrides=overrides,
        database=begun.database,
        owner=belongs[0],
        labels=belongs[1],
    )
    begun.publisher.publish()  # from here on another machine can go on with it
    if spec.search.warm_start:
        notes = gather(spec, prepared.fingerprint, directory.warm_start)
        update_manifest(directory, warm_start=notes)
        for note in () if quiet else notes:
            say(f"warm start  {note}")
    return _search(spec, directory, begun.publisher, prepared, address=address, quiet=quiet)


def _search(
    spec: SearchSpec,
    directory: RunDirectory,
    publisher: Publisher,
    prepared: Prepared,
    *,
    address: str | None,
    quiet: bool,
) -> RunResult:
    from automl.refusals import first_config
    from automl.results import finish, summarise
    from automl.results.compress import compress
    from automl.results.live import kept_up_to_date
    from automl.results.study import best_entry
    from automl.search.budget import INTERRUPTED
    from automl.search.engine import Outcome, search
    from automl.search.manifest import update_manifest
    from automl.search.publishing import fetch_run
    from automl.search.reasons import FULL, not_written
    from automl.search.signals import end_at_once, on_interrupt

    outcome: Outcome | None = None
    try:
        with on_interrupt(end_at_once):
            with kept_up_to_date(directory):
                outcome = search(
                    spec,
                    directory,
                    prepared,
                    publisher=publisher,
                    prepared_from=first_config(spec)["data"],
                    cache=cache_directory(),
                    shared_cache=shared_cache(),
                    address=address,
                    quiet=quiet,
                )
            if lost := publisher.lost():
                return RunResult(directory.path, INTERRUPTED, lost, directory.url)
            update_manifest(directory, status=outcome.status, reason=outcome.reason, note=outcome.note)
            publisher.attempt()  # what the store has may be older
            own = [family for family in spec.model.named() if ":" in family]
            with waiting("writing the report"):
                fetch_run(directory, models=True, top=False)
                record = finish(directory, own)
            update_manifest(directory, best=best_entry(record))
            if spec.search.compress and outcome.status == "finished":
                compress(
                    record,
                    directory.compressed,
                    tolerance=spec.search.compress.tolerance,
                    epochs=spec.search.compress.epochs,
                    families=own,
                    tell=(lambda line: None) if quiet else say,
                )
                summarise(directory)
    except KeyboardInterrupt:
        if outcome is None:  # asked for a second time
            raise
        update_manifest(directory, status=INTERRUPTED, reason=INTERRUPTED)
        return RunResult(directory.path, INTERRUPTED, INTERRUPTED, directory.url)
    except OSError as error:
        if outcome is None or error.errno not in FULL:
            raise
        return RunResult(directory.path, INTERRUPTED, outcome.reason or not_written(error), directory.url)
    except UserError:  # what ended the search, a database that does not answer, is still in the way
        if outcome is None or outcome.status != INTERRUPTED:
            raise
    return RunResult(directory.path, outcome.status, outcome.reason, directory.url, outcome.note)


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


def _prepare(spec: SearchSpec, address: str | None) -> Prepared:
    """Prepare the data of the search, and import what it takes besides Ray: seconds, in which Ray starts."""
    from automl.refusals import first_config, prepare_section
    from automl.search.preparation import choose_workers

    with waiting("preparing the data"):
        prepared = prepare_section(spec, first_config(spec)["data"], choose_workers(address, shared_cache()))
        import automl.search.ledger
        import automl.training.fit  # noqa: F401

    return prepared


def _budget_overrides(trials: int | None, time_budget: str | None, seed: int | None) -> list[str]:
    asked = {"search.trials": trials, "search.time_budget": time_budget, "search.seed": seed}
    return [f"{key}={value}" for key, value in asked.items() if value is not None]


def _hash(path: Path) -> str:
    return hashlib.sha256(read_regular(path, MAX_BYTES)).hexdigest()


def _working_directory(manifest: dict[str, Any]) -> Path:
    """Where the run was started, for its file names data relative to there; here if that place is gone."""
    there = Path(manifest["working_directory"])
    return there if there.is_dir() else Path.cwd()
