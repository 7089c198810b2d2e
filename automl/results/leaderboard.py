"""The rows of a leaderboard: every trial that has ended, best first, the ensemble and the linear floor."""

from __future__ import annotations

from statistics import mean, stdev
from typing import Any

from automl.results.study import ENSEMBLE, RunRecord

FLOOR = "floor"


def rows(record: RunRecord) -> list[dict[str, Any]]:
    """A row for each trial that has ended, best first; failed trials come last and have no rank.

    `score` is the best validation metric over the trial's epochs; `confirmed_mean` and `confirmed_std` (sample standard
    deviation) that of `confirmed_seeds` further trainings under other seeds, for finalists where the file asked for
    them; `test_score` that metric on the test set (only for finalists); `accumulation` 2 where a GPU's memory was too
    small for a whole batch, so that it passed in halves; `error` why it failed, `stopped_by` what stopped it early.
    """
    measured = record.finalists["trials"] if record.finalists else {}
    found = []
    for rank, trial in enumerate((trial for trial in record.trials if trial.status != "running"), start=1):
        test = (measured.get(str(trial.number)) or {}).get("test")
        scored = trial.status != "failed" and trial.score is not None
        found.append(
            {
                "rank": rank if scored else None,
                "trial": trial.number,
                "status": trial.status,
                "family": trial.family,
                "epochs": trial.epochs,
                "score": trial.score if scored else None,
                **_confirmed_figures(record.confirmed.get(trial.number, ())),
                "test_score": test[record.metric] if test and scored else None,
                "parameters": trial.parameters,
                "train_seconds": trial.train_seconds,
                "accumulation": trial.accumulation,
                "error": trial.reason if trial.status == "failed" else None,
                "stopped_by": trial.reason if trial.status == "stopped" else None,
                "config": dict(trial.config),
            }
        )
    return found


def _confirmed_figures(scores: tuple[float, ...]) -> dict[str, Any]:
    return {
        "confirmed_mean": mean(scores) if scores else None,
        "confirmed_std": stdev(scores) if len(scores) > 1 else None,
        "confirmed_seeds": len(scores) or None,
    }


def floor_row(record: RunRecord) -> dict[str, Any] | None:
    """The linear floor in the shape of a row, without rank and trial number; None before it is trained."""
    if record.floor is None:
        return None
    test = record.floor["test"]
    return {
        "rank": None,
        "trial": None,
        "status": FLOOR,
        "family": record.floor["name"],
        "epochs": None,
        "score": record.floor["validation"][record.metric],
        **_confirmed_figures(()),
        "test_score": test[record.metric] if test else None,
        "parameters": record.floor["parameters"],
        "train_seconds": record.floor["train_seconds"],
        "accumulation": None,
        "error": None,
        "stopped_by": None,
        "config": record.floor["settings"],
    }


def ensemble_row(record: RunRecord) -> dict[str, Any] | None:
    """The average of the leaders in the shape of a row, without rank and trial number; None where there is none.

    It is there even where the best trial alone is better, which `RunRecord.ensemble` says.
    """
    found = (record.finalists or {}).get("ensemble")
    if not found:
        return None
    members = [trial for number in found["members"] for trial in record.trials if trial.number == number]
    floor = record.floor if found["linear"] and record.floor else {"parameters": 0, "train_seconds": 0.0}
    return {
        "rank": None,
        "trial": None,
        "status": ENSEMBLE,
        "family": f"ensemble of {len(members)}{' and linear' if found['linear'] else ''}",
        "epochs": None,
        "score": found["validation"][record.metric],
        **_confirmed_figures(()),
        "test_score": found["test"][record.metric] if found["test"] else None,
        "parameters": sum(trial.parameters or 0 for trial in members) + floor["parameters"],
        "train_seconds": sum(trial.train_seconds or 0.0 for trial in members) + floor["train_seconds"],
        "accumulation": None,
        "error": None,
        "stopped_by": None,
        "config": {"members": found["members"], "linear": found["linear"]},
    }


def beside(record: RunRecord) -> list[dict[str, Any]]:
    """The rows that are no trials: the ensemble of the leaders and the linear floor, as far as they are there."""
    return [row for row in (ensemble_row(record), floor_row(record)) if row]
