"""The leaderboard for people: as a table for a terminal, and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from rich.console import Group, JustifyMethod, OverflowMethod
from rich.table import Table

from automl.results.columns import LEAST_STATUS, Cell, chosen, differing, fitted, searched_settings, with_sorted
from automl.results.leaderboard import COMPRESSED, FLOOR, PAUSED, beside, rows
from automl.results.recommendation import chance_groups
from automl.results.selection import WHOLE, RowNames, Selection, select
from automl.results.study import ENSEMBLE, LATENCY, RunRecord
from automl.results.verdict import verdict
from automl.space.durations import duration_text
from automl.space.markdown import markdown_text
from automl.space.objectives import METRICS, mode
from automl.space.printable import Text, cell


def render_table(record: RunRecord, asked: Selection, width: int = 80, *, hint: bool = False) -> Group:
    """The leaderboard for a terminal of `width` columns, 80 or more; only the last column's words may wrap.

    The table, which may be wider where `asked` says so, comes first, then what there is to say about it; with `hint`
    also how to see settings that have no room. Raises UserError where `asked` names what there is not.
    """
    every = rows(record)
    found = select(every, asked, maximize=record.maximize, metric=record.metric)
    shown = found[: asked.top] + beside(record)
    columns, whole = _shown_columns(record, asked, every, shown, width)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    chosen_ones = asked.columns is not None and not asked.wide
    for name in columns:
        words = name in ("status", "error", "stopped_by") and not asked.wide
        justify: JustifyMethod = "left" if words or name in ("family", "status", "settings") else "right"
        folds: OverflowMethod = "fold"
        least = LEAST_STATUS if name == "status" else None
        table.add_column(
            cell(name), justify=justify, no_wrap=not (words or chosen_ones), overflow=folds, min_width=least
        )
    for row in shown:
        style = "bold" if row["recommended"] else ""
        style = {FLOOR: "cyan", ENSEMBLE: "green", COMPRESSED: "green"}.get(row["status"], style)
        table.add_row(*(cell(value(row)) for value in columns.values()), style=style)
    metric = f"{record.metric}, {'more' if record.maximize else 'less'} is better; "
    if "test" in columns and "test" in record.manifest["data"]["profile"]["rows"]:
        metric += "test is measured for the best and each family's best"
    metric = metric.removesuffix("; ")
    if record.front:
        others = ", ".join(f"{name} ({'more' if mode(name) == 'max' else 'less'})" for name in record.objectives)
        metric = f"* the front: no other trial is as good in all of {others} and better in one; {metric}"
    notes = [Text(metric, style="dim")]
    if "validation" in columns:
        notes += [Text(each, style="dim") for each in legend(record, found[: asked.top])]
    if error := record.manifest.get("floor_error"):
        notes.append(Text(f"no linear floor: {error}"))
    notes += [Text(_confirmed_text(row)) for row in found if row["confirmed_seeds"]]
    if asked.where is not None:
        notes.append(Text(f"{len(found)} of {len(every)} trials meet {asked.where}", style="dim"))
    if asked.top is not None and len(found) > asked.top:
        again = "" if asked.where or asked.sort or asked.columns or asked.wide else "automl leaderboard RUN "
        notes.append(Text(f"{len(found) - asked.top} more: {again}--top {len(found)}", style="dim"))
    if hint and not whole:
        notes.append(Text("settings that differ have no room here: --wide shows them, --columns chooses", style="dim"))
    notes += [Text(said) for said in _refit_text(record)]
    said = verdict(record)
    return Group(table, *notes, *([Text(said)] if said else []))


LEVEL_WITH_BEST, NOT_COMPARED = "= ", "? "
MEANINGS = {
    LEVEL_WITH_BEST: "not behind the best by more than chance on the validation rows",
    NOT_COMPARED: "not compared with the best, as its answers to the validation rows are not kept",
}


def _shown_columns(
    record: RunRecord, asked: Selection, every: list[dict[str, Any]], shown: list[dict[str, Any]], width: int
) -> tuple[dict[str, Cell], bool]:
    """The columns of a terminal, and whether they hold all settings that differ or need not."""
    names = RowNames(every, record.metric)
    base = _columns(record) | {"family": lambda row: _BESIDE.get(row["status"]) or row["family"]}
    known = base | FIGURES
    if asked.columns is not None:
        return with_sorted(names, asked, chosen(names, asked.columns, known), known), True
    if not asked.wide:
        return fitted(searched_settings(record), names, asked, base, known, shown, width)
    settings = differing(searched_settings(record), names, shown)
    status = {"status": base.pop("status")}
    figures = {name: value for name, value in FIGURES.items() if name != "settings"}
    filled = {name: value for name, value in (base | figures | settings).items() if any(map(value, shown))}
    return with_sorted(names, asked, filled | status, known), True


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


def hours_text(name: str, row: Mapping[str, Any]) -> str:
    """Hours of a column as a duration, empty for none: those of most trials are minutes."""
    return duration(3600 * row[name]) if row.get(name) else ""


_BESIDE = {FLOOR: "linear", ENSEMBLE: ENSEMBLE}  # what stands for a family in rows that are no trials
# What has no room in a terminal.
FIGURES: dict[str, Cell] = {
    "group": lambda row: _number(row["group"], "d"),
    "recommended": lambda row: "yes" if row["recommended"] else "",
    "test, 95 %": _interval,
    "parameters": lambda row: _number(row["parameters"], ",d"),
    "bytes": lambda row: _number(row["bytes"], ",d"),
    "ms for 1, p50 and p95": partial(_milliseconds, ""),
    "ms for 32": partial(_milliseconds, "32"),
    "CPU time": partial(hours_text, "cpu_hours"),
    "GPU time": partial(hours_text, "gpu_hours"),
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


def markdown(record: RunRecord, names: RowNames, lines: list[dict[str, Any]], asked: Selection = WHOLE) -> str:
    """The rows `lines` as a Markdown table, and the verdict; of all columns those that are asked for.

    `names` are those of all rows: none of the `lines` may have a setting that is asked for.
    """
    known = _columns(record) | FIGURES
    columns = known if asked.columns is None else chosen(names, asked.columns, known)
    columns = with_sorted(names, asked, columns, known)
    header = [f"validation {record.metric}" if name == "validation" else markdown_text(name) for name in columns]
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
