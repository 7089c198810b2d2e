"""Which columns a leaderboard in a terminal has: those that are asked for, or those that there is room for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from rich.cells import cell_len

from automl.results.leaderboard import COLUMNS
from automl.results.parameter_names import FAMILY, short_name, value_text
from automl.results.selection import HEADINGS, RowNames, Selection, plain, sort_name, value_of_any
from automl.results.study import RunRecord
from automl.space import UserError
from automl.space.printable import printable

GAP = 2  # characters between columns
STATUS = "status"
LEAST_STATUS = 17  # characters: less wraps its words badly
MOST_STATUS = 26  # settings leave so much to it where it has so much to say
LESS_NEEDED = ("epochs", "time", "test")  # give way, in this order, to the column that the rows are sorted by
SECTIONS = ("training", FAMILY, "data")  # whose settings come first where there is no room for all

Row = dict[str, Any]
Cell = Callable[[Row], str]


def asked_columns(words: str | None) -> tuple[str, ...] | None:
    """The names of `rank,trial,model.rnn.hidden`, each once; None where nothing is asked.

    A heading that has a comma itself, such as `test, 95 %`, is one name. Raises UserError where there is no name.
    """
    if words is None:
        return None
    names: list[str] = []
    for name in filter(None, (name.strip() for name in words.split(","))):
        if names and plain(heading := f"{names[-1]}, {name}") in HEADINGS:
            names[-1] = heading
        else:
            names.append(name)
    if not names:
        raise UserError("--columns names no column; write names with commas between them, such as trial,validation")
    return tuple(dict.fromkeys(names))


def chosen(names: RowNames, columns: Iterable[str], known: Mapping[str, Cell]) -> dict[str, Cell]:
    """A column for each name: what `known` has under this title, else the plain value, as a program gets it.

    Raises UserError for a name that there is not.
    """
    return {name: _cell(name, names.resolve(name, "--columns"), known) for name in columns}


def fitted(
    searched: Iterable[str],
    names: RowNames,
    asked: Selection,
    base: Mapping[str, Cell],
    known: Mapping[str, Cell],
    rows: Sequence[Row],
    room: int,
) -> tuple[dict[str, Cell], bool]:
    """`base` with the column that is sorted by and as many settings that differ as fit into `room` characters.

    Gives also whether all of these settings fit. `known` is as in `chosen`; `rows` are those that are shown. The status
    is the last column.
    """
    columns, kept = with_sorted(names, asked, base, known), set()
    if asked.sort is not None:
        kept = {title for title in columns if title not in base or _same(names, title, asked.sort)}
    widths = {title: _width(title, cell, rows) for title, cell in columns.items()}
    widths[STATUS] = LEAST_STATUS
    for title in LESS_NEEDED:
        if title in columns and title not in kept and sum(widths.values()) > room and set(columns) != set(base):
            del columns[title], widths[title]
    widths[STATUS] = min(max(_width(STATUS, columns[STATUS], rows), LEAST_STATUS), MOST_STATUS)
    every = True
    for title, cell in differing(searched, names, rows).items():
        if title not in columns:
            width = _width(title, cell, rows)
            if fits := sum(widths.values()) + width <= room:
                columns, widths = _before_status(columns, title, cell), {**widths, title: width}
            every = every and fits
    return columns, every


def searched_settings(record: RunRecord) -> list[str]:
    """The paths of the settings that a run has searched, but for the family."""
    names = (name for trial in record.study.get_trials(deepcopy=False) for name in trial.params if name != FAMILY)
    return list(dict.fromkeys(name.partition("[")[0] for name in names))


def with_sorted(
    names: RowNames, asked: Selection, columns: Mapping[str, Cell], known: Mapping[str, Cell]
) -> dict[str, Cell]:
    """`columns` and, where none of them is it, the one that the rows are sorted by; `known` is as in `chosen`."""
    if asked.sort is None or any(_same(names, title, asked.sort) for title in columns):
        return dict(columns)
    name = sort_name(asked.sort)
    cell = _cell(name, names.resolve(name, "--sort"), known)
    title = _title(names, name)
    return _before_status(columns, title, cell) if STATUS in columns else {**columns, title: cell}


def differing(searched: Iterable[str], names: RowNames, rows: Sequence[Row]) -> dict[str, Cell]:
    """The settings that were `searched` and are not the same in all of `rows`, by their shortest name.

    Those of `training` come first, then those of the model; of each, those that most rows have. Settings of one name of
    several families are one column.
    """
    found: dict[str, tuple[tuple[int, int], Cell]] = {}
    for path in searched:
        if path in names.kinds and (title := _title(names, path, rows)) not in found:
            resolved = names.resolve(title, "")
            values = [text for row in rows if (text := _value(resolved, row))]
            if len(set(values)) > 1:
                section = path.partition(".")[0]
                order = SECTIONS.index(section) if section in SECTIONS else len(SECTIONS)
                found[title] = ((order, -len(values)), partial(_value, resolved))
    ordered = sorted(found.items(), key=lambda each: each[1][0])
    return {title: cell for title, (_, cell) in ordered}


def _title(names: RowNames, path: str, rows: Sequence[Row] = ()) -> str:
    """The shortest name that means this setting, and with it at most those of other families."""
    short = short_name(path)
    if path in COLUMNS or path not in names.kinds or "[" in path:
        return path
    resolved = names.resolve(short, "") if names.has(short) else ()
    alone = all(sum(value_of_any(row, [each]) is not None for each in resolved) < 2 for row in rows)
    return short if path in resolved and alone else path


def _same(names: RowNames, title: str, sort: str) -> bool:
    wanted = names.resolve(sort_name(sort), "--sort")
    return set(wanted) <= set(names.resolve(title, ""))


def _before_status(columns: Mapping[str, Cell], title: str, cell: Cell) -> dict[str, Cell]:
    status = {STATUS: columns[STATUS]}
    return {**{name: each for name, each in columns.items() if name != STATUS}, title: cell, **status}


def _cell(name: str, resolved: tuple[str, ...], known: Mapping[str, Cell]) -> Cell:
    titles = {plain(title): cell for title, cell in known.items()}
    return titles.get(plain(name)) or partial(_value, resolved)


def _value(names: tuple[str, ...], row: Row) -> str:
    value = row[names[0]] if names[0] in COLUMNS else value_of_any(row, names)
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and names[0] in COLUMNS:
        return f"{value:.4f}"
    return value_text(value)


def _width(title: str, cell: Cell, rows: Iterable[Row]) -> int:
    return max(map(cell_len, [title, *(printable(cell(row)) for row in rows)])) + GAP
