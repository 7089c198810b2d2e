"""The leaderboard for programs: CSV, JSON, Parquet and, of the same rows, Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from automl.data.files import replace_atomically
from automl.results import story
from automl.results.leaderboard import COLUMNS, beside, compressed_rows, ensemble_row, floor_row, rows
from automl.results.selection import WHOLE, RowNames, Selection, select, value_of_any
from automl.results.study import RunRecord
from automl.results.table import markdown
from automl.space.printable import printable, printable_json
from automl.space.spreadsheet import spreadsheet_cell

SCHEMA_VERSION = 2

_SCHEMA = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])


def format_leaderboard(record: RunRecord, kind: str, asked: Selection = WHOLE) -> str:
    """The leaderboard as `csv`, `json` or `md` text; `asked` chooses among the trials, never what is beside them.

    JSON and CSV have the columns that it names and no others, by these names.
    Raises UserError where it names what there is not.
    """
    every = rows(record)
    trials = select(every, asked, maximize=record.maximize, metric=record.metric)[: asked.top]
    names = RowNames(every, record.metric)
    columns = None if asked.columns is None else {name: names.resolve(name, "--columns") for name in asked.columns}
    if kind == "json":
        content = {
            "schema_version": SCHEMA_VERSION,
            "run": record.directory.name,
            "metric": record.metric,
            "mode": record.manifest["mode"],
            "objectives": list(record.objectives),
            "trials": [chosen_values(row, columns) for row in trials],
            "ensemble": chosen_values(ensemble_row(record), columns),
            "compressed": [chosen_values(row, columns) for row in compressed_rows(record)],
            "floor": chosen_values(floor_row(record), columns),
            "choice": (record.finalists or {}).get("choice"),
            **story.as_json(record),
        }
        return printable_json(content, allow_nan=False) + "\n"
    lines = trials + beside(record)
    if kind == "csv":
        buffer = io.StringIO()
        fields = _SCHEMA.names if columns is None else list(columns)
        writer = csv.DictWriter(buffer, fieldnames=fields, lineterminator="\n")
        writer.writerow({name: csv_cell(name) for name in fields})
        chosen_ones = (flat(chosen_values(line, columns)) for line in lines)
        writer.writerows({name: csv_cell(value) for name, value in line.items()} for line in chosen_ones)
        return buffer.getvalue()
    if kind == "md":
        return markdown(record, names, lines, asked)
    raise ValueError(f"no format is called {kind!r}")


def write_leaderboard(record: RunRecord) -> None:
    """Write leaderboard.csv, .json, .md and .parquet, each whole or not at all."""
    for kind in ("csv", "json", "md"):
        with replace_atomically(record.directory.leaderboard(kind)) as temporary:
            temporary.write_text(format_leaderboard(record, kind), encoding="utf-8")
    lines = [flat(line) for line in rows(record) + beside(record)]
    with replace_atomically(record.directory.leaderboard("parquet")) as temporary:
        pa.parquet.write_table(pa.Table.from_pylist(lines, schema=_SCHEMA), temporary)


def csv_cell(value: Any) -> Any:
    """What stands in a cell of leaderboard.csv, which people open in spreadsheets: never a control or a formula."""
    return spreadsheet_cell(printable(value)) if isinstance(value, str) else value


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its trees as JSON text."""
    trees = {
        name: json.dumps(value, ensure_ascii=False) for name, value in row.items() if isinstance(value, dict | list)
    }
    return row | trees


def chosen_values(row: dict[str, Any] | None, columns: Mapping[str, tuple[str, ...]] | None) -> Any:
    """The values of these columns and settings, by the names that were asked for; the whole row where none were."""
    if row is None or columns is None:
        return row
    return {name: row[each[0]] if each[0] in COLUMNS else value_of_any(row, each) for name, each in columns.items()}
