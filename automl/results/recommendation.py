"""Which of the finalists to take: the cheapest of those that the best one does not beat by more than chance."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from automl.results.study import RunRecord, TrialRecord
from automl.space.errors import listing

ABOUT_AS_FAST = 1.2  # milliseconds that differ by less may differ the other way when they are measured again


def chance_groups(record: RunRecord) -> dict[int, int]:
    """The group of each finalist, from 1; within a group the differences from its best are within chance."""
    found: Mapping[str, int] = ((record.finalists or {}).get("chance") or {}).get("groups", {})
    return {int(number): group for number, group in found.items()}


def recommended(record: RunRecord) -> int | None:
    """Of the trials of the first group that are about as fast as the fastest the one with the fewest parameters.

    None before the finalists are measured.
    """
    grouped = chance_groups(record)
    first = [trial for trial in record.ranked if grouped.get(trial.number) == 1]
    least = min((_latency(record, trial) for trial in first), default=0.0)
    fast = [trial for trial in first if _latency(record, trial) <= ABOUT_AS_FAST * least]
    return min(fast, key=lambda trial: trial.parameters or inf).number if fast else None


def recommendation(record: RunRecord) -> str:
    """In words: which trial to take and why; empty before several finalists are measured."""
    number, grouped = recommended(record), chance_groups(record)
    if number is None or len(grouped) == 1:
        return ""
    best = record.best_trial
    trial = next(trial for trial in record.ranked if trial.number == number)
    said = f"{'Of the trials, trial' if record.linear else 'Trial'} {number} ({trial.family}) is recommended:"
    alike = [other for other, group in grouped.items() if group == 1 and other != number]
    if not alike:
        return f"{said} it is better than the other finalists by more than chance."
    if trial is best:
        others = f"trial{'s' if len(alike) > 1 else ''} {listing(alike, 'and')}"
        return f"{said} what it is ahead of {others} may be chance, and it is the cheapest of them."
    return (
        f"{said} it differs from the best, trial {best.number}, by no more than chance, and is "
        f"{_cheaper(record, trial, best)}."
    )


def _cheaper(record: RunRecord, trial: TrialRecord, best: TrialRecord) -> str:
    """In what the recommended trial is cheaper: it is faster, or smaller and about as fast."""
    parts = []
    ours, theirs = _latency(record, trial), _latency(record, best)
    if ours < theirs:
        parts.append(f"faster ({ours:.2g} ms for an example against {theirs:.2g})")
    if (trial.parameters or inf) < (best.parameters or inf):
        parts.append(f"smaller ({trial.parameters:,} parameters against {best.parameters:,})")
    return " and ".join(parts)


def _latency(record: RunRecord, trial: TrialRecord) -> float:
    """Median milliseconds for one example; infinite where that was not measured."""
    measured: Mapping[str, Any] = (record.finalists or {"trials": {}})["trials"].get(str(trial.number)) or {}
    return float(measured["latency"]["1"]["p50"]) if "latency" in measured else inf
