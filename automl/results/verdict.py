"""What a run has found, in words: the best model against the linear floor, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl.results.intervals import wilson_interval
from automl.results.recommendation import recommendation
from automl.results.study import RunRecord


def best_figures(record: RunRecord) -> dict[str, Any]:
    """What is measured of the best model, be it a trial or the ensemble: `validation` and `test`, None if unknown."""
    if record.ensemble:
        return {split: record.ensemble[split] for split in ("validation", "test")}
    return _best_trial_figures(record)


def _best_trial_figures(record: RunRecord) -> dict[str, Any]:
    best = record.ranked[0]
    measured = (record.finalists or {"trials": {}})["trials"].get(str(best.number)) or {}
    return {"validation": measured.get("validation") or {record.metric: best.score}, "test": measured.get("test")}


def verdict(record: RunRecord) -> str:
    """Whether the best model beats the linear floor, whether a trial alone does, and which of the trials to take.

    Empty before that is known.
    """
    return " ".join(said for said in (_of_the_best(record), recommendation(record)) if said)


def _of_the_best(record: RunRecord) -> str:
    if record.floor is None or not record.ranked:
        return ""
    measured = best_figures(record)
    best = "The best searched model"
    if record.ensemble:
        members, linear = len(record.ensemble["members"]), " and the linear model" if record.ensemble["linear"] else ""
        best = f"The best model, the average of {members} trials{linear},"
    sentence = f"{best} {_against_floor(record, measured)}."
    rows_tested = record.manifest["data"]["profile"]["rows"].get("test")
    test = (measured["test"] or {}).get("accuracy")
    if test is not None and rows_tested:
        low, high = wilson_interval(test, rows_tested)
        sentence += f" Its test accuracy is {test:.4f}, 95 % interval {low:.3f} to {high:.3f} on {rows_tested:,} rows"
        floors = ((record.floor or {})["test"] or {}).get("accuracy")
        near = floors is not None and low <= floors <= high
        sentence += ", which the floor's lies within: the difference may be chance." if near else "."
    if record.ensemble:
        sentence += f" The best trial alone {_against_floor(record, _best_trial_figures(record))}."
    return sentence


def _against_floor(record: RunRecord, measured: Mapping[str, Any]) -> str:
    """`beats the linear floor on validation (0.9 against 0.8) and does not beat it on test (0.7 against 0.8)`."""
    parts: list[str] = []
    for split in ("validation", "test"):
        mine = (measured[split] or {}).get(record.metric)
        floors = ((record.floor or {})[split] or {}).get(record.metric)
        if mine is None or floors is None:
            continue
        beats = mine > floors if record.maximize else mine < floors
        verb = "beats" if beats else "does not beat"
        parts.append(f"{verb} {'it' if parts else 'the linear floor'} on {split} ({mine:.4f} against {floors:.4f})")
    return " and ".join(parts)
