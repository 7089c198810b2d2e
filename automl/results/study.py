"""A run as its files tell it: the manifest, the trials of the study, the linear floor, the leaders' test figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from automl.results.chance import LEVEL
from automl.space import UserError
from automl.space.objectives import mode, pareto_front, point
from automl.training.confirmed import Reruns, by_confirmed_mean, read_confirmed, scores_of
from automl.training.identity import has_own_weights
from automl.training.run_directory import INFEASIBLE, PAUSED, REACHED, RunDirectory
from automl.training.run_files import (
    Compressed,
    Finalists,
    Floor,
    Refit,
    read_manifest,
    read_part,
)
from automl.training.study_file import load_study, objectives_of, reached_by

ENSEMBLE = "ensemble"
LATENCY = "latency_ms"
ENDED = ("completed", "stopped")

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
    first_by_score: int | None = None
    """Where the means under other seeds have decided: the trial that is best by the search's scores."""
    compressed_trial: int | None = None
    """The trial that the variants of `compressed.json` were made of."""

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

    @property
    def cpu_only(self) -> bool:
        """Whether its trials were to have no GPU, so that it is measured without one, too."""
        return self.manifest.get("gpus_per_trial") == 0

    def refitted(self, trial: int) -> bool:
        """Whether this trial has weights that were trained on train and validation rows together."""
        if self.refit is None or self.refit["trial"] != trial or "error" in self.refit:
            return False
        path = self.directory.refitted().weights  # which whoever reads no models does not have
        return not path.exists() or has_own_weights(path, self.run_id)

    @property
    def run_id(self) -> str:
        """The run's id; none of a run of an earlier version."""
        return str(self.manifest.get("id", ""))

    def has_weights(self, trial: TrialRecord) -> bool:
        """Whether weights of this trial are kept that are of this run, and not of another one in the same place."""
        return has_own_weights(self.directory.trial(trial.number).weights, self.run_id)

    @property
    def ensemble(self) -> Mapping[str, Any] | None:
        """The average of the leaders, as `finalists.json` has it, where it is the best model.

        That is unless the best trial alone is ahead of it on validation by more than chance (its score is the luckiest
        of all trials and epochs, and the average was not chosen), or the linear floor is ahead of it.
        """
        found = (self.finalists or {}).get("ensemble")
        if not found or not self.ranked or found["members"][0] != self.best_trial.number:
            return None
        ahead = found.get("best_ahead")
        alone = ahead is not None and ahead["p"] < LEVEL and (ahead["value"] > 0) == self.maximize
        return None if alone or self._floor_ahead_of(found) else found

    @property
    def linear(self) -> Mapping[str, Any] | None:
        """The linear floor, as `finalists.json` has it, where it is the best model.

        That is where it is ahead on validation of the best trial and of the average, even if by chance: a trial's score
        is the luckiest of many trials and epochs and the floor's is not, and the floor is the cheapest.
        """
        found: Mapping[str, Any] | None = (self.finalists or {}).get("linear")
        if not found or not self.ranked or self.ensemble is not None:
            return None
        best = (self.finalists or {})["trials"].get(str(self.best_trial.number))
        return found if best and self._floor_ahead_of(best) else None

    def _floor_ahead_of(self, other: Mapping[str, Any]) -> bool:
        """Whether the linear floor, where it may be packed, has more of the metric on validation."""
        found = (self.finalists or {}).get("linear") or {"validation": {}}
        mine, its = found["validation"].get(self.metric), other["validation"].get(self.metric)
        return mine is not None and its is not None and bool(mine > its if self.maximize else mine < its)

    @property
    def made_of(self) -> Mapping[str, Any]:
        """What the best model is: `members`, the numbers of trials, and whether `linear` is heard. Needs a trial."""
        if self.linear:
            return {"members": [], "linear": True}
        return self.ensemble or {"members": [self.best_trial.number], "linear": False}

    @property
    def best_trial(self) -> TrialRecord:
        """The trial that ranks first; once the finalists are measured, the first of them. Needs a trial.

        The trial that ranks first is not among them where its weights are not kept, so that nothing can be made of it.
        """
        measured = (self.finalists or {}).get("trials") or {}
        return next((trial for trial in self.ranked if str(trial.number) in measured), self.ranked[0])

    @property
    def ranked(self) -> tuple[TrialRecord, ...]:
        """The trials that have ended with a score, best first."""
        return tuple(trial for trial in self.trials if trial.status in ENDED and trial.score is not None)


def read_run(directory: RunDirectory, families: Sequence[str] = ()) -> RunRecord:
    """Read a run directory, also while it is being written; raises UserError where it is none or is damaged.

    `families` are those of the user's own whose modules may be imported for it.
    """
    manifest = read_manifest(directory)
    study = load_study(directory)
    proposed = study.get_trials(deepcopy=False)
    objectives = objectives_of(manifest)
    if any(len(reached_by(trial, manifest["mode"])) not in (0, len(objectives)) for trial in proposed):
        raise UserError(f"the study of {directory.path} is damaged: its trials have not {len(objectives)} objectives")
    finalists = read_part(directory.finalists, Finalists)
    _require_same_classes(directory, finalists, manifest)
    trials = [
        _record(trial, objectives, (finalists or {}).get("trials", {}))
        for trial in proposed
        if INFEASIBLE not in trial.user_attrs
    ]
    _require_known(directory, finalists, {trial.number for trial in trials})
    front = _front(proposed, trials, objectives)
    trials.sort(key=lambda trial: _rank_key(trial, objectives, front))
    reruns = read_confirmed(directory)
    compressed: Mapping[str, Any] = read_part(directory.compressed_record, Compressed) or {"variants": ()}
    decided = _decided(trials, reruns, manifest)
    return RunRecord(
        directory=directory,
        manifest=manifest,
        trials=tuple(decided or trials),
        study=study,
        floor=read_part(directory.floor, Floor),
        finalists=finalists,
        confirmed={int(number): scores_of(reruns, int(number)) for number in reruns},
        refit=read_part(directory.refit_record, Refit),
        infeasible=Counter(trial.user_attrs[INFEASIBLE] for trial in proposed if INFEASIBLE in trial.user_attrs),
        compressed=tuple(compressed["variants"]),
        front=front,
        families=tuple(families),
        first_by_score=trials[0].number if decided else None,
        compressed_trial=compressed.get("trial"),
    )


def best_entry(record: RunRecord) -> dict[str, Any] | None:
    """The trial that ranks first as the manifest has it, in `best`; None before a trial has ended."""
    if not record.ranked:
        return None
    best = record.ranked[0]
    return {"score": best.score, "trial": best.number, "family": best.family}


def _decided(trials: Sequence[TrialRecord], reruns: Reruns, manifest: Mapping[str, Any]) -> list[TrialRecord] | None:
    """The trials with the best ones ordered by their mean under other seeds; None where that does not decide (yet)."""
    asked = manifest.get("confirm") or {}
    if not asked.get("decides"):
        return None
    leaders = {trial.number: trial for trial in trials if trial.status in ENDED and trial.score is not None}
    numbers = list(leaders)[: asked["top"]]
    order = by_confirmed_mean(numbers, reruns, seeds=asked["seeds"], maximize=manifest["mode"] == "max")
    if order is None:
        return None
    return [leaders[number] for number in order] + [trial for trial in trials if trial.number not in numbers]


def _require_same_classes(
    directory: RunDirectory, finalists: Mapping[str, Any] | None, manifest: Mapping[str, Any]
) -> None:
    matrix = (finalists or {}).get("confusion")
    if matrix and len(matrix) != len(manifest["data"]["classes"]):
        raise UserError(f"{directory.finalists} is damaged: its confusion matrix is not of the run's classes")


def _require_known(directory: RunDirectory, finalists: Mapping[str, Any] | None, numbers: set[int]) -> None:
    """Raise UserError where the finalists are no trials of the study."""
    found = finalists or {}
    named = {*map(int, found.get("trials", {})), *(found.get("ensemble") or {"members": ()})["members"]}
    if unknown := named - numbers:
        raise UserError(f"{directory.finalists} is damaged: the study has no trial {min(unknown)}")


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
