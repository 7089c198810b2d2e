"""A run as its files tell it: the manifest, the trials of the study, the linear floor, the leaders' test figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from automl.results.chance import LEVEL
from automl.space import UserError
from automl.space.objectives import mode, pareto_front, point
from automl.training.run_directory import INFEASIBLE, PAUSED, REACHED, RunDirectory, read_json
from automl.training.study_file import load_study, objectives_of, reached_by

MANIFEST_VERSION = 1
ENSEMBLE = "ensemble"
LATENCY = "latency_ms"

STATUSES = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
}


@dataclass(frozen=True)
class TrialRecord:
    """One trial; `values` are the metric after each epoch (from 1), `score` the best of them.

    `reached` are the objectives at the best epoch, none where it has not come that far. A latency among them is that of
    the search until the finalists have been measured alone.
    """

    number: int
    status: str
    family: str
    score: float | None
    values: Mapping[int, float]
    reached: tuple[float, ...]
    parameters: int | None
    bytes: int | None
    train_seconds: float | None
    cost: Mapping[str, float]
    """`cpu_hours` and `gpu_hours` that it held while it trained; empty where that is not known."""
    accumulation: int
    paused: int
    """The epoch at whose rung a running trial waits; 0 where it does not."""
    reason: str
    config: Mapping[str, Any]
    started: datetime | None
    finished: datetime | None

    @property
    def epochs(self) -> int:
        """Epochs that were trained and measured."""
        return max(self.values, default=0)

    @property
    def best_epoch(self) -> int | None:
        """The first epoch that reached the score: the one whose weights are kept."""
        return next((epoch for epoch, value in sorted(self.values.items()) if value == self.score), None)


@dataclass(frozen=True)
class RunRecord:
    """Everything that a leaderboard or a report is made of; `trials` are ranked, best first, failed ones last."""

    directory: RunDirectory
    manifest: Mapping[str, Any]
    trials: tuple[TrialRecord, ...]
    study: optuna.Study
    floor: Mapping[str, Any] | None
    finalists: Mapping[str, Any] | None
    confirmed: Mapping[int, tuple[float, ...]]
    """Of each finalist that was trained again under other seeds, the scores that it reached."""
    refit: Mapping[str, Any] | None
    """Which trial was trained on train and validation rows together at the end, or why that failed."""
    infeasible: Mapping[str, int]
    """How many proposals were not run because they did not meet a condition of the file."""
    compressed: tuple[Mapping[str, Any], ...]
    """The variants of `compressed.json`, the original first; none where nothing was made smaller."""
    front: frozenset[int]
    """With several objectives, the trials that no other beats in all of them; else none."""
    families: tuple[str, ...] = ()
    """Those of the user's own that may be imported."""

    @property
    def metric(self) -> str:
        """What the search looked for."""
        return str(self.manifest["metric"])

    @property
    def objectives(self) -> tuple[str, ...]:
        """All that the search looked for, the metric first."""
        return objectives_of(self.manifest)

    @property
    def maximize(self) -> bool:
        """Whether more of it is better."""
        return bool(self.manifest["mode"] == "max")

    def refitted(self, trial: int) -> bool:
        """Whether this trial has weights that were trained on train and validation rows together."""
        return self.refit is not None and self.refit["trial"] == trial and "error" not in self.refit

    @property
    def ensemble(self) -> Mapping[str, Any] | None:
        """The average of the leaders, as `finalists.json` has it, where it is the best model.

        That is unless the best trial alone is ahead of it on validation by more than chance: its score is the luckiest
        of all trials and epochs, and the average was not chosen.
        """
        found = (self.finalists or {}).get("ensemble")
        if not found or not self.ranked or found["members"][0] != self.ranked[0].number:
            return None
        ahead = found["best_ahead"]
        alone = ahead["p"] < LEVEL and (ahead["value"] > 0) == self.maximize
        return None if alone else found

    @property
    def ranked(self) -> tuple[TrialRecord, ...]:
        """The trials that have ended with a score, best first."""
        ended = ("completed", "stopped")
        return tuple(trial for trial in self.trials if trial.status in ended and trial.score is not None)


def read_run(directory: RunDirectory, families: Sequence[str] = ()) -> RunRecord:
    """Read a run directory, also while it is being written; raises UserError where it is none or is damaged.

    `families` are those of the user's own whose modules may be imported for it.
    """
    manifest = read_manifest(directory)
    study = load_study(directory)
    proposed = study.get_trials(deepcopy=False)
    finalists = _read(directory.finalists) if directory.finalists.exists() else None
    trials = [
        _record(trial, objectives_of(manifest), (finalists or {}).get("trials", {}))
        for trial in proposed
        if INFEASIBLE not in trial.user_attrs
    ]
    front = _front(proposed, trials, objectives_of(manifest))
    return RunRecord(
        directory=directory,
        manifest=manifest,
        trials=tuple(sorted(trials, key=lambda trial: _rank_key(trial, objectives_of(manifest), front))),
        study=study,
        floor=_read(directory.floor) if directory.floor.exists() else None,
        finalists=finalists,
        confirmed=_confirmed(directory),
        refit=_read(directory.refit_record) if directory.refit_record.exists() else None,
        infeasible=Counter(trial.user_attrs[INFEASIBLE] for trial in proposed if INFEASIBLE in trial.user_attrs),
        compressed=_compressed(directory),
        front=front,
        families=tuple(families),
    )


def _compressed(directory: RunDirectory) -> tuple[Mapping[str, Any], ...]:
    path = directory.compressed_record
    return tuple(_read(path)["variants"]) if path.exists() else ()


def _confirmed(directory: RunDirectory) -> dict[int, tuple[float, ...]]:
    trials = _read(directory.confirmed)["trials"] if directory.confirmed.exists() else {}
    return {
        int(number): tuple(rerun["score"] for rerun in reruns.values() if "score" in rerun)
        for number, reruns in trials.items()
    }


def read_manifest(directory: RunDirectory) -> dict[str, Any]:
    """A run's manifest; raises UserError where there is none, or it is damaged or of a later version."""
    if not directory.manifest.is_file():
        raise UserError(f"{directory.path} is no run directory: it has no {directory.manifest.name}")
    manifest = _read(directory.manifest)
    version = manifest.get("schema_version")
    if not isinstance(version, int) or "metric" not in manifest:
        raise UserError(f"{directory.manifest} is not the manifest of a run")
    if version > MANIFEST_VERSION:
        raise UserError(f"{directory.path} was written by a later version of automl; upgrade to read it")
    return manifest


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: expected a JSON object")
    return content


def _record(trial: FrozenTrial, objectives: Sequence[str], measured: Mapping[str, Any]) -> TrialRecord:
    values = trial.intermediate_values
    attributes = trial.user_attrs
    score = (max if mode(objectives[0]) == "max" else min)(values.values()) if values else None
    reached = reached_by(trial, mode(objectives[0]))
    latency = measured.get(str(trial.number), {}).get("latency")
    if latency:
        alone = latency["1"]["p50"]
        reached = [alone if name == LATENCY else value for name, value in zip(objectives, reached, strict=False)]
    return TrialRecord(
        number=trial.number,
        status=STATUSES[trial.state],
        family=attributes.get("family", ""),
        score=score,
        values=dict(values),
        reached=tuple(reached),
        parameters=attributes.get("parameters"),
        bytes=attributes.get("bytes"),
        train_seconds=attributes.get("train_seconds"),
        cost=attributes.get("cost", {}),
        accumulation=attributes.get("accumulation", 1),
        paused=attributes.get(PAUSED, 0) if trial.state == TrialState.RUNNING else 0,
        reason=attributes.get("reason", ""),
        config=attributes.get("config", {}),
        started=trial.datetime_start,
        finished=trial.datetime_complete,
    )


def _front(proposed: Sequence[FrozenTrial], trials: Sequence[TrialRecord], objectives: Sequence[str]) -> frozenset[int]:
    """The trials that no other beats in all objectives, as the search saw them and as they were measured alone.

    All that are on the front of the search are finalists. Measured alone they are compared with each other only, as the
    latencies of others are of another kind.
    """
    if len(objectives) < 2:
        return frozenset()
    seen = {trial.number: point(objectives, trial.user_attrs[REACHED]) for trial in proposed if _counts(trial)}
    front = pareto_front(seen.values())
    alone = {trial.number: point(objectives, trial.reached) for trial in trials if seen.get(trial.number) in front}
    left = pareto_front(alone.values())
    return frozenset(number for number, each in alone.items() if each in left)


def _counts(trial: FrozenTrial) -> bool:
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and REACHED in trial.user_attrs


def _rank_key(trial: TrialRecord, objectives: Sequence[str], front: frozenset[int]) -> tuple[Any, ...]:
    group = {"completed": 1, "stopped": 1, "running": 2 if trial.paused else 3, "failed": 4}[trial.status]
    if trial.number in front:
        return 0, point(objectives, trial.reached), trial.number
    first = point(objectives[:1], trial.reached[:1]) if trial.reached else (float("inf"),)
    return group, first, trial.number
