"""Series that lie across the columns of a table: `series: "x*"` names all columns that begin with x, a step in each.

A list of such patterns, `["x*", "y*"]`, has one for each channel. Which columns those are, and in which order, the
training data says; whatever is asked about later is read as that was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa

from automl.data.modalities import Modality
from automl.data.tables import require_names
from automl.space import UserError

Column = str | list[str]
"""Where inputs are: the name of a column, a pattern for several, or a pattern for the columns of each channel."""

Steps = Sequence[Sequence[str]]
"""The columns of each channel that the training data has, in their order; nothing where that is not known."""

NO_NUMBER = float("inf")
"""Stands for text that is no number: no series has that."""

NO_VALUE = ("nan", "na", "n/a", "null", "none")
"""What tables write where a number is missing, beside nothing."""


def is_wide(kind: Modality, column: Column) -> bool:
    """Whether inputs lie across several columns."""
    return kind.name == "series" and (isinstance(column, list) or "*" in column)


def fitting(column: Column, names: Sequence[str], others: Sequence[str] = ()) -> list[list[str]]:
    """The columns of each channel, `others` aside, in their order."""
    return [
        [name for name in names if fnmatchcase(name, pattern) and name not in others] for pattern in _patterns(column)
    ]


def steps_of(column: Column, tables: Iterable[Sequence[str]], others: Sequence[str]) -> list[list[str]]:
    """The columns of each channel of several tables together, in the order in which they come first."""
    found: list[dict[str, None]] = [{} for _ in _patterns(column)]
    for names in tables:
        for channel, there in zip(found, fitting(column, names, others), strict=True):
            channel.update(dict.fromkeys(there))
    return [list(channel) for channel in found]


def _patterns(column: Column) -> list[str]:
    return column if isinstance(column, list) else [column]


def input_columns(
    path: Path,
    kind: Modality,
    column: Column,
    there: Sequence[str],
    others: Sequence[str] = (),
    known: Steps = (),
) -> list[str]:
    """The columns of a table that hold an input, which are not `others`; of `known` steps those that it has.

    Raises UserError where it has none, where one is there twice, or where its channels have not as many each.
    """
    if not there:
        raise UserError(f"{path} has no rows")
    if not is_wide(kind, column):
        assert isinstance(column, str)
        require_names(path, [column], there)
        return [column]
    patterns = _patterns(column)
    channels = [[name for name in channel if name in there] for channel in known] or fitting(column, there, others)
    for pattern, found in zip(patterns, channels, strict=True):
        if not found:
            raise UserError(f"{path} has no column that fits {pattern!r} (it has {', '.join(map(repr, there[:20]))})")
    counts = [f"{len(found)} that fit {pattern!r}" for pattern, found in zip(patterns, channels, strict=True)]
    if len({len(found) for found in known or channels}) > 1:
        raise UserError(f"{path} has columns {', '.join(counts)}; expected a column of each channel for every step")
    names = [name for found in channels for name in found]
    several = {name for name in names if sum(fnmatchcase(name, pattern) for pattern in patterns) > 1}
    twice = next((name for name in names if name in several), None)
    if twice is not None:
        raise UserError(f"{path}: the column {twice!r} fits several of {', '.join(map(repr, patterns))}; expected one")
    if len(set(there)) < len(there):
        require_names(path, names, there)
    return names


def input_column(
    batch: pa.RecordBatch, kind: Modality, column: Column, others: Sequence[str] = (), known: Steps = ()
) -> pa.Array:
    """The inputs of a batch: a column as it is, or lists of the numbers in several.

    Of `known` steps the batch may lack some, which are then empty.
    """
    if not is_wide(kind, column):
        return batch.column(column)
    channels = known or fitting(column, batch.schema.names, others)
    there = set(batch.schema.names)
    empty = [None] * batch.num_rows
    columns = [batch.column(name).to_pylist() if name in there else empty for channel in channels for name in channel]
    kind_of_step = pa.float64() if len(channels) == 1 else pa.list_(pa.float64())
    garbage = None if kind.missing == "drop" else NO_NUMBER
    return pa.array(
        [join_cells(row, len(channels), garbage) for row in zip(*columns, strict=True)], pa.list_(kind_of_step)
    )


def join_cells(cells: Sequence[Any], channels: int = 1, garbage: float | None = None) -> list[Any] | None:
    """The steps of a row from its cells, those of the first channel first; None where all are empty.

    A step is a number, or a list with one of each channel. What is empty after the last number is no step. Elsewhere it
    becomes None; text that is no number becomes `garbage`.
    """
    width = len(cells) // channels
    steps = [[_number(cell, garbage) for cell in cells[step::width]] for step in range(width)]
    while steps and all(_empty(cell) for cell in cells[len(steps) - 1 :: width]):
        steps.pop()
    return ([step[0] for step in steps] if channels == 1 else steps) or None


def _number(cell: Any, garbage: float | None) -> float | None:
    if _empty(cell) or (isinstance(cell, str) and cell.strip().casefold() in NO_VALUE):
        return None
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return garbage


def _empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())
