"""The leaderboard of the report: which columns it has, and what stands in each cell."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from automl.results.leaderboard import FLOOR, beside, rows
from automl.results.parameter_names import settings_text
from automl.results.study import ENSEMBLE, LATENCY, RunRecord
from automl.results.table import (
    LEVEL_WITH_BEST,
    NOT_COMPARED,
    averaged,
    duration,
    hours_text,
    mark,
    objective_text,
    status_text,
)

MOST_ROWS = 1000
MOST_WORDS = 90  # characters of a status

COMPARED_WORDS = {LEVEL_WITH_BEST: "level; ", NOT_COMPARED: "not compared; "}  # the page's legend says what they mean
_BESIDE = {FLOOR: "linear", ENSEMBLE: "ensemble"}  # what stands for a family in rows that are no trials

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of the page's table; numbers are sorted by `value`, all else by what is shown."""

    title: str
    shown: Callable[[Row], str]
    value: Callable[[Row], Any] | None = None

    @property
    def numeric(self) -> bool:
        """Whether it is sorted as numbers."""
        return self.value is not None


@dataclass(frozen=True)
class Cell:
    """What is shown, and the number it is sorted by where it is one."""

    shown: str
    value: Any
    numeric: bool


@dataclass(frozen=True)
class Line:
    """One row of the page's table; `status` is what it can be filtered by."""

    status: str
    family: str
    recommended: bool
    cells: tuple[Cell, ...]
    settings: str
    """What was chosen for it, which has a line of its own."""


@dataclass(frozen=True)
class LeaderboardTable:
    """The page's table: titles and whether they are of numbers, lines best first, and how many trials are left out."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    left_out: int


def leaderboard_table(record: RunRecord) -> LeaderboardTable:
    """The best `MOST_ROWS` trials, the ensemble and the floor, without columns that say nothing of any of them."""
    trials = rows(record)
    shown = trials[:MOST_ROWS]
    params = {trial.number: trial.params for trial in record.study.get_trials(deepcopy=False)}
    all_columns = _columns(record)
    everything = [*shown, *beside(record)]
    columns = tuple(each for each in all_columns if any(each.shown(row) for row in everything) or not everything)
    lines = tuple(
        Line(
            status=row["status"],
            family=row["family"] if row["trial"] is not None else "",
            recommended=bool(row.get("recommended")),
            cells=tuple(_cell(column, row) for column in columns),
            settings=settings_text(params.get(row["trial"], {})),
        )
        for row in everything
    )
    return LeaderboardTable(columns, lines, len(trials) - len(shown))


def _cell(column: Column, row: Row) -> Cell:
    return Cell(column.shown(row), None if column.value is None else column.value(row), column.numeric)


def _columns(record: RunRecord) -> list[Column]:
    return [
        Column("rank", lambda row: _form(row["rank"], "d") + (" *" if row["front"] else ""), _of("rank")),
        Column("trial", partial(_number, "trial", "d"), _of("trial")),
        Column("family", lambda row: _BESIDE.get(row["status"]) or str(row["family"])),
        Column("validation", partial(_number, "score", ".4f"), _of("score")),
        *(Column(name, partial(_objective, name), partial(_further, name)) for name in record.objectives[1:]),
        Column("other seeds", _other_seeds, _of("confirmed_mean")),
        Column("group", partial(_number, "group", "d"), _of("group")),
        Column("test", partial(_number, "test_score", ".4f"), _of("test_score")),
        Column("95 % interval", _interval, _of("test_low")),
        Column("epochs", partial(_number, "epochs", "d"), _of("epochs")),
        Column("time", _time, _of("train_seconds")),
        Column("CPU time", partial(hours_text, "cpu_hours"), _of("cpu_hours")),
        Column("GPU time", partial(hours_text, "gpu_hours"), _of("gpu_hours")),
        Column("parameters", partial(_number, "parameters", ","), _of("parameters")),
        *([] if LATENCY in record.objectives else [Column("ms for one", *_milliseconds("latency_p50_ms"))]),
        Column("ms for 32", *_milliseconds("latency32_p50_ms")),
        Column("status", partial(_status, record, behind="the linear floor" if record.linear else "the best alone")),
    ]


def _of(name: str) -> Callable[[Row], Any]:
    return lambda row: row.get(name)


def _form(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def _number(name: str, form: str, row: Row) -> str:
    return _form(row.get(name), form)


def _further(name: str, row: Row) -> float | None:
    return (row["objectives"] or {}).get(name)


def _objective(name: str, row: Row) -> str:
    value = _further(name, row)
    return "" if value is None else objective_text(name, value)


def _other_seeds(row: Row) -> str:
    spread = "" if row["confirmed_std"] is None else f" ± {row['confirmed_std']:.4f}"
    return _form(row["confirmed_mean"], ".4f") + spread


def _interval(row: Row) -> str:
    return "" if row.get("test_low") is None else f"{row['test_low']:.3f} to {row['test_high']:.3f}"


def _time(row: Row) -> str:
    return "" if row["train_seconds"] is None else duration(row["train_seconds"])


def _milliseconds(name: str) -> tuple[Callable[[Row], str], Callable[[Row], Any]]:
    return partial(_number, name, ".3g"), _of(name)


def _status(record: RunRecord, row: Row, *, behind: str) -> str:
    if row["status"] == FLOOR:
        return f"linear floor: {row['family']}{', the best model' if row['packed'] else ''}"
    if row["status"] == ENSEMBLE:
        better = "" if row["packed"] else f": behind {behind}"
        return f"average of trials {averaged(row['config'])}{better}"
    words = "recommended; " if row.get("recommended") else ""
    words += COMPARED_WORDS.get(mark(record, row), "")
    return textwrap.shorten(words + status_text(dict(row)), MOST_WORDS)
