"""A line for each run: as a table for a terminal of 80 columns, as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Group, JustifyMethod
from rich.table import Table

from automl.cluster.choosing import begun, ended_trials
from automl.cluster.status import RunStatus
from automl.space.durations import age_text
from automl.space.markdown import markdown_text
from automl.space.owners import written_labels
from automl.space.printable import Text, cell, printable, printable_json
from automl.space.spreadsheet import spreadsheet_cell

Columns = dict[str, Callable[[RunStatus], str]]

STYLES = {
    "finished": "green",
    "running": "cyan",
    "waiting": "yellow",
    "failed": "red",
    "lost": "red",
    "interrupted": "yellow",
    "damaged": "red",
    "newer": "red",
}
MOST_CHARACTERS = 500  # of a column
MOST_REASONS = 5  # below a table
GAP = 2  # characters between columns
LEAST = {"run": 14, "owner": 6, "label": 10, "best": 9}  # characters; longer ones may be folded
LESS_NEEDED = "time"  # gives way where there is no room
WORDS = ("run", "owner", "state", "label")  # the other columns are figures
UNREADABLE = ("damaged", "newer")


def run_table(found: Sequence[RunStatus], nothing: str, room: int = 80) -> Group | Text:
    """A line for each run in `room` characters, and below them why some cannot be read; `nothing` where there is none.

    Owners and labels are shown where they say something: where there are labels, and several owners.
    """
    if not found:
        return Text(nothing)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
    columns, widths = _fitted(_columns(found), found, room)
    for name in columns:
        justify: JustifyMethod = "left" if name in WORDS else "right"
        table.add_column(cell(name), justify=justify, overflow="fold", width=widths[name])
    for each in found:
        cells = (cell(value(each)) for value in columns.values())
        table.add_row(
            *(state_text(each) if name == "state" else text for name, text in zip(columns, cells, strict=True))
        )
    unread = [each for each in found if each.state in UNREADABLE]
    reasons = [Text(f"{printable(each.name)}: {printable(each.reason)}", style="dim") for each in unread[:MOST_REASONS]]
    if (more := len(unread) - MOST_REASONS) > 0:
        reasons.append(Text(f"{more} more cannot be read; --format csv says why", style="dim"))
    return Group(table, *reasons)


def state_text(status: RunStatus) -> Text:
    """The state in its colour."""
    return Text(status.state, style=STYLES.get(status.state, ""))


def format_runs(found: Sequence[RunStatus], kind: str) -> str:
    """The same as `json`, `csv` or `md` text."""
    if kind == "json":
        return printable_json([each.as_json() for each in found]) + "\n"
    if kind == "md":
        columns = _columns(found)
        lines = [columns, ["---"] * len(columns), *([value(each) for value in columns.values()] for each in found)]
        return "".join(f"| {' | '.join(map(markdown_text, line))} |\n" for line in lines)
    buffer = io.StringIO()
    rows = [_flat(each) for each in found]
    writer = csv.DictWriter(buffer, fieldnames=list(_flat(NOBODY)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return buffer.getvalue()


NOBODY = RunStatus("", "", {}, "", "", "")


def _columns(found: Sequence[RunStatus]) -> Columns:
    """The columns' titles, and what of a run stands in them."""
    metrics = {each.best["metric"] for each in found if each.best}
    owners = {each.owner for each in found if each.owner}
    only = next(iter(metrics)) if len(metrics) == 1 else ""
    columns: Columns = {"run": lambda each: each.name}
    if len(owners) > 1 or any(each.submitted for each in found):
        columns["owner"] = lambda each: each.owner
    columns["state"] = lambda each: each.state
    columns["trials"] = _trials
    columns[f"best {only}".rstrip()] = lambda each: _best(each, named=not only)
    columns["time"] = _time
    columns["age"] = lambda each: age_text(time.time() - begun(each)) if begun(each) else "-"
    if any(each.labels for each in found):
        columns["label"] = lambda each: written_labels(each.labels)
    return columns


def _fitted(columns: Columns, found: Sequence[RunStatus], room: int) -> tuple[Columns, dict[str, int]]:
    """The columns with their widths in a table of `room` characters: names are folded where they have to be."""
    widths = {name: _width(name, value, found) for name, value in columns.items()}
    least = sum(min(width, LEAST.get(name, width)) + GAP for name, width in widths.items()) - GAP
    if least > room and LESS_NEEDED in columns:
        return _fitted({name: value for name, value in columns.items() if name != LESS_NEEDED}, found, room)
    over = sum(width + GAP for width in widths.values()) - GAP - room
    while over > 0 and (long := [name for name in LEAST if widths.get(name, 0) > LEAST[name]]):
        longest = max(long, key=lambda name: widths[name])
        widths[longest] -= 1
        over -= 1
    return columns, widths


def _width(name: str, value: Callable[[RunStatus], str], found: Sequence[RunStatus]) -> int:
    words = name.split() if name not in LEAST else [name]
    return min(MOST_CHARACTERS, max(map(cell_len, [*words, *(printable(value(each)) for each in found)])))


def _trials(status: RunStatus) -> str:
    ended = ended_trials(status)
    if ended is None or not status.trials:
        return "-"
    planned = status.trials["budget"]
    return f"{ended}" if planned is None else f"{ended}/{planned}"


def _best(status: RunStatus, *, named: bool) -> str:
    if not status.best:
        return "-"
    return (f"{status.best['metric']} " if named else "") + f"{status.best['score']:.4f}"


def _time(status: RunStatus) -> str:
    """What is used of the time that is given: `4m/30m`; without a limit `4m`."""
    if not status.used or not status.budget:
        return "-"
    limit = status.budget.get("time_budget_seconds")
    return age_text(status.used["seconds"]) + (f"/{age_text(limit)}" if limit else "")


def _flat(status: RunStatus) -> dict[str, Any]:
    best, used, budget = status.best or {}, status.used or {}, status.budget or {}
    return {
        "run": status.name,
        "owner": status.owner,
        "labels": written_labels(status.labels),
        "state": status.state,
        "reason": status.reason,
        "trials": ended_trials(status),
        "trials_budget": (status.trials or {}).get("budget"),
        "metric": best.get("metric"),
        "best": best.get("score"),
        "best_trial": best.get("trial"),
        "best_family": best.get("family"),
        "seconds": used.get("seconds"),
        "time_budget_seconds": budget.get("time_budget_seconds"),
        "gpu_hours": used.get("gpu_hours"),
        "gpu_hours_budget": budget.get("gpu_hours"),
        "submitted": status.submitted,
        "started": status.started,
        "place": status.place,
    }


def _plain(value: Any) -> Any:
    return spreadsheet_cell(printable(value)) if isinstance(value, str) else value
