"""When which worker trained which trial, and how much of the time the workers were at work."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from automl.results.study import RunRecord, TrialRecord
from automl.space import UserError
from automl.space.safe_files import parse_json, read_regular, validated
from automl.training.run_files import EpochTimes

MOST_BYTES = 16 * 1024 * 1024  # of the metrics of a trial
MOST_TRIALS = 1000  # the latest, that are read and drawn


@dataclass(frozen=True)
class Span:
    """A time, in seconds since 1970, in which a trial was trained; `worker` is empty where that is not known.

    `busy` are the seconds of it that its epochs took: between them weights are written and decisions waited for.
    """

    trial: TrialRecord
    worker: str
    start: float
    end: float
    busy: float
    epochs: int


@dataclass(frozen=True)
class Timeline:
    """Spans by lane (a worker, or a place for one), and the share of the lanes' time that was spent on training."""

    lanes: dict[str, list[Span]]
    start: float
    end: float
    places: int
    busy: float
    trials: int
    left_out: int

    @property
    def utilisation(self) -> float:
        """Seconds of training over those that as many workers as were ever at work at once would have had."""
        return self.busy / (self.places * (self.end - self.start))


def timeline(record: RunRecord) -> Timeline | None:
    """When the latest `MOST_TRIALS` trials were trained; None before the first has done an epoch.

    Each epoch's line in `metrics.jsonl` says which worker trained it, when it started and for how many seconds. Where
    those files are not there, as with nodes that share no file system, the study's times stand for them.
    """
    begun = sorted((trial for trial in record.trials if trial.epochs), key=lambda trial: trial.number)
    latest = begun[-MOST_TRIALS:]
    spans = sorted((span for trial in latest for span in _spans(record, trial)), key=lambda span: span.start)
    if not spans:
        return None
    start, end = spans[0].start, max(span.end for span in spans)
    if end <= start:
        return None
    return Timeline(
        lanes=_lanes(spans),
        start=start,
        end=end,
        places=_most_at_once(spans),
        busy=sum(span.busy for span in spans),
        trials=len(latest),
        left_out=len(begun) - len(latest),
    )


def _spans(record: RunRecord, trial: TrialRecord) -> list[Span]:
    """The times of a trial: of epochs that one worker trained without a pause, one."""
    found: list[Span] = []
    for line in _lines(record, trial):
        end = line["started"] + line["seconds"]
        last = found[-1] if found else None
        if last and last.worker == line["worker"] and line["started"] - last.end < line["seconds"]:
            busy = last.busy + line["seconds"]
            found[-1] = Span(trial, last.worker, last.start, max(end, last.end), busy, last.epochs + 1)
        else:
            found.append(Span(trial, line["worker"], line["started"], end, line["seconds"], 1))
    if not found and trial.started and trial.finished:
        start, end = trial.started.timestamp(), trial.finished.timestamp()
        return [Span(trial, "", start, end, min(trial.train_seconds or 0.0, end - start), trial.epochs)]
    return found


def _lines(record: RunRecord, trial: TrialRecord) -> list[dict[str, Any]]:
    try:
        path = record.directory.trial(trial.number).metrics
        content = read_regular(path, MOST_BYTES)
        lines = [parse_json(line, path) for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
        timed = [line for line in lines if isinstance(line, dict) and {"started", "seconds", "worker"} <= line.keys()]
        return [validated(line, EpochTimes, path).model_dump() for line in timed]
    except (OSError, UserError):
        return []


def _lanes(spans: Iterable[Span]) -> dict[str, list[Span]]:
    """A lane for each worker; spans of no known worker in as many as it takes for none to cover another."""
    lanes: dict[str, list[Span]] = {}
    free: list[tuple[float, str]] = []
    places = 0
    for span in spans:
        lane = span.worker
        if not lane:
            if free and free[0][0] <= span.start:
                lane = heapq.heappop(free)[1]
            else:
                places += 1
                lane = f"place {places}"
            heapq.heappush(free, (span.end, lane))
        lanes.setdefault(lane, []).append(span)
    return lanes


def _most_at_once(spans: Iterable[Span]) -> int:
    """How many spans overlap at most; where one ends as another starts, they do not."""
    changes = sorted(change for span in spans for change in ((span.start, 1), (span.end, -1)))
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most
