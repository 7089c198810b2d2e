"""The rows of a leaderboard: the trials, best first, the ensemble, the compressed models and the linear floor."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean, stdev
from typing import Any

from automl.results.recommendation import chance_groups, level, recommended
from automl.results.study import ENSEMBLE, RunRecord
from automl.space.urls import redacted_values

FLOOR = "floor"
COMPRESSED = "compressed"
PAUSED = "paused"

# Every row has all of them, in this order; docs/leaderboard.md says what they mean.
COLUMNS = {
    "rank": "int64",
    "trial": "int64",
    "status": "string",
    "family": "string",
    "epochs": "int64",
    "score": "float64",
    "front": "bool",
    "objectives": "string",
    "confirmed_mean": "float64",
    "confirmed_std": "float64",
    "confirmed_seeds": "int64",
    "group": "int64",
    "level": "bool",
    "recommended": "bool",
    "packed": "bool",
    "test_score": "float64",
    "test_low": "float64",
    "test_high": "float64",
    "parameters": "int64",
    "bytes": "int64",
    "latency_p50_ms": "float64",
    "latency_p95_ms": "float64",
    "latency32_p50_ms": "float64",
    "latency32_p95_ms": "float64",
    "lost": "float64",
    "train_seconds": "float64",
    "cpu_hours": "float64",
    "gpu_hours": "float64",
    "accumulation": "int64",
    "error": "string",
    "stopped_by": "string",
    "config": "string",
}


def rows(record: RunRecord) -> list[dict[str, Any]]:
    """A row for each trial that has ended, best first, then those that wait at a rung, then those that have failed.

    The latter two have no rank.

    `score` is the best validation metric over the trial's epochs; with several objectives `objectives` are all of them
    at that epoch and `front` says whether no other trial beats them all, which ranks first; `confirmed_mean` and
    `confirmed_std` (sample standard deviation) are the scores of `confirmed_seeds` further trainings under other seeds,
    for finalists where the file asked for them; finalists that do not differ by more than chance share a `group`, and
    one of the first is `recommended`; `level` says of every trial that was compared with the best whether that is ahead
    of it by no more than chance, null of one that was not compared; `packed` is what `best_model/` holds; `test_score`
    is that metric on the test set, `test_low` to `test_high` its 95 % interval, and the latencies are of batches of 1
    and 32 on one CPU thread (only for finalists); `accumulation` 2 where a GPU's memory was too small for a whole
    batch, so that it passed in halves; `error` why it failed, `stopped_by` what stopped it early.
    """
    measured = record.finalists["trials"] if record.finalists else {}
    grouped, best_buy, as_good = chance_groups(record), recommended(record), level(record)
    packed = None if not record.ranked or record.ensemble or record.linear else record.best_trial.number
    several = len(record.objectives) > 1
    found = []
    shown = (trial for trial in record.trials if trial.status != "running" or trial.paused)
    for rank, trial in enumerate(shown, start=1):
        figures = measured.get(str(trial.number)) or {}
        scored = trial.status != "failed" and trial.score is not None
        found.append(
            _row(
                rank=rank if scored and not trial.paused else None,
                trial=trial.number,
                status=PAUSED if trial.paused else trial.status,
                family=trial.family,
                epochs=trial.epochs,
                score=trial.score if scored else None,
                front=trial.number in record.front if several and scored else None,
                objectives=dict(zip(record.objectives, trial.reached, strict=True)) if several and scored else None,
                **_confirmed_figures(record.confirmed.get(trial.number, ())),
                group=grouped.get(trial.number),
                level=as_good.get(trial.number) if scored else None,
                recommended=trial.number == best_buy if trial.number in grouped else None,
                packed=trial.number == packed if trial.number in grouped else None,
                **(_test_figures(figures, record.metric) if scored else {}),
                parameters=trial.parameters,
                bytes=trial.bytes,
                **_latencies(figures.get("latency")),
                train_seconds=trial.train_seconds,
                cpu_hours=trial.cost.get("cpu_hours"),
                gpu_hours=trial.cost.get("gpu_hours"),
                accumulation=trial.accumulation,
                error=trial.reason if trial.status == "failed" else None,
                stopped_by=trial.reason if trial.status == "stopped" else None,
                config=redacted_values(trial.config),
            )
        )
    return found


def _row(**cells: Any) -> dict[str, Any]:
    """A whole row, null where nothing is said."""
    return {**dict.fromkeys(COLUMNS), **cells}


def _of(figures: Mapping[str, float] | None, metric: str) -> float | None:
    return figures.get(metric) if figures else None


def _test_figures(figures: Mapping[str, Any], metric: str) -> dict[str, Any]:
    low, high = figures.get("test_interval") or (None, None)
    return {"test_score": _of(figures.get("test"), metric), "test_low": low, "test_high": high}


def _latencies(measured: Mapping[str, Mapping[str, float]] | None) -> dict[str, Any]:
    if measured is None:
        return {}
    return {
        f"latency{size if size != '1' else ''}_{quantile}_ms": milliseconds
        for size, quantiles in measured.items()
        for quantile, milliseconds in quantiles.items()
    }


def _confirmed_figures(scores: tuple[float, ...]) -> dict[str, Any]:
    return {
        "confirmed_mean": mean(scores) if scores else None,
        "confirmed_std": stdev(scores) if len(scores) > 1 else None,
        "confirmed_seeds": len(scores) or None,
    }


def floor_row(record: RunRecord) -> dict[str, Any] | None:
    """The linear floor in the shape of a row, without rank and trial number; None before it is trained."""
    if record.floor is None:
        return None
    return _row(
        status=FLOOR,
        family=record.floor["name"],
        score=_of(record.floor["validation"], record.metric),
        **_test_figures(record.linear or {"test": record.floor["test"]}, record.metric),
        packed=record.linear is not None if record.finalists else None,
        parameters=record.floor["parameters"],
        train_seconds=record.floor["train_seconds"],
        config=record.floor["settings"],
    )


def ensemble_row(record: RunRecord) -> dict[str, Any] | None:
    """The average of the leaders in the shape of a row, without rank and trial number; None where there is none.

    It is there even where the best trial alone or the linear floor is better, which `RunRecord.ensemble` says.
    """
    found = (record.finalists or {}).get("ensemble")
    if not found:
        return None
    members = [trial for number in found["members"] for trial in record.trials if trial.number == number]
    floor = record.floor if found["linear"] and record.floor else {"parameters": 0, "train_seconds": 0.0}
    return _row(
        status=ENSEMBLE,
        family=f"ensemble of {len(members)}{' and linear' if found['linear'] else ''}",
        score=_of(found["validation"], record.metric),
        **_test_figures(found, record.metric),
        packed=record.ensemble is not None,
        parameters=sum(trial.parameters or 0 for trial in members) + floor["parameters"],
        train_seconds=sum(trial.train_seconds or 0.0 for trial in members) + floor["train_seconds"],
        config={"members": found["members"], "linear": found["linear"]},
    )


def compressed_rows(record: RunRecord) -> list[dict[str, Any]]:
    """The smaller models made of the best one in the shape of rows, without rank and trial number."""
    return [
        _row(
            status=COMPRESSED,
            family=variant["name"],
            score=variant["validation"],
            test_score=variant["test"],
            bytes=variant["bytes"],
            lost=variant["lost"],
            recommended=variant["recommended"],
            latency_p50_ms=variant["latency_ms"]["1"],
            latency32_p50_ms=variant["latency_ms"]["32"],
            config={name: variant[name] for name in ("how", "smaller", "faster")},
        )
        for variant in record.compressed[1:]
    ]


def beside(record: RunRecord) -> list[dict[str, Any]]:
    """The rows that are no trials, as far as they are there: the ensemble, the compressed models, the linear floor."""
    return [row for row in (ensemble_row(record), *compressed_rows(record), floor_row(record)) if row]
