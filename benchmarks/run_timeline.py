"""Where a run spent its time, read from what it left: times of files, metrics lines, the study."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path


def breakdown(run: Path, cache: Path, started: float, ended: float, cores: int) -> dict[str, float]:
    """Seconds of a finished run's parts, from its process's start to its end (Unix seconds).

    The first five and the last three parts follow each other in time; those between share the time of all cores
    from the first step of training to the end of the last epoch.
    """
    epochs = sorted(
        (line["started"], line["seconds"], line["worker"], path.parent.name)
        for path in run.glob("trials/*/metrics.jsonl")
        for line in map(json.loads, path.read_text().splitlines())
    )
    source, tokens = (min(_changed(path) for path in cache.glob(f"{kind}-*") if path.is_dir()) for kind in _CACHED)
    taken = min(_changed(path) for path in run.glob("trials/*/config.json"))
    first, last = epochs[0][0], max(start + seconds for start, seconds, *_ in epochs)
    within = between = waiting = 0.0
    for worker in {worker for *_, worker, _ in epochs}:
        own = [epoch for epoch in epochs if epoch[2] == worker]
        waiting += own[0][0] - first + last - (own[-1][0] + own[-1][1])
        for (start, seconds, _, trial), (following, _, _, next_trial) in pairwise(own):
            gap = following - (start + seconds)
            if trial == next_trial:
                within += gap
            else:
                between += gap
    waiting += (cores - len({worker for *_, worker, _ in epochs})) * (last - first)
    return {
        "imports, reading the data": source - started,
        "tokens": tokens - source,
        "Ray, workers, their imports": taken - tokens,
        "building the first network": first - taken,
        "until the first step": first - started,
        "training and measuring (all cores)": sum(seconds for _, seconds, *_ in epochs),
        "between epochs: weights, reports (all cores)": within,
        "between trials: proposals, building (all cores)": between,
        "workers that start late or have nothing to do (all cores)": waiting,
        "end of the search": _changed(run / "finalists.json") - last,
        "model, leaderboard, report": _changed(run / "report.html") - _changed(run / "finalists.json"),
        "until the process is gone": ended - _changed(run / "report.html"),
    }


_CACHED = ("source", "tokens")


def _changed(path: Path) -> float:
    return path.stat().st_mtime
