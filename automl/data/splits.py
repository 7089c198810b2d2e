"""Which rows of train are set aside for validation: a fraction of each class, of groups, or the latest."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from automl.data.columns import as_text, is_text
from automl.space import UserError

Keys = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def split_key(data: Mapping[str, Any]) -> str | None:
    """The column by which a `data` section splits, if it does by one."""
    found: str | None = data.get("group") or data.get("time")
    return found


def read_keys(column: pa.Array, data: Mapping[str, Any], place: str) -> tuple[pa.Array, Mask]:
    """A column to split by as float64, one number for each group or growing with time, and where there is none.

    Times are dates, timestamps, numbers, or text that is an ISO 8601 time or a number. Raises UserError, which opens
    with `place`, for another type.
    """
    column = as_text(column)
    keys = _groups(column) if data.get("group") else _times(column, place)
    return pc.if_else(pc.is_finite(keys), keys, None), np.asarray(pc.is_null(keys, nan_is_null=True))


def validation_rows(
    data: Mapping[str, Any], labels: npt.NDArray[np.int32], keys: Keys | None, usable: Mask, seed: int
) -> Mask:
    """Bool [rows], true at about the fraction `data["validation"]` of the `usable` rows.

    By group, all rows of a group are on one side; by time, the latest are chosen, and those of one time are together.
    """
    fraction = data["validation"]
    chosen = np.zeros(len(labels), dtype=bool)
    rows = np.flatnonzero(usable)
    if data.get("group"):
        assert keys is not None
        chosen[rows] = _some_groups(keys[rows], fraction, seed)
    elif data.get("time"):
        assert keys is not None
        chosen[rows] = _latest(keys[rows], fraction)
    else:
        chosen[rows] = _stratified(labels[rows], fraction, seed)
    return chosen


def _stratified(labels: npt.NDArray[np.int32], fraction: float, seed: int) -> Mask:
    """True at a `fraction` of each class's rows: at least one and not all of a class that has two."""
    generator = np.random.default_rng([seed, 1])
    chosen = np.zeros(len(labels), dtype=bool)
    for number in np.unique(labels):
        rows = np.flatnonzero(labels == number)
        count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        chosen[generator.choice(rows, size=count, replace=False)] = True
    return chosen


def _some_groups(keys: Keys, fraction: float, seed: int) -> Mask:
    """True at the rows of groups drawn by chance until they have the `fraction` of all rows, but not at all groups."""
    groups, number, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.random.default_rng([seed, 1]).permutation(len(groups))
    before = np.cumsum(sizes[order]) - sizes[order]
    drawn = order[(before < fraction * len(keys))][: len(groups) - 1]
    taken = np.zeros(len(groups), dtype=bool)
    taken[drawn] = True
    return np.asarray(taken[number])


def _latest(keys: Keys, fraction: float) -> Mask:
    """True from the time on after which about the `fraction` of all rows lies; nowhere where all have one time."""
    if not len(keys):
        return np.zeros(0, dtype=bool)
    start = np.sort(keys)[min(len(keys) - 1, round((1 - fraction) * len(keys)))]
    later = keys > start if start == keys.min() else keys >= start
    return np.asarray(later)


def _groups(column: pa.Array) -> pa.Array:
    """A number for each value of any type; equal values have equal numbers."""
    encoded = column.dictionary_encode() if not pa.types.is_dictionary(column.type) else column
    numbers = [
        None if value is None or value == "" else _number(str(value)) for value in encoded.dictionary.to_pylist()
    ]
    return pa.array(numbers, pa.float64()).take(encoded.indices)


def _number(text: str) -> float:
    """53 bits of a digest, which a float64 holds exactly."""
    return float(int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 11)


def _times(column: pa.Array, place: str) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_temporal(kind) and not pa.types.is_time(kind) and not pa.types.is_duration(kind):
        moments = column.cast(pa.timestamp("us", getattr(kind, "tz", None)))
        return moments.cast(pa.int64()).cast(pa.float64())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.cast(pa.float64(), safe=False)
    if is_text(kind):
        return pa.array([None if text is None else _moment(text) for text in column.to_pylist()], pa.float64())
    raise UserError(f"{place} holds {kind}, expected times: dates, ISO 8601 text or numbers")


def _moment(text: str) -> float | None:
    """The number that a text is, or seconds of an ISO 8601 time, in UTC where it names no zone; None for others."""
    with suppress(ValueError):
        return float(text)
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None
