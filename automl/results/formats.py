"""The leaderboard for programs: CSV, JSON, Parquet and, of the same rows, Markdown."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from automl.data.files import replace_atomically
from automl.results import story
from automl.results.leaderboard import COLUMNS, beside, compressed_rows, ensemble_row, floor_row, rows
from automl.results.selection import WHOLE, Selection, select
from automl.results.study import RunRecord
from automl.results.table import markdown
from automl.space.printable import printable, printable_json
from automl.space.spreadsheet import spreadsheet_cell

SCHEMA_VERSION = 2

_SCHEMA = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])
_TREES = ("objectives", "config")  # JSON in a cell, where a cell has to be text


def format_leaderboard(record: RunRecord, kind: str, asked: Selection = WHOLE) -> str:
    """The leaderboard as `csv`, `json` or `md` text; `asked` chooses among the trials, never what is beside them.

    Raises UserError where it names what there is not.
    """
    trials = select(rows(record), asked, maximize=record.maximize)[: asked.top]
    if kind == "json":
        content = {
            "schema_version": SCHEMA_VERSION,
            "run": record.directory.name,
            "metric": record.metric,
            "mode": record.manifest["mode"],
            "objectives": list(record.objectives),
            "trials": trials,
            "ensemble": ensemble_row(record),
            "compressed": compressed_rows(record),
            "floor": floor_row(record),
            "choice": (record.finalists or {}).get("choice"),
            **story.as_json(record),
        }
        return printable_json(content, allow_nan=False) + "\n"
    lines = trials + beside(record)
    if kind == "csv":
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, fieldnames=_SCHEMA.names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in _flat(line).items()} for line in lines)
        return buffer.getvalue()
    if kind == "md":
        return markdown(record, lines)
    raise ValueError(f"no format is called {kind!r}")


def write_leaderboard(record: RunRecord) -> None:
    """Write leaderboard.csv, .json, .md and .parquet, each whole or not at all."""
    for kind in ("csv", "json", "md"):
        with replace_atomically(record.directory.leaderboard(kind)) as temporary:
            temporary.write_text(format_leaderboard(record, kind), encoding="utf-8")
    lines = [_flat(line) for line in rows(record) + beside(record)]
    with replace_atomically(record.directory.leaderboard("parquet")) as temporary:
        pa.parquet.write_table(pa.Table.from_pylist(lines, schema=_SCHEMA), temporary)


def _cell(value: Any) -> Any:
    """What stands in a cell of leaderboard.csv, which people open in spreadsheets: never a control or a formula."""
    return spreadsheet_cell(printable(value)) if isinstance(value, str) else value


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: json.dumps(row[name], ensure_ascii=False) for name in _TREES if row[name] is not None}
