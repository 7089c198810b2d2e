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
UNDER_WAY = ("pending", "waiting", "running")


@dataclass(frozen=True)
class RunStatus:
    """A submitted run.

    `state` is pending, waiting (no trial runs, as all wait for resources), running, finished, interrupted, failed, lost
    (its driver is gone), or damaged (its files are). `reason` is for what it waits, or why it ended.
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
    return replace(
        _of_manifest(found, record.manifest),
        trials={
            "budget": record.manifest["budget"]["trials"],
            **_counts(record),
            "infeasible": sum(record.infeasible.values()),
        },
        best=_best(record),
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
    )


def _best(record: RunRecord) -> dict[str, Any] | None:
    if not record.ranked:
        return None
    best = record.ranked[0]
    return {"metric": record.metric, "score": best.score, "trial": best.number, "family": best.family}


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
    trials = {"budget": manifest["budget"]["trials"], "ended": manifest["used"]["trials"]}
    return replace(_of_manifest(found, manifest), trials=trials)


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
