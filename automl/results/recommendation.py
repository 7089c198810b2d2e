"""Which of the finalists to take: the cheapest of those that the best one does not beat by more than chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from automl.results.chance import LEVEL
from automl.results.guessing import SMALL_LEAD, metric_to_compare, rows_to_tell
from automl.results.intervals import OF_ROWS, Z95
from automl.results.study import RunRecord, TrialRecord
from automl.space.errors import listing

ABOUT_AS_FAST = 1.2  # milliseconds that differ by less may differ the other way when they are measured again
# The share of the best trial's lead over guessing whose loss the rows have to show before another is recommended in its
# place: as is asked of a treatment that is to take the place of another (FDA 2016, Non-Inferiority Clinical Trials).
LARGE_LOSS = 0.5


@dataclass(frozen=True)
class _Advice:
    """The `trial` to take; or None, and why: `guessing`, or `level` trials that may be far worse; nothing before that
    is known. `rows` is how many validation rows would tell."""

    trial: TrialRecord | None = None
    why: str = ""
    rows: int | None = None
    alike: tuple[int, ...] = ()
    """Trials that are as good as `trial` or, where there is none, that may be as good as the best."""


def chance_groups(record: RunRecord) -> dict[int, int]:
    """The group of each finalist, from 1; within a group the differences from its best are within chance."""
    found: Mapping[str, int] = _chance(record).get("groups", {})
    return {int(number): group for number, group in found.items()}


def level(record: RunRecord) -> dict[int, bool]:
    """Of the trials that were compared with the best on the validation rows: whether they may be as good as it."""
    found = {int(number): each["p"] >= LEVEL for number, each in _chance(record).get("others", {}).items()}
    return found | {number: group == 1 for number, group in chance_groups(record).items()}


def recommended(record: RunRecord) -> int | None:
    """Of the trials of the first group that are about as fast as the fastest the one with the fewest parameters.

    None before the finalists are measured, and where the validation rows do not tell: where the best trial may be
    guessing (its p is corrected for its being the best of all trials, by Bonferroni's method), or where there are
    others in its group and so few rows that a loss of half its lead over guessing lies within the 95 % interval of a
    difference. A trial that may be guessing is never recommended.
    """
    trial = _advice(record).trial
    return None if trial is None else trial.number


def rows_needed(record: RunRecord) -> int | None:
    """How many validation rows would tell which trial to take, where these do not; None where that is not so."""
    return _advice(record).rows


def may_be_guessing(record: RunRecord, number: int) -> bool:
    """Whether the validation rows do not tell a trial from guessing; of one that was not measured, whether the best."""
    guessing: Mapping[str, Any] = _chance(record).get("guessing") or {"leads": {}}
    ahead = guessing["leads"].get(str(number))
    if ahead is None:
        return _advice(record).why == "guessing"
    return bool(ahead["p"] * guessing["trials"] >= LEVEL)


def recommendation(record: RunRecord) -> str:
    """In words: which trial to take and why, or why none and how many rows would tell; empty before that is known."""
    found, grouped = _advice(record), chance_groups(record)
    if found.why:
        return _none(record, found)
    if found.trial is None or len(grouped) == 1:
        return ""
    trial, best = found.trial, record.best_trial
    said = f"{'Of the trials, trial' if record.linear else 'Trial'} {trial.number} ({trial.family}) is recommended:"
    if list(grouped.values()).count(1) == 1:
        return f"{said} it is better than the other finalists by more than chance."
    if trial is best and not found.alike:
        return f"{said} of the others that may be as good none is better than guessing by more than chance."
    if trial is best:
        others = f"trial{'s' if len(found.alike) > 1 else ''} {listing(found.alike, 'and')}"
        return f"{said} what it is ahead of {others} may be chance, and it is the cheapest of them."
    cheaper = _cheaper(record, trial, best)
    said = f"{said} it differs from the best, trial {best.number}, by no more than chance"
    return f"{said}, and is {cheaper}." if cheaper else f"{said}."


def _advice(record: RunRecord) -> _Advice:
    grouped = chance_groups(record)
    first = [trial for trial in record.ranked if grouped.get(trial.number) == 1]
    if not first:
        return _Advice()
    guessing: Mapping[str, Any] | None = _chance(record).get("guessing")
    candidates = first
    if guessing is not None:  # else the run is of an earlier version
        best, leads = first[0], guessing["leads"]
        ahead = leads.get(str(best.number))
        if ahead is None or ahead["p"] * guessing["trials"] >= LEVEL:
            return _Advice(None, "guessing", _rows_beyond_guessing(guessing, ahead))
        large = LARGE_LOSS * ahead["value"] if metric_to_compare(record.metric) == record.metric else inf
        told = [trial for trial in first[1:] if Z95 * _error(record, trial) < large]
        if len(first) > 1 and not told:
            errors = [_error(record, trial) for trial in first[1:]]
            needed = [rows_to_tell(guessing["rows"], error, large, level=LEVEL / 2) for error in errors]
            rows = min((each for each in needed if each is not None), default=None)
            return _Advice(None, "level", rows, tuple(trial.number for trial in first[1:]))
        candidates = [best, *(each for each in told if leads.get(str(each.number), {"p": 1.0})["p"] < LEVEL)]
    least = min(_latency(record, trial) for trial in candidates)
    fast = [trial for trial in candidates if _latency(record, trial) <= ABOUT_AS_FAST * least]
    trial = min(fast, key=lambda each: each.parameters or inf)
    return _Advice(trial, alike=tuple(each.number for each in candidates if each is not trial))


def _chance(record: RunRecord) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (record.finalists or {}).get("chance") or {}
    return found


def _error(record: RunRecord, trial: TrialRecord) -> float:
    """The standard error of how far a trial is behind the best; infinite where they were not compared."""
    found = _chance(record).get("behind_best", {}).get(str(trial.number))
    return inf if found is None else (found["high"] - found["low"]) / (2 * Z95)


def _rows_beyond_guessing(guessing: Mapping[str, Any], ahead: Mapping[str, float] | None) -> int | None:
    """The rows on which the best trial's lead over guessing, or a small one where it has none, is more than chance."""
    if ahead is None:
        return None
    difference = ahead["value"] if ahead["value"] > 0 else SMALL_LEAD
    return rows_to_tell(guessing["rows"], ahead["error"], difference, level=LEVEL / max(1, guessing["trials"]))


def _none(record: RunRecord, found: _Advice) -> str:
    """Why no trial is recommended, and how many validation rows would tell."""
    guessing, best = _chance(record)["guessing"], record.best_trial
    rows = f"{guessing['rows']:,} validation row{'s' if guessing['rows'] != 1 else ''}"
    if found.why == "level":
        trials = f"trial{'s' if len(found.alike) > 1 else ''} {listing(found.alike, 'and')}"
        would = f"; about {found.rows:,} would tell" if found.rows else ""
        return (
            f"No trial is recommended: on {rows} {trials} may be as good as the best, trial {best.number}, or far "
            f"worse{would}."
        )
    metric = metric_to_compare(record.metric)
    what = "the commonest class alone" if metric in OF_ROWS else "guessing"
    ahead = guessing["leads"].get(str(best.number)) or {"value": 0.0}
    level, sign = guessing["value"], -1 if metric == "loss" else 1
    shown = f"({metric} {level + sign * ahead['value']:.4f}, {what} {level:.4f})"
    if ahead["value"] > 0:
        would = f"; about {found.rows:,} would, at this lead" if found.rows else ""
        return (
            f"No trial is recommended: {rows} do not tell the best, trial {best.number}, from guessing {shown}{would}."
        )
    would = f"; to see a lead of {SMALL_LEAD:g} takes about {found.rows:,}" if found.rows else ""
    return f"No trial is recommended: on {rows} none is better than guessing {shown}{would}."


def _cheaper(record: RunRecord, trial: TrialRecord, best: TrialRecord) -> str:
    """In what the recommended trial is cheaper: it is faster, or smaller and about as fast; empty where not known."""
    parts = []
    ours, theirs = _latency(record, trial), _latency(record, best)
    if ours < theirs < inf:
        parts.append(f"faster ({ours:.2g} ms for an example against {theirs:.2g})")
    if trial.parameters is not None and best.parameters is not None and trial.parameters < best.parameters:
        parts.append(f"smaller ({trial.parameters:,} parameters against {best.parameters:,})")
    return " and ".join(parts)


def _latency(record: RunRecord, trial: TrialRecord) -> float:
    """Median milliseconds for one example; infinite where that was not measured."""
    measured: Mapping[str, Any] = (record.finalists or {"trials": {}})["trials"].get(str(trial.number)) or {}
    return float(measured["latency"]["1"]["p50"]) if "latency" in measured else inf
