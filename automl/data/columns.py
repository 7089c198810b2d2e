"""A column of texts or of labels, whatever its type in the file, as text."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from automl.space import UserError

LARGEST_WHOLE = 2.0**53  # floats beyond it do not tell whole numbers apart


def mixed_column(values: Sequence[Any]) -> pa.Array:
    """Values of several types as JSON has them: a union of texts and of the JSON of what is none.

    A number is written in one way, 1.0 as 1; NaN is nothing.
    """
    texts = [value if isinstance(value, str) else None for value in values]
    others = [None if isinstance(value, str) else _json(value) for value in values]
    kinds = pa.array([int(other is not None) for other in others], pa.int8())
    return pa.UnionArray.from_sparse(kinds, [pa.array(texts, pa.string()), pa.array(others, pa.string())])


def _json(value: Any) -> str | None:
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if value.is_integer() and abs(value) <= LARGEST_WHOLE:
            return str(int(value))
    return None if value is None else json.dumps(value, ensure_ascii=False)


def as_text(column: pa.Array) -> pa.Array:
    """A mixed column as text: what is none in JSON; another column as it is."""
    return pc.coalesce(column.field(0), column.field(1)) if pa.types.is_union(column.type) else column


def no_text(column: pa.Array) -> npt.NDArray[np.bool_]:
    """Bool [rows], true where a mixed column has something else than text."""
    if not pa.types.is_union(column.type):
        return np.zeros(len(column), dtype=bool)
    return np.asarray(pc.is_valid(column.field(1)))


def no_label(column: pa.Array) -> npt.NDArray[np.bool_]:
    """Bool [rows], true where a mixed column has a list, an object, a fraction or an infinite number."""
    if not pa.types.is_union(column.type):
        return np.zeros(len(column), dtype=bool)
    return np.asarray(pc.fill_null(pc.match_substring_regex(column.field(1), r"^[\[{]|^-?\d+[.e]|Infinity$"), False))


def text_column(column: pa.Array, place: str) -> pa.Array:
    """A column of texts as large_string, nulls kept; raises UserError, which opens with `place`, for another type.

    What is no text in a mixed column is null.
    """
    column = _plain(column.field(0) if pa.types.is_union(column.type) else column)
    if not is_text(column.type):
        raise UserError(f"{place} holds {column.type}, expected text")
    return column.cast(pa.large_string())


def label_column(column: pa.Array, place: str) -> pa.Array:
    """A column of labels as the large_string names of their classes, nulls and NaN as null.

    Text stays as it is; whole numbers (floats too) and booleans are written out: `3`, `true`; what is no label in a
    mixed column is null. Raises UserError, which opens with `place`, for fractions and other types.
    """
    if pa.types.is_union(column.type):
        column = pc.if_else(pa.array(no_label(column)), None, as_text(column))
    column = _plain(column)
    if pa.types.is_floating(column.type):
        numbers = column.to_numpy(zero_copy_only=False).astype(np.float64)
        missing = np.isnan(numbers)
        numbers = np.where(missing, 0, numbers)
        if not np.array_equal(numbers, np.round(numbers)) or np.any(np.abs(numbers) > LARGEST_WHOLE):
            raise UserError(f"{place} holds fractions, expected labels (classes)")
        column = pa.array(numbers.astype(np.int64), mask=missing)
    if is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        return column.cast(pa.large_string())
    raise UserError(f"{place} holds {column.type}, expected labels: text or whole numbers")


def shown(batch: pa.RecordBatch, row: int) -> str:
    """A row for people; Python has no nanoseconds, nor times as far as Arrow's."""
    try:
        return str(batch.slice(row, 1).to_pylist()[0])
    except (ValueError, OverflowError):
        cells = batch.slice(row, 1)
        return str({name: str(cell.cast(pa.string())[0]) for name, cell in zip(cells.schema.names, cells, strict=True)})


def blank(column: pa.Array) -> npt.NDArray[np.bool_]:
    """Bool [rows], true where a column of text has null, nothing or white space only."""
    missing = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True)
    return np.asarray(missing.to_numpy(zero_copy_only=False), dtype=bool)


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text, or nothing at all."""
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(test(kind) for test in tests)
