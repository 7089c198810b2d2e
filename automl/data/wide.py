"""Series that lie across the columns of a table: `series: "x*"` names all columns that begin with x, a step in each.

A list of such patterns, `["x*", "y*"]`, has one for each channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa

from automl.data.modalities import MODALITIES, Modality
from automl.data.tables import require_names
from automl.space import UserError

Column = str | list[str]
"""Where inputs are: the name of a column, a pattern for several, or a pattern for the columns of each channel."""


def is_wide(kind: Modality, column: Column) -> bool:
    """Whether inputs lie across several columns."""
    return kind is MODALITIES["series"] and (isinstance(column, list) or "*" in column)


def fitting(column: Column, names: Sequence[str], others: Sequence[str] = ()) -> list[list[str]]:
    """The columns of each channel, `others` aside, in their order."""
    return [
        [name for name in names if fnmatchcase(name, pattern) and name not in others] for pattern in _patterns(column)
    ]


def _patterns(column: Column) -> list[str]:
    return column if isinstance(column, list) else [column]


def input_columns(
    path: Path, kind: Modality, column: Column, there: Sequence[str], others: Sequence[str] = ()
) -> list[str]:
    """The columns of a table that hold an input, which are not `others`.

    Raises UserError where it has none, or where its channels have not as many each.
    """
    if not there:
        raise UserError(f"{path} has no rows")
    if not is_wide(kind, column):
        assert isinstance(column, str)
        require_names(path, [column], there)
        return [column]
    channels = fitting(column, there, others)
    patterns = _patterns(column)
    for pattern, found in zip(patterns, channels, strict=True):
        if not found:
            raise UserError(f"{path} has no column that fits {pattern!r} (it has {', '.join(map(repr, there[:20]))})")
    counts = [f"{len(found)} that fit {pattern!r}" for pattern, found in zip(patterns, channels, strict=True)]
    if len({len(found) for found in channels}) > 1:
        raise UserError(f"{path} has columns {', '.join(counts)}; expected a column of each channel for every step")
    names = [name for found in channels for name in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: the column {twice!r} fits several of {', '.join(map(repr, patterns))}; expected one")
    return names


def input_column(batch: pa.RecordBatch, kind: Modality, column: Column, others: Sequence[str] = ()) -> pa.Array:
    """The inputs of a batch: a column as it is, or lists of the numbers in several."""
    if not is_wide(kind, column):
        return batch.column(column)
    channels = fitting(column, batch.schema.names, others)
    columns = [batch.column(name).to_pylist() for found in channels for name in found]
    kind_of_step = pa.float64() if len(channels) == 1 else pa.list_(pa.float64())
    return pa.array([join_cells(row, len(channels)) for row in zip(*columns, strict=True)], pa.list_(kind_of_step))


def join_cells(cells: Sequence[Any], channels: int = 1) -> list[Any] | None:
    """The steps of a row from its cells, those of the first channel first; None where all are empty.

    A step is a number, or a list with one of each channel. What is empty after the last number is no step. Elsewhere it
    becomes None, as text does that is no number: no series has that.
    """
    width = len(cells) // channels
    steps = [[_number(cell) for cell in cells[step::width]] for step in range(width)]
    while steps and all(_empty(cell) for cell in cells[len(steps) - 1 :: width]):
        steps.pop()
    return ([step[0] for step in steps] if channels == 1 else steps) or None


def _number(cell: Any) -> float | None:
    try:
        return None if _empty(cell) else float(cell)
    except (TypeError, ValueError):
        return None


def _empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())
