"""How far a run is, read from its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from automl.cluster.submission import Runs, Submission
from automl.data.private_folder import private_folder
from automl.data.store import Store, is_url
from automl.space import UserError

if TYPE_CHECKING:
    from automl.results.study import RunRecord

ALIVE = ("PENDING", "RUNNING")


@dataclass(frozen=True)
class RunStatus:
    """A submitted run.

    `state` is pending, running, finished, interrupted, failed, lost (its driver is gone), or damaged (its files are).
    """

    name: str
    owner: str
    labels: Mapping[str, str]
    submitted: str
    place: str
    state: str
    reason: str = ""
    trials: Mapping[str, int] | None = None  # budget, completed, stopped, failed, running, infeasible
    best: Mapping[str, Any] | None = None  # metric, score, trial, family
    floor: float | None = None
    used: Mapping[str, float] | None = None  # seconds, gpu_hours
    budget: Mapping[str, Any] | None = None
    jobs: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def read_status(runs: Runs, name: str) -> RunStatus:
    """What the files of a run say; whether its driver lives is not in them (see `with_job`)."""
    submission = runs.record(name)
    found = _submitted(submission, runs)
    from automl.places import open_run
    from automl.results.study import read_run

    place = runs.run(name)
    try:
        record = read_run(open_run(place))
    except UserError:  # not begun, damaged, or a study in a database that is not named here
        return _brief(runs, name)
    manifest = record.manifest
    counts = Counter(trial.status for trial in record.trials)
    return replace(
        found,
        state=manifest["status"],
        reason=manifest.get("reason", ""),
        trials={
            "budget": manifest["budget"]["trials"],
            **{each: counts[each] for each in ("completed", "stopped", "failed", "running")},
            "infeasible": sum(record.infeasible.values()),
        },
        best=_best(record),
        floor=record.floor["validation"].get(record.metric) if record.floor else None,
        used={key: manifest["used"].get(key, 0.0) for key in ("seconds", "gpu_hours")},
        budget=manifest["budget"],
    )


def _best(record: RunRecord) -> dict[str, Any] | None:
    if not record.ranked:
        return None
    best = record.ranked[0]
    return {"metric": record.metric, "score": best.score, "trial": best.number, "family": best.family}


def with_job(status: RunStatus, job: str | None) -> RunStatus:
    """The same with the state of its latest job, None where the cluster knows none: what nobody drives is lost."""
    if status.state in ("running", "pending") and job not in ALIVE:
        state = "failed" if status.state == "pending" and job == "FAILED" else "lost"
        return replace(status, state=state, reason=status.reason or "its driver is gone")
    if job in ALIVE and status.state not in ("running", "pending"):
        return replace(status, state="running")  # gone on with, or about to end
    return status


def list_status(runs: Runs) -> list[RunStatus]:
    """All runs, with what a manifest alone says of each."""
    found = []
    for name in runs.names():
        try:
            found.append(_brief(runs, name))
        except UserError as error:  # the others are listed all the same
            place = runs.run(name)
            found.append(RunStatus(name, "", {}, "", place, state="damaged", reason=str(error)))
    return found


def _brief(runs: Runs, name: str) -> RunStatus:
    from pathlib import Path

    from automl.training.run_directory import RunDirectory
    from automl.training.run_files import read_manifest

    found, place = _submitted(runs.record(name), runs), runs.run(name)
    with private_folder() if is_url(place) else nullcontext(Path(place)) as folder:
        run = RunDirectory(folder)
        if is_url(place):
            Store(place).get(run.manifest.name, run.manifest)
        if not run.manifest.exists():
            return found
        try:
            manifest = read_manifest(run)
        except UserError as error:  # the others are listed all the same
            return replace(found, state="damaged", reason=str(error))
    used = manifest["used"]
    return replace(
        found,
        state=manifest["status"],
        reason=manifest.get("reason", ""),
        trials={"budget": manifest["budget"]["trials"], "ended": used["trials"]},
        used={key: used.get(key, 0.0) for key in ("seconds", "gpu_hours")},
        budget=manifest["budget"],
    )


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
