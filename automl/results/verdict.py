"""What a run has found, in words: the best model against the linear floor, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

from automl.results.chance import LEVEL
from automl.results.intervals import wilson_interval
from automl.results.recommendation import recommendation
from automl.results.story import asked_text, packed_text
from automl.results.study import RunRecord, TrialRecord


def best_figures(record: RunRecord) -> dict[str, Any]:
    """What is measured of the best model, a trial, the ensemble or the floor: `validation` and `test`, else None."""
    if together := record.linear or record.ensemble:
        return {split: together[split] for split in ("validation", "test")}
    return _best_trial_figures(record)


def _best_trial_figures(record: RunRecord) -> dict[str, Any]:
    return _trial_figures(record, record.best_trial)


def _trial_figures(record: RunRecord, trial: TrialRecord) -> dict[str, Any]:
    measured = (record.finalists or {"trials": {}})["trials"].get(str(trial.number)) or {}
    return {"validation": measured.get("validation") or {record.metric: trial.score}, "test": measured.get("test")}


def verdict(record: RunRecord) -> str:
    """Whether the best model beats the linear floor, what it is made of, and which of the trials to take.

    Empty before that is known.
    """
    best = _of_the_floor(record) or _of_the_best(record)
    said = (best, _of_the_means(record), packed_text(record), recommendation(record))
    return " ".join(each for each in said if each)


def asked_verdict(record: RunRecord, trial: TrialRecord) -> str:
    """Of a trial that somebody asked for: which it is, how it stands to the floor, and what the run recommends."""
    measured = _trial_figures(record, trial)
    against = _against_floor(record, measured) if record.floor else ""
    floor = f"It {against}." if against else ""
    return " ".join(each for each in (asked_text(record, trial), floor, recommendation(record)) if each)


def choice_text(record: RunRecord) -> str:
    """What the validation rows have decided, and by how much that flatters the best model; empty before it is known."""
    if not record.finalists or not record.ranked:
        return ""
    sentence = (
        "The same validation rows choose each trial's epoch, the order of the trials, the best model and what it is "
        "made of, its temperature, the groups and the recommendation, so the figures on them are optimistic."
    )
    found = record.finalists.get("choice")
    if not found:
        return sentence
    return (
        f"{sentence} Chosen among the {found['models']} finalists on four fifths of these rows and measured on the "
        f"others, the best model reaches {record.metric} {found['cross_fitted']:.4f}; on the rows that chose it "
        f"{found['in_sample']:.4f}. What the choice of trials and epochs before that adds is not counted."
    )


def _of_the_floor(record: RunRecord) -> str:
    """Where the linear floor is the best model: that it is, what it is ahead of and how sure that is, and its test."""
    found = record.linear
    if not found:
        return ""
    sentence = "The best model is the linear floor: nothing that was searched is ahead of it on validation."
    ahead = found.get("ahead")
    if ahead is not None:
        chance = "may be chance" if ahead["p"] >= LEVEL else "is more than chance"
        sentence += f" What it is ahead by ({abs(ahead['value']):.4f}) {chance}; it is also the simplest."
    measured = (record.finalists or {}).get("ensemble")
    if measured:
        sentence += f" The average of {len(measured['members'])} trials"
        sentence += f"{' and the linear model' if measured['linear'] else ''} {_against_floor(record, measured)}."
    return f"{sentence} The best trial {_against_floor(record, _best_trial_figures(record))}.{_tested(record, found)}"


def _of_the_means(record: RunRecord) -> str:
    """Where the means under other seeds say which trial is best, what the search's scores would have said."""
    first = record.first_by_score
    if first is None or not record.ranked:
        return ""
    best = record.best_trial.number
    said = f"Of the trials, {best} is first by its mean under other seeds ({_mean_of(record, best)})"
    if first == best:
        return f"{said}, as it is by its score."
    return f"{said}; by the search's scores it would be {first} (mean {_mean_of(record, first)})."


def _mean_of(record: RunRecord, number: int) -> str:
    scores = record.confirmed.get(number)
    return f"{mean(scores):.4f}" if scores else "none"


def _of_the_best(record: RunRecord) -> str:
    if record.floor is None or not record.ranked:
        return ""
    measured = best_figures(record)
    best = "The best searched model"
    if record.ensemble:
        members, linear = len(record.ensemble["members"]), " and the linear model" if record.ensemble["linear"] else ""
        best = f"The best model, the average of {members} trials{linear},"
    sentence = f"{best} {_against_floor(record, measured)}."
    sentence += _tested(record, measured)
    if record.ensemble:
        sentence += f" The best trial alone {_against_floor(record, _best_trial_figures(record))}."
    return sentence


def _tested(record: RunRecord, measured: Mapping[str, Any]) -> str:
    """The best model's accuracy on test with its interval, and whether the floor's lies in it; empty without it."""
    rows = record.manifest["data"]["profile"]["rows"].get("test")
    test = (measured["test"] or {}).get("accuracy")
    if test is None or not rows:
        return ""
    low, high = wilson_interval(test, rows)
    whose = "The floor's" if record.linear else "Its"
    sentence = f" {whose} test accuracy is {test:.4f}, 95 % interval {low:.3f} to {high:.3f} on {rows:,} rows"
    floors = ((record.floor or {"test": None})["test"] or {}).get("accuracy")
    near = floors is not None and low <= floors <= high and not record.linear
    return sentence + (", which the floor's lies within: the difference may be chance." if near else ".")


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
