"""Series that lie across the columns of a table, a step in each: `series: "x*"` names all columns that begin with x."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa

from automl.data.modalities import MODALITIES, Modality
from automl.data.tables import require_names
from automl.space import UserError


def is_wide(kind: Modality, column: str) -> bool:
    """Whether the name of an input's column is a pattern for several."""
    return kind is MODALITIES["series"] and "*" in column


def fitting(pattern: str, names: Sequence[str], others: Sequence[str] = ()) -> list[str]:
    """The columns that a pattern names, `others` aside, in their order."""
    return [name for name in names if fnmatchcase(name, pattern) and name not in others]


def input_columns(
    path: Path, kind: Modality, column: str, there: Sequence[str], others: Sequence[str] = ()
) -> list[str]:
    """The columns of a table that hold an input, which are not `others`; raises UserError where it has none."""
    if not there:
        raise UserError(f"{path} has no rows")
    if not is_wide(kind, column):
        require_names(path, [column], there)
        return [column]
    found = fitting(column, there, others)
    if not found:
        raise UserError(f"{path} has no column that fits {column!r} (it has {', '.join(map(repr, there[:20]))})")
    return found


def input_column(batch: pa.RecordBatch, kind: Modality, column: str, others: Sequence[str] = ()) -> pa.Array:
    """The inputs of a batch: a column as it is, or lists of the numbers in several."""
    if not is_wide(kind, column):
        return batch.column(column)
    columns = [batch.column(name).to_pylist() for name in fitting(column, batch.schema.names, others)]
    return pa.array([join_cells(row) for row in zip(*columns, strict=True)], pa.list_(pa.float64()))


def join_cells(cells: Sequence[Any]) -> list[float | None] | None:
    """The numbers of a row, a step from each cell; None where all are empty.

    What is empty after the last number is no step. Elsewhere it becomes None, as text does that is no number: no series
    has that.
    """
    numbers = [_number(cell) for cell in cells]
    while numbers and _empty(cells[len(numbers) - 1]):
        numbers.pop()
    return numbers or None


def _number(cell: Any) -> float | None:
    try:
        return None if _empty(cell) else float(cell)
    except (TypeError, ValueError):
        return None


def _empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())
