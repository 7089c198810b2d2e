"""A comparison of runs for people and for programs: a table with sentences, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from automl.results.chance import LEVEL, Difference
from automl.results.comparison import Comparison, Side
from automl.results.predictions import SPLITS
from automl.space.durations import duration_text
from automl.space.markdown import markdown_text
from automl.space.printable import Text, cell, printable, printable_json
from automl.space.spreadsheet import spreadsheet_cell

ALIKE = "Both files ask for the same."
ALL_ALIKE = "All files ask for the same."
OTHER_DATA = "The runs do not have the same data, or did not prepare it alike."


def render_comparison(comparison: Comparison) -> Group:
    """The comparison for a terminal of 80 columns or more: two runs in columns of their own, more of them in rows."""
    lines, sides = _figures(comparison), comparison.sides
    parts: list[RenderableType] = []
    if len(sides) == 2:
        parts.append(_table(["", *(side.run for side in sides)], [(name, *values) for name, values in lines.items()]))
    else:
        rows = [(side.run, *(values[place] for values in lines.values())) for place, side in enumerate(sides)]
        parts.append(_table(["", *lines], rows))
    parts += [Text(each) for each in sentences(comparison)]
    if comparison.settings:
        parts += [Text("\nasked differently", style="bold"), _settings(comparison)]
    else:
        parts.append(Text(ALIKE if len(sides) == 2 else ALL_ALIKE))
    return Group(*parts)


def format_comparison(comparison: Comparison, kind: str) -> str:
    """The same as `json`, `csv` or `md` text; CSV has a row for each run, with the settings that differ."""
    if kind == "json":
        return printable_json(asdict(comparison)) + "\n"
    if kind == "md":
        return _markdown(comparison)
    rows = [_flat(comparison, place) for place in range(len(comparison.sides))]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_plain(name) for name in rows[0])
    writer.writerows([_plain(value) for value in row.values()] for row in rows)
    return buffer.getvalue()


def sentences(comparison: Comparison) -> list[str]:
    """What the figures say: whether the data is the same, and which differences may be chance."""
    said = [] if comparison.same_data else [OTHER_DATA]
    for split in SPLITS:
        measured = [side for side in comparison.sides if getattr(side, split) is not None]
        if len(comparison.sides) == 2 and len(measured) == 2:
            said.append(_of_two(comparison, split))
        elif len(measured) > 1:
            said += _of_several(comparison, split, measured)
    return said


def _of_two(comparison: Comparison, split: str) -> str:
    """`On the same test rows b is ahead by 0.0057 (95 % interval -0.0012 to 0.0126): that may be chance (p = 0.09).`"""
    found = comparison.differences.get(split)
    if found is None:
        why = (
            "they are not the same rows"
            if comparison.same_rows[split] is False
            else "a run did not keep what its model says of them"
        )
        return f"The {split} figures cannot be compared by row: {why}."
    if found.value == 0:
        return f"On the same {split} rows both are equal (95 % interval {found.low:.4f} to {found.high:.4f})."
    first, second = comparison.sides
    ahead = (found.value > 0) == comparison.maximize
    return f"On the same {split} rows {first.run if ahead else second.run} is ahead by {_amount(found)}."


def _of_several(comparison: Comparison, split: str, measured: Sequence[Side]) -> list[str]:
    best, ahead = comparison.best[split], comparison.ahead[split]
    said = [
        f"On the same {split} rows {best} "
        + (f"and {run} are equal." if found.value == 0 else f"is ahead of {run} by {_amount(found)}.")
        for run, found in ahead.items()
    ]
    left = [side.run for side in measured if side.run != best and side.run not in ahead]
    if left:
        why = "they are not the same rows, or what a model says of them was not kept"
        said.append(f"The {split} figures of {best} cannot be compared by row with those of {', '.join(left)}: {why}.")
    return said


def _amount(found: Difference) -> str:
    sign = 1 if found.value > 0 else -1
    low, high = sorted((sign * found.low, sign * found.high))
    chance = "that may be chance" if found.p >= LEVEL else "that is more than chance"
    return f"{abs(found.value):.4f} (95 % interval {low:.4f} to {high:.4f}): {chance} (p = {found.p:.2g})"


def _figures(comparison: Comparison) -> dict[str, list[str]]:
    sides = comparison.sides
    return {
        "best model": [side.best for side in sides],
        f"validation {comparison.metric}": [_figure(side.validation) for side in sides],
        f"test {comparison.metric}": [_figure(side.test) for side in sides],
        "trials": [str(side.trials) for side in sides],
        "time": [duration_text(side.seconds) for side in sides],
    }


def _settings(comparison: Comparison) -> Table:
    """Of two runs a line for each setting; of more a line for each of its values, with the runs that ask for it."""
    if len(comparison.sides) == 2:
        lines = [(path, *(value or "-" for value in values)) for path, values in comparison.settings.items()]
        return _table(None, lines)
    rows = []
    for path, values in comparison.settings.items():
        runs: dict[str, list[str]] = {}
        for side, value in zip(comparison.sides, values, strict=True):
            runs.setdefault(value or "-", []).append(side.run)
        rows += [("" if place else path, value, ", ".join(names)) for place, (value, names) in enumerate(runs.items())]
    return _table(None, rows)


def _table(titles: Sequence[str] | None, rows: Iterable[Sequence[str]]) -> Table:
    lines = list(rows)
    table = Table(box=None, show_header=titles is not None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in titles or [""] * len(lines[0]):
        table.add_column(cell(title), overflow="fold")
    for line in lines:
        table.add_row(*map(cell, line))
    return table


def _markdown(comparison: Comparison) -> str:
    runs = [side.run for side in comparison.sides]
    lines = _pipes(["", *runs], [(name, *values) for name, values in _figures(comparison).items()])
    lines += ["", *(markdown_text(each) for each in sentences(comparison))]
    if comparison.settings:
        rows = [(path, *(value or "-" for value in values)) for path, values in comparison.settings.items()]
        lines += ["", *_pipes(["asked differently", *runs], rows)]
    return "\n".join(lines) + "\n"


def _pipes(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    every = [[markdown_text(each) for each in line] for line in (titles, *rows)]
    every.insert(1, ["---"] * len(titles))
    return [f"| {' | '.join(line)} |" for line in every]


def _flat(comparison: Comparison, place: int) -> dict[str, Any]:
    side = comparison.sides[place]
    row: dict[str, Any] = {"run": side.run, "best": side.best, "metric": comparison.metric}
    for split in SPLITS:
        found: Mapping[str, Any] = {}
        if side.run in comparison.ahead.get(split, {}):
            found = asdict(comparison.ahead[split][side.run])
        row[split] = getattr(side, split)
        row |= {f"{split}_best_ahead{'' if name == 'value' else f'_{name}'}": found.get(name) for name in _OF}
    row |= {"trials": side.trials, "seconds": side.seconds}
    return row | {path: values[place] for path, values in comparison.settings.items()}


_OF = ("value", "low", "high", "p")


def _plain(value: Any) -> Any:
    return spreadsheet_cell(printable(value)) if isinstance(value, str) else value


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
