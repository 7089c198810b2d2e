"""The leaderboard: every trial that has ended, best first, and the linear floor, for people and for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from statistics import mean, stdev
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from rich.console import Group
from rich.table import Table
from rich.text import Text

from automl.data.files import replace_atomically
from automl.results.intervals import wilson_interval
from automl.results.study import ENSEMBLE, RunRecord

SCHEMA_VERSION = 1
FLOOR = "floor"

_SCHEMA = pa.schema(
    [
        ("rank", pa.int64()),
        ("trial", pa.int64()),
        ("status", pa.string()),
        ("family", pa.string()),
        ("epochs", pa.int64()),
        ("score", pa.float64()),
        ("confirmed_mean", pa.float64()),
        ("confirmed_std", pa.float64()),
        ("confirmed_seeds", pa.int64()),
        ("test_score", pa.float64()),
        ("parameters", pa.int64()),
        ("train_seconds", pa.float64()),
        ("accumulation", pa.int64()),
        ("error", pa.string()),
        ("stopped_by", pa.string()),
        ("config", pa.string()),
    ]
)


def rows(record: RunRecord) -> list[dict[str, Any]]:
    """A row for each trial that has ended, best first; failed trials come last and have no rank.

    `score` is the best validation metric over the trial's epochs; `confirmed_mean` and `confirmed_std` (sample standard
    deviation) that of `confirmed_seeds` further trainings under other seeds, for finalists where the file asked for
    them; `test_score` that metric on the test set (only for finalists); `accumulation` 2 where a GPU's memory was too
    small for a whole batch, so that it passed in halves; `error` why it failed, `stopped_by` what stopped it early.
    """
    measured = record.finalists["trials"] if record.finalists else {}
    found = []
    for rank, trial in enumerate((trial for trial in record.trials if trial.status != "running"), start=1):
        test = (measured.get(str(trial.number)) or {}).get("test")
        scored = trial.status != "failed" and trial.score is not None
        found.append(
            {
                "rank": rank if scored else None,
                "trial": trial.number,
                "status": trial.status,
                "family": trial.family,
                "epochs": trial.epochs,
                "score": trial.score if scored else None,
                **_confirmed_figures(record.confirmed.get(trial.number, ())),
                "test_score": test[record.metric] if test and scored else None,
                "parameters": trial.parameters,
                "train_seconds": trial.train_seconds,
                "accumulation": trial.accumulation,
                "error": trial.reason if trial.status == "failed" else None,
                "stopped_by": trial.reason if trial.status == "stopped" else None,
                "config": dict(trial.config),
            }
        )
    return found


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
    test = record.floor["test"]
    return {
        "rank": None,
        "trial": None,
        "status": FLOOR,
        "family": record.floor["name"],
        "epochs": None,
        "score": record.floor["validation"][record.metric],
        **_confirmed_figures(()),
        "test_score": test[record.metric] if test else None,
        "parameters": record.floor["parameters"],
        "train_seconds": record.floor["train_seconds"],
        "accumulation": None,
        "error": None,
        "stopped_by": None,
        "config": record.floor["settings"],
    }


def ensemble_row(record: RunRecord) -> dict[str, Any] | None:
    """The average of the leaders in the shape of a row, without rank and trial number; None where there is none.

    It is there even where the best trial alone is better, which `RunRecord.ensemble` says.
    """
    found = (record.finalists or {}).get("ensemble")
    if not found:
        return None
    members = [trial for number in found["members"] for trial in record.trials if trial.number == number]
    floor = record.floor if found["linear"] and record.floor else {"parameters": 0, "train_seconds": 0.0}
    return {
        "rank": None,
        "trial": None,
        "status": ENSEMBLE,
        "family": f"ensemble of {len(members)}{' and linear' if found['linear'] else ''}",
        "epochs": None,
        "score": found["validation"][record.metric],
        **_confirmed_figures(()),
        "test_score": found["test"][record.metric] if found["test"] else None,
        "parameters": sum(trial.parameters or 0 for trial in members) + floor["parameters"],
        "train_seconds": sum(trial.train_seconds or 0.0 for trial in members) + floor["train_seconds"],
        "accumulation": None,
        "error": None,
        "stopped_by": None,
        "config": {"members": found["members"], "linear": found["linear"]},
    }


def averaged(made_of: Mapping[str, Any]) -> str:
    """`3, 1, 4 and linear`: what an ensemble's row says it is made of."""
    return ", ".join(map(str, made_of["members"])) + (" and linear" if made_of["linear"] else "")


def beside(record: RunRecord) -> list[dict[str, Any]]:
    """The rows that are no trials: the ensemble of the leaders and the linear floor, as far as they are there."""
    return [row for row in (ensemble_row(record), floor_row(record)) if row]


def best_figures(record: RunRecord) -> dict[str, Any]:
    """What is measured of the best model, be it a trial or the ensemble: `validation` and `test`, None if unknown."""
    if record.ensemble:
        return {split: record.ensemble[split] for split in ("validation", "test")}
    return _best_trial_figures(record)


def _best_trial_figures(record: RunRecord) -> dict[str, Any]:
    best = record.ranked[0]
    measured = (record.finalists or {"trials": {}})["trials"].get(str(best.number)) or {}
    return {"validation": measured.get("validation") or {record.metric: best.score}, "test": measured.get("test")}


def verdict(record: RunRecord) -> str:
    """Whether the best model beats the linear floor, and whether a trial alone does; empty before both are known."""
    if record.floor is None or not record.ranked:
        return ""
    measured = best_figures(record)
    best = "The best searched model"
    if record.ensemble:
        members, linear = len(record.ensemble["members"]), " and the linear model" if record.ensemble["linear"] else ""
        best = f"The best model, the average of the best {members} trials{linear},"
    sentence = f"{best} {_against_floor(record, measured)}."
    rows_tested = record.manifest["data"]["profile"]["rows"].get("test")
    test = (measured["test"] or {}).get("accuracy")
    if test is not None and rows_tested:
        low, high = wilson_interval(test, rows_tested)
        sentence += f" Its test accuracy is {test:.4f}, 95 % interval {low:.3f} to {high:.3f} on {rows_tested:,} rows"
        floors = ((record.floor or {})["test"] or {}).get("accuracy")
        near = floors is not None and low <= floors <= high
        sentence += ", which the floor's lies within: the difference may be chance." if near else "."
    if record.ensemble:
        sentence += f" The best trial alone {_against_floor(record, _best_trial_figures(record))}."
    return sentence


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


def format_leaderboard(record: RunRecord, kind: str, top: int | None = None) -> str:
    """The leaderboard as `csv`, `json` or `md` text; `top` limits the trials, never what is beside them."""
    trials = rows(record)[:top]
    if kind == "json":
        content = {
            "schema_version": SCHEMA_VERSION,
            "run": record.directory.name,
            "metric": record.metric,
            "mode": record.manifest["mode"],
            "trials": trials,
            "ensemble": ensemble_row(record),
            "floor": floor_row(record),
        }
        return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    lines = trials + beside(record)
    if kind == "csv":
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, fieldnames=_SCHEMA.names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_flat(line) for line in lines)
        return buffer.getvalue()
    if kind == "md":
        return _markdown(record, lines)
    raise ValueError(f"no format is called {kind!r}")


def write_leaderboard(record: RunRecord) -> None:
    """Write leaderboard.csv, .json, .md and .parquet, each whole or not at all."""
    for kind in ("csv", "json", "md"):
        with replace_atomically(record.directory.leaderboard(kind)) as temporary:
            temporary.write_text(format_leaderboard(record, kind), encoding="utf-8")
    lines = [_flat(line) for line in rows(record) + beside(record)]
    with replace_atomically(record.directory.leaderboard("parquet")) as temporary:
        pa.parquet.write_table(pa.Table.from_pylist(lines, schema=_SCHEMA), temporary)


def render_table(record: RunRecord, top: int) -> Group:
    """The leaderboard for a terminal of 80 columns or more; only the last column's words may wrap."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("rank", "trial", "family", "validation", "test", "epochs", "time"):
        table.add_column(name, justify="left" if name == "family" else "right", no_wrap=True)
    table.add_column("status", overflow="fold", min_width=17)
    ended = rows(record)
    for row in ended[:top]:
        table.add_row(*map(Text, _cells(row)))
    for row in beside(record):
        cells = _cells(row)
        if row["status"] == FLOOR:
            cells[2], cells[7] = "linear", "TF-IDF + logistic"
        else:
            cells[2], cells[7] = ENSEMBLE, f"average of {averaged(row['config'])}"
        table.add_row(*map(Text, cells), style="cyan" if row["status"] == FLOOR else "green")
    metric = f"{record.metric}, {'more' if record.maximize else 'less'} is better; test is measured for the best only"
    notes = [Text(metric, style="dim")]
    if error := record.manifest.get("floor_error"):
        notes.append(Text(f"no linear floor: {error}"))
    notes += [Text(_confirmed_text(row)) for row in ended if row["confirmed_seeds"]]
    if len(ended) > top:
        notes.append(Text(f"{len(ended) - top} more: automl leaderboard RUN --top {len(ended)}", style="dim"))
    notes += [Text(said) for said in _refit_text(record)]
    said = verdict(record)
    return Group(table, *notes, *([Text(said)] if said else []))


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        _number(row["rank"], "d"),
        _number(row["trial"], "d"),
        row["family"],
        _number(row["score"], ".4f"),
        _number(row["test_score"], ".4f"),
        _number(row["epochs"], "d"),
        "" if row["train_seconds"] is None else duration(row["train_seconds"]),
        status_text(row),
    ]


def _confirmed_text(row: dict[str, Any]) -> str:
    """What further trainings of a finalist say, in one line."""
    spread = "" if row["confirmed_std"] is None else f" ± {row['confirmed_std']:.4f}"
    seeds = f"{row['confirmed_seeds']} other seed{'s' if row['confirmed_seeds'] > 1 else ''}"
    return f"trial {row['trial']} again under {seeds}: {row['confirmed_mean']:.4f}{spread}"


def _refit_text(record: RunRecord) -> list[str]:
    """What came of training the winner on train and validation rows together, in at most one line."""
    if record.refit is None:
        return []
    trial = record.refit["trial"]
    if "error" in record.refit:
        return [f"trial {trial} could not be trained on train and validation rows: {record.refit['error']}"]
    figures = (record.finalists or {"trials": {}})["trials"].get(str(trial), {}).get("refit") or {}
    test = f": test {figures['test'][record.metric]:.4f}" if figures.get("test") else ""
    return [f"trial {trial} trained on train and validation rows{test}"]


def status_text(row: dict[str, Any]) -> str:
    """`completed`, `stopped at epoch 3`, `stopped at epoch 3: time budget`, `failed: why`; `, in half batches`."""
    halved = ", in half batches" if (row["accumulation"] or 1) > 1 else ""
    if row["status"] == "stopped":
        by_rung = str(row["stopped_by"]).startswith(("asha", "hyperband", "median"))
        return f"stopped at epoch {row['epochs']}" + ("" if by_rung else f": {row['stopped_by']}") + halved
    return f"failed: {row['error']}" if row["status"] == "failed" else f"{row['status']}{halved}"


def duration(seconds: float) -> str:
    """Seconds as `0.4s`, `45s`, `3m 05s` or `2h 05m`."""
    whole = round(seconds)
    if whole < 10:
        return f"{seconds:.1f}s"
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def _number(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "config": json.dumps(row["config"], ensure_ascii=False)}


def _markdown(record: RunRecord, lines: list[dict[str, Any]]) -> str:
    header = ["rank", "trial", "family", f"validation {record.metric}", "test", "epochs", "time", "status"]
    text = [f"# Leaderboard of {record.directory.name}", "", f"| {' | '.join(header)} |", "|" + " --- |" * len(header)]
    for line in lines:
        cells = [" ".join(cell.replace("|", "\\|").replace("<", "&lt;").split()) for cell in _cells(line)]
        text.append(f"| {' | '.join(cells)} |")
    said = verdict(record)
    return "\n".join([*text, "", said]).rstrip() + "\n"
