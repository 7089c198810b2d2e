"""Some of the runs in some order: by whose they are, labels, state and age."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from automl.cluster.status import STATES, RunStatus
from automl.space import UserError
from automl.space.errors import nearest
from automl.space.objectives import METRICS, mode

_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_SPAN = re.compile(r"(?:\d{1,9}(?:\.\d+)?[wdhms])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([wdhms])")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Choice:
    """Which runs: of this owner, with all of these labels (`key=value`, or a key alone), in one of these states.

    And begun in the last `since` (`12h`, `2d`, or from a day on). Ordered by `sort`, turned round with `-` before it.
    Each is empty where nothing is asked.
    """

    owner: str | None = None
    labels: Sequence[str] = ()
    states: Sequence[str] = ()
    since: str | None = None
    sort: str = "age"


def choose(found: Sequence[RunStatus], asked: Choice) -> list[RunStatus]:
    """The runs that are asked for, the latest first unless `sort` says otherwise.

    Raises UserError for a state, a time or a column that there is not.
    """
    for state in asked.states:
        if state not in STATES:
            raise UserError(f"--state: there is no state {state!r}{nearest(state, STATES)}")
    since = None if asked.since is None else _since(asked.since)
    chosen = [each for each in found if _meets(each, asked, since)]
    name = asked.sort.removeprefix("-").strip()
    name = "best" if name in METRICS else name
    if name not in KEYS:
        raise UserError(f"--sort: there is no column {name!r}{nearest(name, KEYS)}")
    key = KEYS[name]
    chosen.sort(key=lambda each: each.name)
    chosen.sort(key=begun, reverse=True)
    there = [each for each in chosen if key(each) is not None]
    there.sort(key=key, reverse=asked.sort.startswith("-"))
    return there + [each for each in chosen if key(each) is None]


def begun(status: RunStatus) -> float:
    """When it was submitted, or began, as a time stamp; 0 where that is not known."""
    try:
        moment = datetime.fromisoformat(status.begun)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0


def ended_trials(status: RunStatus) -> int | None:
    """How many trials have ended; None where nothing is known of them."""
    if not status.trials:
        return None
    counts = (status.trials.get(each, 0) for each in ("completed", "stopped", "failed"))
    return status.trials.get("ended", sum(counts))


def _best(status: RunStatus) -> tuple[str, float] | None:
    """The best first within each metric."""
    if not status.best:
        return None
    metric, score = str(status.best["metric"]), float(status.best["score"])
    return metric, -score if mode(metric) == "max" else score


KEYS: dict[str, Callable[[RunStatus], Any]] = {
    "age": lambda each: -begun(each) or None,
    "best": _best,
    "label": lambda each: sorted(each.labels.items()) or None,
    "owner": lambda each: each.owner or None,
    "run": lambda each: each.name,
    "state": lambda each: STATES.index(each.state) if each.state in STATES else len(STATES),
    "time": lambda each: each.used["seconds"] if each.used else None,
    "trials": ended_trials,
}


def _meets(status: RunStatus, asked: Choice, since: float | None) -> bool:
    return (
        (asked.owner is None or status.owner == asked.owner)
        and all(_labelled(status, label) for label in asked.labels)
        and (not asked.states or status.state in asked.states)
        and (since is None or begun(status) >= since)
    )


def _labelled(status: RunStatus, label: str) -> bool:
    key, equals, value = label.partition("=")
    return key in status.labels and (not equals or status.labels[key] == value)


def _since(text: str) -> float:
    """The moment that `2d`, `1h30m` or `2026-01-31` means, as a time stamp."""
    words = text.strip().lower()
    if _SPAN.fullmatch(words):
        return datetime.now(UTC).timestamp() - sum(
            float(number) * _UNITS[unit] for number, unit in _PART.findall(words)
        )
    if _DAY.fullmatch(words):
        try:
            return datetime.fromisoformat(words).timestamp()
        except (ValueError, OverflowError):
            pass
    raise UserError(f"--since {text}: expected a time such as 90m, 12h, 2d or 1w, or a day such as 2026-01-31")
