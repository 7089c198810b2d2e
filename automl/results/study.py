"""A run as its files tell it: the manifest, the trials of the study, the linear floor, the leaders' test figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from automl.space import UserError
from automl.training.run_directory import INFEASIBLE, RunDirectory, read_json
from automl.training.study_file import load_study

MANIFEST_VERSION = 1
ENSEMBLE = "ensemble"

STATUSES = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
}


@dataclass(frozen=True)
class TrialRecord:
    """One trial; `values` are the metric after each epoch (from 1), `score` the best of them."""

    number: int
    status: str
    family: str
    score: float | None
    values: Mapping[int, float]
    parameters: int | None
    train_seconds: float | None
    accumulation: int
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

    @property
    def metric(self) -> str:
        """What the search looked for."""
        return str(self.manifest["metric"])

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

        That is where it is better on validation than the best trial alone.
        """
        found = (self.finalists or {}).get("ensemble")
        if not found or not self.ranked or found["members"][0] != self.ranked[0].number:
            return None
        score, alone = found["validation"][self.metric], self.ranked[0].score
        assert alone is not None  # as `ranked` says
        return found if (score > alone if self.maximize else score < alone) else None

    @property
    def ranked(self) -> tuple[TrialRecord, ...]:
        """The trials that have ended with a score, best first."""
        ended = ("completed", "stopped")
        return tuple(trial for trial in self.trials if trial.status in ended and trial.score is not None)


def read_run(directory: RunDirectory) -> RunRecord:
    """Read a run directory, also while it is being written; raises UserError where it is none or is damaged."""
    manifest = read_manifest(directory)
    study = load_study(directory)
    maximize = manifest["mode"] == "max"
    proposed = study.get_trials(deepcopy=False)
    trials = [_record(trial, maximize) for trial in proposed if INFEASIBLE not in trial.user_attrs]
    return RunRecord(
        directory=directory,
        manifest=manifest,
        trials=tuple(sorted(trials, key=lambda trial: _rank_key(trial, maximize))),
        study=study,
        floor=_read(directory.floor) if directory.floor.exists() else None,
        finalists=_read(directory.finalists) if directory.finalists.exists() else None,
        confirmed=_confirmed(directory),
        refit=_read(directory.refit_record) if directory.refit_record.exists() else None,
        infeasible=Counter(trial.user_attrs[INFEASIBLE] for trial in proposed if INFEASIBLE in trial.user_attrs),
    )


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


def _record(trial: FrozenTrial, maximize: bool) -> TrialRecord:
    values = trial.intermediate_values
    attributes = trial.user_attrs
    return TrialRecord(
        number=trial.number,
        status=STATUSES[trial.state],
        family=attributes.get("family", ""),
        score=(max if maximize else min)(values.values()) if values else None,
        values=dict(values),
        parameters=attributes.get("parameters"),
        train_seconds=attributes.get("train_seconds"),
        accumulation=attributes.get("accumulation", 1),
        reason=attributes.get("reason", ""),
        config=attributes.get("config", {}),
        started=trial.datetime_start,
        finished=trial.datetime_complete,
    )


def _rank_key(trial: TrialRecord, maximize: bool) -> tuple[int, float, int]:
    group = {"completed": 0, "stopped": 0, "running": 1, "failed": 2}[trial.status]
    score = float("inf") if trial.score is None else -trial.score if maximize else trial.score
    return group, score, trial.number
