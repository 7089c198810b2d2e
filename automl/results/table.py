"""The leaderboard for people: as a table for a terminal, and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from rich.console import Group
from rich.table import Table

from automl.results.leaderboard import COMPRESSED, FLOOR, PAUSED, beside, rows
from automl.results.recommendation import chance_groups
from automl.results.selection import Selection, select
from automl.results.study import ENSEMBLE, LATENCY, RunRecord
from automl.results.verdict import verdict
from automl.space.durations import duration_text
from automl.space.markdown import markdown_text
from automl.space.objectives import METRICS, mode
from automl.space.printable import Text, cell


def render_table(record: RunRecord, asked: Selection) -> Group:
    """The leaderboard for a terminal of 80 columns or more; only the last column's words may wrap.

    Raises UserError where `asked` names what there is not.
    """
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    columns = _columns(record)
    for name in list(columns)[:-1]:
        table.add_column(name, justify="left" if name == "family" else "right", no_wrap=True)
    table.add_column("status", overflow="fold", min_width=17)
    every = rows(record)
    found = select(every, asked, maximize=record.maximize)
    for row in found[: asked.top]:
        shown = [cell(value(row)) for value in columns.values()]
        table.add_row(*shown, style="bold" if row["recommended"] else "")
    for row in beside(record):
        names = {FLOOR: {"family": "linear"}, ENSEMBLE: {"family": ENSEMBLE}}.get(row["status"], {})
        cells = [cell(names.get(name) or value(row)) for name, value in columns.items()]
        table.add_row(*cells, style="cyan" if row["status"] == FLOOR else "green")
    metric = f"{record.metric}, {'more' if record.maximize else 'less'} is better; "
    if "test" in record.manifest["data"]["profile"]["rows"]:
        metric += "test is measured for the best and each family's best"
    metric = metric.removesuffix("; ")
    if record.front:
        others = ", ".join(f"{name} ({'more' if mode(name) == 'max' else 'less'})" for name in record.objectives)
        metric = f"* the front: no other trial is as good in all of {others} and better in one; {metric}"
    notes = [Text(metric, style="dim")]
    notes += [Text(each, style="dim") for each in legend(record, found[: asked.top])]
    if error := record.manifest.get("floor_error"):
        notes.append(Text(f"no linear floor: {error}"))
    notes += [Text(_confirmed_text(row)) for row in found if row["confirmed_seeds"]]
    if asked.where is not None:
        notes.append(Text(f"{len(found)} of {len(every)} trials meet {asked.where}", style="dim"))
    if asked.top is not None and len(found) > asked.top:
        notes.append(Text(f"{len(found) - asked.top} more: automl leaderboard RUN --top {len(found)}", style="dim"))
    notes += [Text(said) for said in _refit_text(record)]
    said = verdict(record)
    return Group(table, *notes, *([Text(said)] if said else []))


Cell = Callable[[dict[str, Any]], str]
LEVEL_WITH_BEST, NOT_COMPARED = "= ", "? "
MEANINGS = {
    LEVEL_WITH_BEST: "not behind the best by more than chance on the validation rows",
    NOT_COMPARED: "not compared with the best, as its answers to the validation rows are not kept",
}


def _columns(record: RunRecord) -> dict[str, Cell]:
    """The columns' titles, and what of a row stands in them; other objectives take the place of epochs and time."""
    further = {name: partial(_further, name) for name in record.objectives[1:]}
    trained: dict[str, Cell] = {
        "epochs": lambda row: _number(row["epochs"], "d"),
        "time": lambda row: "" if row["train_seconds"] is None else duration(row["train_seconds"]),
    }
    return {
        "rank": lambda row: ("* " if row["front"] else "") + _number(row["rank"], "d"),
        "trial": lambda row: _number(row["trial"], "d"),
        "family": lambda row: row["family"],
        "validation": lambda row: mark(record, row) + _number(row["score"], ".4f"),
        **further,
        "test": lambda row: _number(row["test_score"], ".4f"),
        **({} if further else trained),
        "status": status_text,
    }


def _interval(row: dict[str, Any]) -> str:
    return "" if row["test_low"] is None else f"{row['test_low']:.4f} to {row['test_high']:.4f}"


def _milliseconds(batch: str, row: dict[str, Any]) -> str:
    measured = (row[f"latency{batch}_p50_ms"], row[f"latency{batch}_p95_ms"])
    return ", ".join(f"{milliseconds:.2f}" for milliseconds in measured if milliseconds is not None)


def _settings(row: dict[str, Any]) -> str:
    shown = {name: value for name, value in row["config"].items() if name not in ("task", "data")}
    return json.dumps(shown, ensure_ascii=False)


# What has no room in a terminal.
_FIGURES: dict[str, Cell] = {
    "group": lambda row: _number(row["group"], "d"),
    "recommended": lambda row: "yes" if row["recommended"] else "",
    "test, 95 %": _interval,
    "parameters": lambda row: _number(row["parameters"], ",d"),
    "bytes": lambda row: _number(row["bytes"], ",d"),
    "ms for 1, p50 and p95": partial(_milliseconds, ""),
    "ms for 32": partial(_milliseconds, "32"),
    "CPU hours": lambda row: _number(row["cpu_hours"], ".4f"),
    "GPU hours": lambda row: _number(row["gpu_hours"], ".4f"),
    "settings": _settings,
}


def mark(record: RunRecord, row: Mapping[str, Any]) -> str:
    """`= ` before a score that the best one is not ahead of by more than chance, `? ` before one not compared."""
    if row["rank"] in (None, 1) or not chance_groups(record):
        return ""
    return NOT_COMPARED if row["level"] is None else LEVEL_WITH_BEST if row["level"] else ""


def legend(record: RunRecord, lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the marks in these rows mean."""
    there = {mark(record, row) for row in lines}
    return [f"{sign}{meaning}" for sign, meaning in MEANINGS.items() if sign in there]


def _further(name: str, row: dict[str, Any]) -> str:
    value = (row["objectives"] or {}).get(name)
    return "" if value is None else objective_text(name, value)


def objective_text(name: str, value: float) -> str:
    """`0.9134` of a metric, `1.27` milliseconds, `48,201` parameters or bytes."""
    return f"{value:.4f}" if name in METRICS else f"{value:.2f}" if name == LATENCY else f"{value:,.0f}"


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
    reached = (figures.get("test") or {}).get(record.metric)
    test = "" if reached is None else f": test {reached:.4f}"
    return [f"trial {trial} trained on train and validation rows{test}"]


def status_text(row: dict[str, Any]) -> str:
    """`completed`, `stopped at epoch 3`, `paused at epoch 3`, `failed: why`; what else stopped it, half batches.

    Of what is no trial: what it is made of, and of a compressed model what that costs and saves.
    """
    halved = ", in half batches" if (row["accumulation"] or 1) > 1 else ""
    if row["status"] == "stopped":
        by_rung = str(row["stopped_by"]).startswith(("asha", "hyperband", "median"))
        return f"stopped at epoch {row['epochs']}" + ("" if by_rung else f": {row['stopped_by']}") + halved
    if row["status"] == ENSEMBLE:
        return f"average of {averaged(row['config'])}"
    if row["status"] == FLOOR:
        return _short(row["family"]) + (", the best model" if row["packed"] else "")
    if row["status"] == COMPRESSED:
        lost = f"{abs(row['lost']):.4f} {'lost' if row['lost'] >= 0 else 'gained'}"
        return f"{row['config']['smaller']:.1f}x smaller, {lost}"
    if row["status"] == PAUSED:
        return f"paused at epoch {row['epochs']}"
    return f"failed: {row['error']}" if row["status"] == "failed" else f"{row['status']}{halved}"


def averaged(made_of: Mapping[str, Any]) -> str:
    """`3, 1, 4 and linear`: what an ensemble's row says it is made of."""
    return ", ".join(map(str, made_of["members"])) + (" and linear" if made_of["linear"] else "")


def duration(seconds: float) -> str:
    """Seconds as `0.4s`, `45s`, `3m 05s` or `2h 05m`."""
    return f"{seconds:.1f}s" if round(seconds) < 10 else duration_text(seconds)


def _number(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def markdown(record: RunRecord, lines: list[dict[str, Any]]) -> str:
    """The rows `lines` as a Markdown table, and the verdict."""
    columns = _columns(record) | _FIGURES
    header = [f"validation {record.metric}" if name == "validation" else name for name in columns]
    title = f"# Leaderboard of {markdown_text(record.directory.name)}"
    text = [title, "", f"| {' | '.join(header)} |", "|" + " --- |" * len(header)]
    for line in lines:
        text.append(f"| {' | '.join(markdown_text(value(line)) for value in columns.values())} |")
    said = verdict(record)
    notes = [
        f"`{each[0]}` {each[2:]}" for each in legend(record, [line for line in lines if line["trial"] is not None])
    ]
    return "\n".join([*text, "", *notes, *([""] if notes else []), markdown_text(said)]).rstrip() + "\n"


def _short(floor: str) -> str:
    return floor.replace(" and logistic regression", " + logistic").replace("logistic regression", "logistic")
