"""What the best model is, what `automl compress` makes smaller, how the test rows were used: said here for all places.

Terminal, report, model cards and `leaderboard.json` take these sentences, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from automl.results.recommendation import recommendation, recommended, rows_needed
from automl.results.study import RunRecord, TrialRecord
from automl.space.errors import listing


def is_packable(record: RunRecord) -> bool:
    """Whether a best model can be there: the finalists are measured, and weights of one of them were kept."""
    return bool(record.ranked and record.finalists is not None and record.finalists["trials"])


def packed_text(record: RunRecord) -> str:
    """What `best_model/` holds and what `automl compress` makes smaller, in words; empty before it is known."""
    if not record.ranked or record.finalists is None:
        return ""
    if not is_packable(record):
        return "No trial's weights are kept, so no best model can be packed or made smaller."
    return " ".join(each for each in (_held(record), _of_the_lost(record), _made_already(record)) if each)


def original_text(record: RunRecord, trial: TrialRecord) -> str:
    """What `automl compress` makes smaller when that is `trial`, and how it stands to the best model."""
    if trial.number != record.best_trial.number:
        return f"What is made smaller is {_named(trial)}, as asked; {_held(record, smaller=False)}"
    if record.linear:
        best = f"{_named(trial)}, the best trial"
        return f"The best model is the linear floor, which is no network; {best}, is made smaller."
    if record.ensemble:
        return f"The best model is {_average(record)}; its first, {_named(trial)}, is made smaller."
    if record.refitted(trial.number):
        return f"The best model is {_named(trial)}, {_ANEW}; it is made smaller as the search trained it."
    return f"The best model, {_named(trial)}, is made smaller."


def best_named(record: RunRecord) -> str:
    """What the best model is, in a few words: `trial 3 (cnn)`, `the average of trials 3 and 1`, `the linear floor`."""
    if record.linear:
        return "the linear floor"
    if record.ensemble:
        return _average(record)
    anew = f", {_ANEW}" if record.refitted(record.best_trial.number) else ""
    return f"{_named(record.best_trial)}{anew}"


def asked_text(record: RunRecord, trial: TrialRecord) -> str:
    """What a package holds that is of a trial that somebody asked for."""
    place = record.ranked.index(trial) + 1
    said = f"This is {_named(trial)}, number {place} of {len(record.ranked)} on the leaderboard, chosen by its number."
    if not is_packable(record):
        return said
    anew = record.refitted(trial.number)
    if record.made_of == {"members": [trial.number], "linear": False}:
        said += f" It is the best model{', before that was trained on train and validation rows' if anew else ''}."
    else:
        said += f" It is not the best model, which is {best_named(record)}."
    return said


def tested_text(record: RunRecord, figures: Mapping[str, Any], *, asked: bool = False) -> str:
    """How the test rows were used for a model of these `figures`; `asked`: somebody chose it, not the search."""
    rows = record.manifest["data"]["profile"]["rows"].get("test")
    if not rows:
        return "There were no test rows, so no figure is of rows that had no part in a choice."
    if not figures.get("test"):
        return f"There were {rows:,} test rows, but this model was not measured on them."
    found = record.finalists or {}
    count = len(found.get("trials", {}))
    measured = [f"the {count} finalists" if count > 1 else "the best trial"] if count else []
    measured += ["their average"] if found.get("ensemble") else []
    measured += ["the linear floor"] if record.floor else []
    said = f"The {rows:,} test rows chose nothing: after the search they measured {listing(measured or ['it'], 'and')}."
    if asked:
        said += " Who took this trial for its test figure made that optimistic, too."
    return said


def as_json(record: RunRecord) -> dict[str, Any]:
    """The same for programs: the entries `best_model`, `original` and `recommendation` of `leaderboard.json`.

    `best_model` has the trials it is made of (`members`), whether it has the `linear` floor, whether it was trained
    again on train and validation rows (`refit`), and the sentence `text`; `original` the `trial` that `automl compress`
    makes smaller; `recommendation` the `trial`, or null and the validation rows that would tell (`rows_needed`, null
    where there is no such number), and the sentence `text`. The first two are null where there is nothing to pack.
    """
    packable = is_packable(record)
    best = record.best_trial.number if packable else None
    made_of = record.made_of if packable else {}
    return {
        "best_model": {
            "members": list(made_of["members"]),
            "linear": bool(made_of["linear"]),
            "refit": made_of["members"] == [best] and record.refitted(record.best_trial.number),
            "text": packed_text(record),
        }
        if packable
        else None,
        "original": {"trial": best, "text": original_text(record, record.best_trial)} if packable else None,
        "recommendation": {
            "trial": recommended(record),
            "rows_needed": rows_needed(record),
            "text": recommendation(record),
        },
    }


_ANEW = "trained anew on train and validation rows together"


def _named(trial: TrialRecord) -> str:
    return f"trial {trial.number} ({trial.family})"


def _average(record: RunRecord) -> str:
    made_of = record.made_of
    trials: Sequence[int] = made_of["members"]
    named = f"trial{'s' if len(trials) > 1 else ''} {listing(trials, 'and')}"
    return f"the average of {named}{' and the linear model' if made_of['linear'] else ''}"


def _held(record: RunRecord, *, smaller: bool = True) -> str:
    """`best_model/ holds ...`, with what `automl compress` makes of it."""
    best = record.best_trial
    said = f"best_model/ holds {best_named(record)}"
    if not smaller:
        return f"{said}."
    if record.linear:
        return f"{said}; automl compress makes {_named(best)}, the best trial, smaller."
    if record.ensemble:
        return f"{said}; automl compress makes its first, {_named(best)}, smaller."
    if record.refitted(best.number):
        return f"{said}; automl compress makes it smaller as the search trained it."
    return f"{said}, which automl compress makes smaller."


def _of_the_lost(record: RunRecord) -> str:
    """That the trials that rank first have no weights to pack."""
    lost = [trial.number for trial in record.ranked[: record.ranked.index(record.best_trial)]]
    if not lost:
        return ""
    named = f"trials {listing(lost, 'and')}, which rank" if len(lost) > 1 else f"trial {lost[0]}, which ranks"
    return f"The weights of {named} before it, are not kept."


def _made_already(record: RunRecord) -> str:
    """That what lies in `compressed/` was made of another trial than it would be now."""
    made = record.compressed_trial
    return "" if made in (None, record.best_trial.number) else f"compressed/ was made of trial {made}."
