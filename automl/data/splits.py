"""Which rows of train are set aside for validation and test: a fraction of each class, of groups, or the latest."""

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

_TICKS = {"day": 1 / 86_400, "s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}  # in a second


def split_key(data: Mapping[str, Any]) -> str | None:
    """The column by which a `data` section splits, if it does by one."""
    found: str | None = data.get("group") or data.get("time")
    return found


def no_inputs(data: Mapping[str, Any]) -> list[str]:
    """The columns that are never inputs, whatever pattern these have: the label, and what rows are split by."""
    return [name for name in (data["label"], data.get("group"), data.get("time")) if name]


def read_keys(column: pa.Array, data: Mapping[str, Any], place: str) -> tuple[pa.Array, Mask]:
    """A column to split by as float64, one number for each group or growing with time, and where there is none.

    Times are dates and timestamps of any unit, numbers, or text that is an ISO 8601 time or a number; of times the key
    is in seconds since 1970. Raises UserError, which opens with `place`, for another type.
    """
    column = as_text(column)
    keys = _groups(column, place) if data.get("group") else _times(column, place)
    return pc.if_else(pc.is_finite(keys), keys, None), np.asarray(pc.is_null(keys, nan_is_null=True))


def validation_rows(
    data: Mapping[str, Any], labels: npt.NDArray[np.int32], keys: Keys | None, usable: Mask, seed: int
) -> Mask:
    """Bool [rows], true at about the fraction `data["validation"]` of the `usable` rows (see `_set_aside`)."""
    return _set_aside(data, labels, keys, usable, data["validation"], np.random.default_rng([seed, 1]), 1)


def set_aside(
    data: Mapping[str, Any], labels: npt.NDArray[np.int32], keys: Keys | None, usable: Mask, seed: int
) -> dict[str, Mask]:
    """Of validation and test, where they are fractions, bool [rows], true at their rows among the `usable` ones.

    No row is in both. Both are fractions of all usable rows. By time, test has the latest rows and validation those
    before. What is too little for three parts is left to train and validation.
    """
    chosen: dict[str, Mask] = {}
    rest = 1.0
    if isinstance(data["test"], float):
        generator, leave = np.random.default_rng([seed, 2]), 1 + isinstance(data["validation"], float)
        chosen["test"] = _set_aside(data, labels, keys, usable, data["test"], generator, leave)
        usable, rest = usable & ~chosen["test"], 1 - data["test"]
    if isinstance(data["validation"], float):
        validation = {**data, "validation": data["validation"] / rest}
        chosen["validation"] = validation_rows(validation, labels, keys, usable, seed)
    return chosen


def _set_aside(
    data: Mapping[str, Any],
    labels: npt.NDArray[np.int32],
    keys: Keys | None,
    usable: Mask,
    fraction: float,
    generator: np.random.Generator,
    leave: int,
) -> Mask:
    """Bool [rows], true at about the `fraction` of the `usable` rows; at least `leave` rows of a class are left.

    By group, all rows of a group are on one side; by time, the latest are chosen, and those of one time are together;
    then at least `leave` groups or times are left. Where a group or a time has too many rows for that, the fraction is
    missed by as little as can be.
    """
    chosen = np.zeros(len(labels), dtype=bool)
    rows = np.flatnonzero(usable)
    if data.get("group"):
        assert keys is not None
        chosen[rows] = _some_groups(keys[rows], fraction, generator, leave)
    elif data.get("time"):
        assert keys is not None
        chosen[rows] = _latest(keys[rows], fraction, leave)
    else:
        chosen[rows] = _stratified(labels[rows], fraction, generator, leave)
    return chosen


def _stratified(labels: npt.NDArray[np.int32], fraction: float, generator: np.random.Generator, leave: int) -> Mask:
    """True at a `fraction` of each class's rows: at least one of a class that has more than are to be left."""
    chosen = np.zeros(len(labels), dtype=bool)
    for number in np.unique(labels):
        rows = np.flatnonzero(labels == number)
        count = max(0, min(max(round(fraction * len(rows)), 1), len(rows) - leave))
        chosen[generator.choice(rows, size=count, replace=False)] = True
    return chosen


def _some_groups(keys: Keys, fraction: float, generator: np.random.Generator, leave: int) -> Mask:
    """True at the rows of groups drawn by chance, each unless it takes the rows farther from the `fraction` of all.

    At least at one group, the smallest, and not at the last `leave` groups; nowhere where there are no more of them.
    """
    groups, number, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    wanted, rows = fraction * len(keys), 0
    taken = np.zeros(len(groups), dtype=bool)
    for group in generator.permutation(len(groups)):
        if taken.sum() < len(groups) - leave and abs(rows + sizes[group] - wanted) < abs(rows - wanted):
            taken[group] = True
            rows += sizes[group]
    if not taken.any() and len(groups) > leave:
        taken[sizes.argmin()] = True
    return np.asarray(taken[number])


def _latest(keys: Keys, fraction: float, leave: int) -> Mask:
    """True from the time on after which nearest to the `fraction` of all rows lie; before it lie `leave` times or more.

    Nowhere where there are no more times.
    """
    times, rows = np.unique(keys, return_counts=True)
    if len(times) <= leave:
        return np.zeros(len(keys), dtype=bool)
    later = rows[::-1].cumsum()[::-1][leave:]  # rows from each time on, but from the first ones
    nearest = np.abs(later - fraction * len(keys)).argmin()
    return np.asarray(keys >= times[leave + nearest])


def _groups(column: pa.Array, place: str) -> pa.Array:
    """A number for each value of any type; equal values have equal numbers."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_temporal(column.type):
        column = _whole_numbers(column)  # Python has no times of nanoseconds, nor far ones
    try:
        encoded = column.dictionary_encode()
    except pa.ArrowNotImplementedError:
        raise UserError(f"{place} holds {column.type}, expected groups: text or numbers") from None
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
        ticks = _whole_numbers(column).cast(pa.float64(), safe=False)
        return pc.divide(ticks, float(_TICKS[_unit(kind)]))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.cast(pa.float64(), safe=False)
    if is_text(kind):
        return pa.array([None if text is None else _moment(text) for text in column.to_pylist()], pa.float64())
    raise UserError(f"{place} holds {kind}, expected times: dates, ISO 8601 text or numbers")


def _unit(kind: pa.DataType) -> str:
    return "day" if pa.types.is_date32(kind) else "ms" if pa.types.is_date64(kind) else str(kind.unit)


def _whole_numbers(column: pa.Array) -> pa.Array:
    """Dates and times as the whole numbers that they are kept as."""
    narrow = pa.types.is_date32(column.type) or pa.types.is_time32(column.type)
    return column.view(pa.int32() if narrow else pa.int64())


def _moment(text: str) -> float | None:
    """The number that a text is, or seconds of an ISO 8601 time, in UTC where it names no zone; None for others."""
    with suppress(ValueError):
        return float(text)
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None
