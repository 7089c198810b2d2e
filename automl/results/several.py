"""The trials of several runs in one table, best first, with the run that each is of."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Group
from rich.table import Table

from automl.results.columns import (
    GAP,
    LEAST_STATUS,
    LESS_NEEDED,
    Cell,
    chosen,
    differing,
    fitted,
    searched_settings,
    with_sorted,
)
from automl.results.comparison import names_of, require_same_goal
from automl.results.formats import SCHEMA_VERSION, chosen_values, csv_cell, flat
from automl.results.leaderboard import COLUMNS, rows
from automl.results.selection import RowNames, Selection, select
from automl.results.study import RunRecord
from automl.results.table import FIGURES, duration, status_text
from automl.space import UserError
from automl.space.markdown import markdown_text
from automl.space.objectives import mode
from automl.space.printable import Text, cell, printable, printable_json

RUN = "run"
MOST_RUN = 24  # characters of a run's name in a line; longer ones are folded
# What only says something within a run: its rank is one of its own, and chance was judged on its own finalists.
_OF_ITS_RUN = ("group", "level", "recommended", "front")


def require_same_objectives(records: Sequence[RunRecord]) -> None:
    """Raise UserError where the trials of these runs cannot stand in one order."""
    require_same_goal(records)
    first = records[0]
    for other in records[1:]:
        if other.objectives != first.objectives:
            raise UserError(
                f"{first.directory.name} looked for {', '.join(first.objectives)} and {other.directory.name} for "
                f"{', '.join(other.objectives)}: their trials cannot stand in one order"
            )


def rows_of(records: Sequence[RunRecord], asked: Selection) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row for each trial, ranked by its validation score among all; and of them those that are asked for, not cut.

    They are as `leaderboard.rows` has them, and `run` is a setting of each. Raises UserError where the runs cannot
    stand in one order, or where `asked` names what there is not.
    """
    require_same_objectives(records)
    maximize, every = records[0].maximize, []
    for name, record in zip(names_of(records), records, strict=True):
        for row in rows(record):
            every.append(row | dict.fromkeys(_OF_ITS_RUN) | {"config": {**row["config"], RUN: name}})
    ranked = [row for row in every if row["rank"] is not None]
    ranked.sort(key=lambda row: row["score"], reverse=maximize)
    ranked = [row | {"rank": rank} for rank, row in enumerate(ranked, start=1)]
    every = ranked + [row for row in every if row["rank"] is None]
    return every, select(every, asked, maximize=maximize, metric=records[0].metric)


def render_several(records: Sequence[RunRecord], asked: Selection, width: int = 80) -> Group:
    """The trials for a terminal of `width` columns, 80 or more; the first part of the group is the table."""
    every, found = rows_of(records, asked)
    shown, names = found[: asked.top], RowNames(every, records[0].metric)
    columns = _columns()
    known = columns | FIGURES
    searched = list(dict.fromkeys(path for record in records for path in searched_settings(record)))
    if asked.columns is not None:
        columns = with_sorted(names, asked, chosen(names, asked.columns, known), known)
    elif asked.wide:
        status = {"status": columns.pop("status")}
        columns = with_sorted(names, asked, columns | differing(searched, names, shown) | status, known)
    else:
        spare = max(0, _width(RUN, columns[RUN], shown) - MOST_RUN)
        for name in LESS_NEEDED[:2]:  # epochs and time give way to names
            if sum(_width(title, value, shown) + GAP for title, value in columns.items()) > width + spare:
                del columns[name]
        columns, _ = fitted(searched, names, asked, columns, known, shown, width + spare)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
    free = asked.columns is not None and not asked.wide
    for name in columns:
        words = name in ("status", "error", "stopped_by")
        table.add_column(
            cell(name),
            justify="left" if words or name in (RUN, "family") else "right",
            no_wrap=not (words or free or name == RUN),
            overflow="fold",
            max_width=None if asked.wide or free or name != RUN else MOST_RUN,
            min_width=LEAST_STATUS if name == "status" else None,
        )
    for row in shown:
        table.add_row(*(cell(value(row)) for value in columns.values()))
    return Group(table, *(Text(each, style="dim") for each in _notes(records, asked, every, found)))


def format_several(records: Sequence[RunRecord], kind: str, asked: Selection) -> str:
    """The same trials as `csv`, `json` or `md` text."""
    every, found = rows_of(records, asked)
    names, shown = RowNames(every, records[0].metric), found[: asked.top]
    if kind == "md":
        columns = _columns()
        known = columns | FIGURES
        if asked.columns is not None:
            columns = chosen(names, asked.columns, known)
        return _markdown(with_sorted(names, asked, columns, known), shown, _notes(records, asked, every, found))
    picked = None if asked.columns is None else {name: names.resolve(name, "--columns") for name in asked.columns}
    lines = [_said(row) if picked is None else chosen_values(row, picked) for row in shown]
    if kind == "csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(map(csv_cell, (RUN, *COLUMNS) if picked is None else picked))
        writer.writerows(map(csv_cell, flat(line).values()) for line in lines)
        return buffer.getvalue()
    content = {
        "schema_version": SCHEMA_VERSION,
        "runs": [
            {
                RUN: name,
                "trials": record.manifest["used"]["trials"],
                "data": record.manifest["data"]["fingerprint"],
                "files": record.manifest["data"].get("files"),
            }
            for name, record in zip(names_of(records), records, strict=True)
        ],
        "metric": records[0].metric,
        "mode": records[0].manifest["mode"],
        "objectives": list(records[0].objectives),
        "trials": lines,
    }
    return printable_json(content, allow_nan=False) + "\n"


def _said(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its run as a column of its own."""
    config = {name: value for name, value in row["config"].items() if name != RUN}
    return {RUN: row["config"][RUN], **row, "config": config}


def _columns() -> dict[str, Cell]:
    return {
        "rank": lambda row: "" if row["rank"] is None else str(row["rank"]),
        RUN: lambda row: str(row["config"][RUN]),
        "trial": lambda row: str(row["trial"]),
        "family": lambda row: row["family"],
        "validation": lambda row: _figure(row["score"]),
        "test": lambda row: _figure(row["test_score"]),
        "epochs": lambda row: str(row["epochs"]),
        "time": lambda row: "" if row["train_seconds"] is None else duration(row["train_seconds"]),
        "status": status_text,
    }


def _notes(
    records: Sequence[RunRecord], asked: Selection, every: Sequence[Mapping[str, Any]], found: Sequence[Any]
) -> list[str]:
    """What is to be known of the table: what stands in it, and what of it cannot be compared."""
    first = records[0]
    said = [f"{first.metric}, {'more' if first.maximize else 'less'} is better"]
    if len(first.objectives) > 1:
        others = ", ".join(f"{name} ({'more' if mode(name) == 'max' else 'less'})" for name in first.objectives[1:])
        said[0] += f"; ranked by it alone, not by {others}"
    if other := _other_data(records):
        said.append(other)
    said.append("differences between runs may be chance: --compare tells for their best models")
    if asked.where is not None:
        said.append(f"{len(found)} of {len(every)} trials meet {asked.where}")
    if asked.top is not None and len(found) > asked.top:
        said.append(f"{len(found) - asked.top} more: --top {len(found)}")
    return said


def _other_data(records: Sequence[RunRecord]) -> str:
    """That the scores are not of the same rows, as far as the manifests say; empty where they may be."""
    data = [record.manifest["data"] for record in records]
    if len({each["fingerprint"] for each in data}) == 1:
        return ""
    names, files = names_of(records), {each.get("files") or each["fingerprint"] for each in data}
    other = next(name for name, each in zip(names, data, strict=True) if each["fingerprint"] != data[0]["fingerprint"])
    if len(files) > 1:
        return f"{names[0]} and {other} have different data: scores of different rows say little of each other"
    return f"{names[0]} and {other} prepared or split the data differently: the rows may not be the same"


def _markdown(columns: Mapping[str, Cell], lines: Sequence[dict[str, Any]], notes: Sequence[str]) -> str:
    text = [f"| {' | '.join(map(markdown_text, columns))} |", "|" + " --- |" * len(columns)]
    text += [f"| {' | '.join(markdown_text(value(line)) for value in columns.values())} |" for line in lines]
    return "\n".join([*text, "", *map(markdown_text, notes)]) + "\n"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _width(title: str, value: Cell, lines: Sequence[dict[str, Any]]) -> int:
    return max(map(cell_len, [title, *(printable(value(line)) for line in lines)]))
