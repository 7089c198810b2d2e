"""What the best trials reached when they were trained again under other seeds, and which of them is first then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from statistics import mean
from typing import Any

from automl.training.run_directory import RunDirectory
from automl.training.run_files import Confirmed, read_part

Reruns = Mapping[str, Mapping[str, Mapping[str, Any]]]  # by trial and repetition


def read_confirmed(run: RunDirectory) -> dict[str, dict[str, Any]]:
    """What `confirmed.json` holds: by trial and repetition a `score` with its `values`, or an `error`."""
    trials: dict[str, dict[str, Any]] = (read_part(run.confirmed, Confirmed) or {"trials": {}})["trials"]
    return trials


def scores_of(reruns: Reruns, trial: int) -> tuple[float, ...]:
    """The scores that a trial reached under other seeds; reruns that failed have none."""
    return tuple(rerun["score"] for rerun in reruns.get(str(trial), {}).values() if "score" in rerun)


def by_confirmed_mean(leaders: Sequence[int], reruns: Reruns, *, seeds: int, maximize: bool) -> list[int] | None:
    """The trials `leaders`, best first by the search, in the order of their mean score under `seeds` other seeds.

    Equal means keep the search's order; a trial whose reruns all failed comes last. None where no rerun has a score,
    and while one has yet to end, as means over different numbers of seeds are not compared.
    """
    if any(len(reruns.get(str(trial), {})) < seeds for trial in leaders):
        return None
    means = {trial: mean(found) for trial in leaders if (found := scores_of(reruns, trial))}
    if not means:
        return None
    sign = -1 if maximize else 1
    return sorted(leaders, key=lambda trial: sign * means[trial] if trial in means else inf)
