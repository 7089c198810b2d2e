"""How far a run is, read from its files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.cluster.copies import RECORD
from automl.cluster.submission import Runs, Submission
from automl.data.private_folder import private_folder
from automl.data.store import Store, is_url
from automl.space import UserError
from automl.space.safe_files import first_line
from automl.training.driver_lock import is_driven
from automl.training.first_row import best_of_table
from automl.training.run_directory import RunDirectory

if TYPE_CHECKING:
    from automl.results.study import RunRecord

ALIVE = ("PENDING", "RUNNING")
STATES = ("pending", "waiting", "running", "interrupted", "lost", "failed", "finished", "newer", "damaged")
MANIFEST = "manifest.json"
MARKS = (MANIFEST, "space.yaml", "study.journal")  # by one of them a folder is known as a run's
MOST_MANIFEST = 16 * 1024 * 1024  # bytes: 200 of them are read at once

UNDER_WAY = ("pending", "waiting", "running")


@dataclass(frozen=True)
class RunStatus:
    """A submitted run.

    `state` is pending, waiting (no trial runs, as all wait for resources), running, finished, interrupted, failed, lost
    (its driver is gone), damaged (its files are), or newer (written by a later version). `reason` is for what it waits,
    or why it ended. `started` is when its search began, `submitted` is empty of a run that was not submitted.
    """

    name: str
    owner: str
    labels: Mapping[str, str]
    submitted: str
    place: str
    state: str
    reason: str = ""
    trials: Mapping[str, int] | None = None
    """The budget, and how many are completed, stopped, failed, running, waiting (for resources), paused (at a rung),
    unfinished (of a run that nobody drives) and infeasible."""
    best: Mapping[str, Any] | None = None  # metric, score, trial, family
    floor: float | None = None
    used: Mapping[str, float] | None = None  # seconds, gpu_hours
    budget: Mapping[str, Any] | None = None
    jobs: tuple[str, ...] = ()
    started: str = ""

    @property
    def begun(self) -> str:
        """When it was submitted or, where it was not, began."""
        return self.submitted or self.started

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def read_status(runs: Runs, name: str) -> RunStatus:
    """What the files of a run say; whether its driver lives is not in them (see `with_job`)."""
    submission = runs.record(name)
    found = _submitted(submission, runs)
    from automl.places import open_run
    from automl.results.study import best_entry, read_run

    place = runs.run(name)
    try:
        record = read_run(open_run(place))
    except UserError:  # not begun, damaged, or a study in a database that is not named here
        return _brief(runs, name)
    return replace(
        _of_manifest(found, record.manifest),
        trials={
            "budget": record.manifest["budget"]["trials"],
            **_counts(record),
            "infeasible": sum(record.infeasible.values()),
        },
        best=_best(record.manifest, best_entry(record)),
        floor=record.floor["validation"].get(record.metric) if record.floor else None,
    )


def _counts(record: RunRecord) -> dict[str, int]:
    """How many trials there are of each status."""
    counts = Counter("paused" if trial.paused else trial.status for trial in record.trials)
    waits = record.manifest.get("waiting")
    waiting = min(waits["trials"], counts["running"]) if waits else 0
    running = {"running": counts["running"] - waiting, "waiting": waiting, "unfinished": 0}
    ended = {each: counts[each] for each in ("completed", "stopped", "failed")}
    found = {**ended, **running, "paused": counts["paused"]}
    return found if record.manifest["status"] == "running" else _not_driven(found)


def _not_driven(trials: Mapping[str, int]) -> dict[str, int]:
    """The same of a run that nobody drives: its trials that have not ended are to go on."""
    if "ended" in trials:  # all that a manifest says
        return dict(trials)
    left = sum(trials.get(each, 0) for each in ("running", "waiting", "paused", "unfinished"))
    return {**trials, "running": 0, "waiting": 0, "paused": 0, "unfinished": left}


def _of_manifest(found: RunStatus, manifest: Mapping[str, Any]) -> RunStatus:
    """With the state, and what of the budget is used."""
    state, reason = manifest["status"], manifest.get("reason", "")
    if state == "running":
        waits = manifest.get("waiting") or {"running": 1, "waits_for": ""}
        state, reason = ("running", "") if waits["running"] else ("waiting", waits["waits_for"])
    return replace(
        found,
        state=state,
        reason="" if reason == state else reason,
        used={key: manifest["used"].get(key, 0.0) for key in ("seconds", "gpu_hours")},
        budget=manifest["budget"],
        best=_best(manifest, manifest.get("best")),
        started=manifest["created"],
    )


def _best(manifest: Mapping[str, Any], entry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if entry is None else {"metric": manifest["metric"], **entry}


def with_job(status: RunStatus, job: str | None) -> RunStatus:
    """The same with the state of its latest job, None where the cluster knows none: what nobody drives is lost."""
    if status.state in UNDER_WAY and job not in ALIVE:
        state = "failed" if status.state == "pending" and job == "FAILED" else "lost"
        trials = None if status.trials is None else _not_driven(status.trials)
        return replace(status, state=state, reason="its driver is gone", trials=trials)
    if job in ALIVE and status.state not in UNDER_WAY:
        return replace(status, state="running", reason="")  # gone on with, or about to end
    return status


def list_status(runs: Runs) -> list[RunStatus]:
    """All runs that were submitted, with what a manifest alone says of each."""
    return [_listed(runs, name) for name in runs.names()]


def list_folder(folder: Path) -> list[RunStatus]:
    """The same of all runs in a folder of this machine, also those that were not submitted; of a run, that one.

    One that nobody drives on this machine is lost.
    """
    if (folder / MANIFEST).is_file():
        found = [_unsubmitted(folder)]
    else:
        runs = Runs(str(folder))
        submitted = runs.names()
        others = {each.name for each in _subfolders(folder) if not each.name.startswith(".")} - {*submitted}
        found = [_listed(runs, name) for name in submitted]
        found += [_unsubmitted(folder / name) for name in sorted(others) if _looks_like_run(folder / name)]
    return [_seen_here(each) for each in found]


def _subfolders(folder: Path) -> list[os.DirEntry[str]]:
    def is_folder(entry: os.DirEntry[str]) -> bool:
        with suppress(OSError):
            return entry.is_dir()
        return False

    with os.scandir(folder) as entries:
        return [each for each in entries if is_folder(each)]


def _looks_like_run(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in MARKS)


def _unsubmitted(folder: Path) -> RunStatus:
    found = RunStatus(folder.resolve().name if folder.name in ("", "..") else folder.name, "", {}, "", str(folder), "")
    return _with_manifest(found, folder)


def _seen_here(found: RunStatus) -> RunStatus:
    """With what the lock of its driver says of it: a copy of a run that goes on elsewhere has none."""
    if found.state not in UNDER_WAY or found.state == "pending" or (Path(found.place) / RECORD).exists():
        return found
    return with_job(found, "RUNNING" if is_driven(RunDirectory(Path(found.place))) in (True, None) else None)


def _listed(runs: Runs, name: str) -> RunStatus:
    """A submitted run by its manifest; damaged where that or its record is, as the others are listed all the same."""
    place = runs.run(name)
    try:
        return _brief(runs, name)
    except (UserError, OSError) as error:
        return RunStatus(name, "", {}, "", place, state="damaged", reason=_why(error))


def _brief(runs: Runs, name: str) -> RunStatus:
    found, place = _submitted(runs.record(name), runs), runs.run(name)
    with private_folder() if is_url(place) else nullcontext(Path(place)) as folder:
        if is_url(place):
            Store(place).get(MANIFEST, folder / MANIFEST)
        return _with_manifest(found, folder) if (folder / MANIFEST).exists() else found


def _with_manifest(found: RunStatus, folder: Path) -> RunStatus:
    from automl.training.run_files import LaterVersionError, read_manifest

    run = RunDirectory(folder)
    try:
        manifest = read_manifest(run, max_bytes=MOST_MANIFEST)
    except LaterVersionError as error:
        return replace(found, state="newer", reason=_why(error, folder))
    except (UserError, OSError) as error:
        there = os.path.lexists(run.manifest)
        return replace(found, state="damaged", reason=_why(error, folder) if there else f"it has no {MANIFEST}")
    trials = {"budget": manifest["budget"]["trials"], "ended": manifest["used"]["trials"]}
    said = _of_manifest(found, manifest)
    best = said.best or _best(manifest, best_of_table(run))
    owner, labels = found.owner or manifest.get("owner", ""), found.labels or manifest.get("labels", {})
    return replace(said, trials=trials, best=best, owner=owner, labels=labels)


def _why(error: Exception, folder: Path | None = None) -> str:
    said = first_line(getattr(error, "strerror", None) or error)
    if folder is None:
        return said
    inside = said.removeprefix(f"{folder / 'x'}"[:-1])  # of the folder "." nothing stands before its files
    return f"it{said.removeprefix(str(folder))}" if said.startswith(f"{folder} ") else inside


def _submitted(submission: Submission, runs: Runs) -> RunStatus:
    return RunStatus(
        name=submission.name,
        owner=submission.owner,
        labels=submission.labels,
        submitted=submission.submitted,
        place=runs.run(submission.name),
        state="pending",
        jobs=tuple(submission.jobs),
    )
