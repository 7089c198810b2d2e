"""Which of the finalists to take: the cheapest of those that the best one does not beat by more than chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl.results.study import RunRecord, TrialRecord
from automl.space.errors import listing


def chance_groups(record: RunRecord) -> dict[int, int]:
    """The group of each finalist, from 1; within a group the differences from its best are within chance."""
    found: Mapping[str, int] = ((record.finalists or {}).get("chance") or {}).get("groups", {})
    return {int(number): group for number, group in found.items()}


def recommended(record: RunRecord) -> int | None:
    """The trial of the first group that takes least time for one example, then the one with fewest parameters.

    Milliseconds count to two digits, as far as they can be measured again. None before the finalists are measured.
    """
    grouped = chance_groups(record)
    first = [trial for trial in record.ranked if grouped.get(trial.number) == 1]
    return min(first, key=lambda trial: _cost(record, trial)).number if first else None


def recommendation(record: RunRecord) -> str:
    """In words: which trial to take and why; empty before several finalists are measured."""
    number, grouped = recommended(record), chance_groups(record)
    if number is None or len(grouped) == 1:
        return ""
    best = record.ranked[0]
    trial = next(trial for trial in record.ranked if trial.number == number)
    said = f"Trial {number} ({trial.family}) is recommended:"
    alike = [other for other, group in grouped.items() if group == 1 and other != number]
    if not alike:
        return f"{said} it is better than the other finalists by more than chance."
    if trial is best:
        others = f"trial{'s' if len(alike) > 1 else ''} {listing(alike, 'and')}"
        return f"{said} what it is ahead of {others} may be chance, and it is the cheapest of them."
    return (
        f"{said} it differs from the best, trial {best.number}, by no more than chance, and is cheaper "
        f"({_cost_text(record, trial)} against {_cost_text(record, best)})."
    )


def _cost_text(record: RunRecord, trial: TrialRecord) -> str:
    milliseconds = _median_latency(record, trial.number)
    latency = "" if milliseconds is None else f"{milliseconds:.2g} ms for an example and "
    return f"{latency}{trial.parameters or 0:,} parameters"


def _cost(record: RunRecord, trial: TrialRecord) -> tuple[float, int]:
    milliseconds = _median_latency(record, trial.number)
    return float("inf") if milliseconds is None else float(f"{milliseconds:.2g}"), trial.parameters or 0


def _median_latency(record: RunRecord, number: int) -> float | None:
    measured: Mapping[str, Any] = (record.finalists or {"trials": {}})["trials"].get(str(number)) or {}
    return measured["latency"]["1"]["p50"] if "latency" in measured else None
