"""Series of numbers: one or several channels, cut to one greatest length, padded with NaN, which no step is whole of.

Networks standardise them with train statistics; what is NaN is masked there, so padding never reaches an output. A
number that a series lacks is filled in as the setting `missing` says, or becomes the mean of train there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from automl.data.columns import as_text, is_text
from automl.data.counted import Counted, Running
from automl.data.dense import DenseRows
from automl.data.moments import Moments
from automl.space import UserError

NO_SERIES, NO_NUMBERS = "no series", "a series that is not made of finite numbers"
OTHER_CHANNELS = "a series with another number of channels than most of train have"
LONGEST_AUTO = 4096  # steps
MISSING = ("drop", "interpolate", "zero", "mask")
"""What is done about a number that a series lacks: the row is left out; a line between the numbers beside it, those at
the ends repeated; 0; or the mean of train, and a channel more for each one, which says where there is a number."""


@dataclass(frozen=True)
class SequenceEncoder:
    """Series in, rows of at most `max_length` steps with `channels` numbers each out (twice as many with `mask`)."""

    max_length: int
    channels: int
    missing: str = "drop"

    @property
    def shape(self) -> list[int]:
        """Of the longest row."""
        return [self.max_length, self.channels * (2 if self.missing == "mask" else 1)]

    def encode(self, series: Sequence[Any]) -> DenseRows:
        """Fill in, cut and pad; labels are all -1.

        A series is what `read_series` gives, or numbers, [steps] or [steps, channels]; NaN and None are numbers that it
        lacks. Raises UserError where one has another number of channels.
        """
        values = np.full((len(series), *self.shape), np.nan, dtype=np.float32)
        lengths = np.empty(len(series), dtype=np.int64)
        for row, each in enumerate(series):
            steps = unpack(each) if isinstance(each, bytes) else as_steps(each, self.missing != "drop")
            if steps is None or steps.shape[1] != self.channels:
                found = "something else" if steps is None else f"one of {steps.shape[1]}"
                raise UserError(f"expected series of {self.channels} channels, as the first of train is; found {found}")
            lengths[row] = min(len(steps), self.max_length)
            values[row, : lengths[row]] = filled_in(steps, self.missing)[: self.max_length]
        return DenseRows(values, lengths, np.full(len(series), -1))

    def save(self, folder: Path) -> None:
        """Write encoder.json into `folder`."""
        content: dict[str, Any] = {"max_length": self.max_length, "channels": self.channels}
        if self.missing != "drop":
            content["missing"] = self.missing
        (folder / "encoder.json").write_text(json.dumps({"series": content}, indent=2) + "\n", encoding="utf-8")


def filled_in(steps: npt.NDArray[np.float32], missing: str) -> npt.NDArray[np.float32]:
    """A series float32 [steps, channels] with what it lacks (NaN) done about as `missing` says; see `MISSING`.

    With `mask` there are twice as many channels, the second half 1 where there is a number and else 0. NaN stays in a
    channel without any number, and with `mask`; networks take it for the mean of train.
    """
    there = ~np.isnan(steps)
    if missing == "mask":
        return np.concatenate([steps, there.astype(np.float32)], axis=1)
    if missing == "drop" or there.all():
        return steps
    if missing == "zero":
        return np.where(there, steps, np.float32(0))
    filled, places = steps.copy(), np.arange(len(steps))
    for channel in np.flatnonzero(there.any(axis=0) & ~there.all(axis=0)):
        known = there[:, channel]
        filled[:, channel] = np.interp(places, places[known], steps[known, channel])
    if len(filled) and np.isnan(filled).all(axis=1).any():  # no channel has a number anywhere
        filled = np.where(np.isnan(filled), np.float32(0), filled)
    return filled


def read_series(column: pa.Array, place: str, gaps: bool = False) -> tuple[pa.Array, dict[str, npt.NDArray[np.bool_]]]:
    """Series packed as bytes (large_binary), and which rows have none or one with something else than finite numbers.

    `column` has lists of numbers, one for each step, or of lists of numbers, one for each channel; or such lists
    written as JSON. With `gaps` a number may be missing (null or NaN, which it becomes), if there is one at all.
    Raises UserError, which opens with `place`, for another type.
    """
    column = as_text(column)
    kind = column.type
    if not is_text(kind) and not (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        raise UserError(f"{place} holds {kind}, expected series: lists of numbers")
    found, missing, wrong = [], [], []
    for value in column.to_pylist():
        if isinstance(value, str):
            value = _parsed(value)
        steps = None if value is None or value == [] else as_steps(value, gaps)
        missing.append(value is None or value == [])
        wrong.append(steps is None and not missing[-1])
        found.append(None if steps is None else pack(steps))
    return pa.array(found, pa.large_binary()), {
        NO_SERIES: np.array(missing, dtype=bool),
        NO_NUMBERS: np.array(wrong, dtype=bool),
    }


def explain_series(value: Any) -> str:
    """Why a cell is no series of finite numbers; nothing where it is empty."""
    if isinstance(value, str):
        parsed = _parsed(value)
        if parsed is value:
            return "no list"
        value = parsed
    if value is None or value == []:
        return ""
    try:
        steps = np.asarray(value)
    except (ValueError, TypeError):
        return "its steps have different numbers of channels"
    if steps.ndim not in (1, 2):
        return "no list of numbers, nor of lists of numbers"
    for number, step in enumerate(value, start=1):
        if as_steps([step], False) is None:
            return f"step {number} is {str(step)[:20]}"
    return ""


def pack(steps: npt.NDArray[np.float32]) -> bytes:
    """A series float32 [steps, channels] as bytes: the number of channels as int32, then the numbers."""
    return np.int32(steps.shape[1]).tobytes() + steps.tobytes()


def unpack(content: bytes) -> npt.NDArray[np.float32]:
    """What `pack` was given."""
    channels = int(np.frombuffer(content, np.int32, 1)[0])
    return np.frombuffer(content, np.float32, offset=4).reshape(-1, channels)


def channels_of(inputs: pa.Array) -> npt.NDArray[np.int32]:
    """The number of channels of each packed series, int32 [rows]; 0 where there is none."""
    return np.array(
        [0 if each is None else int(np.frombuffer(each, np.int32, 1)[0]) for each in inputs.to_pylist()], dtype=np.int32
    )


def most_common(channels: Sequence[int]) -> int:
    """The number of channels that most series have, of several the one that comes first."""
    return Counter(channels).most_common(1)[0][0]


def choose_sequence_encoder(settings: Mapping[str, Any], series: Sequence[bytes]) -> SequenceEncoder:
    """The encoder that the settings ask for, the length `auto` and the channels decided by some of the train rows."""
    unpacked = [unpack(content) for content in series]
    length = settings["max_length"]
    if length == "auto":
        length = int(np.clip(np.ceil(np.percentile([len(steps) for steps in unpacked], 99)), 1, LONGEST_AUTO))
    channels = most_common([steps.shape[1] for steps in unpacked])
    return SequenceEncoder(length, channels, settings.get("missing", "drop"))


def write_series(
    encoder: SequenceEncoder,
    chunks: Iterator[Sequence[bytes]],
    rows: int,
    path: Path,
    counted: list[Counted] | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Write the series of a split, float32 [rows, max_length, channels], and their lengths in NumPy's format.

    Gives the mean and deviation of each channel, padding and what is missing aside; see `Moments`. What was cut or
    filled in goes into `counted`, where that is given.
    """
    values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, *encoder.shape))
    lengths = np.empty(rows, dtype=np.int64)
    moments, start = Moments(encoder.shape[1]), 0
    cut, filled = Running(), Running()
    whole = missing = 0
    for series in chunks:
        part = encoder.encode(series)
        values[start : start + len(series)] = part.values
        lengths[start : start + len(series)] = part.lengths
        start += len(series)
        moments.add(part.values.reshape(-1, encoder.shape[1]))
        steps = np.array([(len(content) - 4) // (4 * encoder.channels) for content in series])
        whole += int(steps.sum())
        cut.add(steps > encoder.max_length)
        if encoder.missing != "drop":
            gaps = np.array([int(np.isnan(unpack(content)[: encoder.max_length]).sum()) for content in series])
            missing += int(gaps.sum())
            filled.add(gaps > 0)
    values.flush()
    if counted is not None:
        split, kept, longest = path.stem, int(lengths.sum()), f"{encoder.max_length:,}"
        numbers = f"numbers of {split} series are missing and replaced"
        counted += [
            Counted(
                f"{split} series are cut to {longest} steps", "max_length", cut.count, cut.seen, cut.row, warn=True
            ),
            Counted(f"steps of {split} series are dropped by that cut", "max_length", whole - kept, whole, warn=True),
            Counted(numbers, "missing", missing, kept * encoder.channels, filled.row),
        ]
    np.save(path.with_suffix(".lengths.npy"), lengths)
    return moments.mean, moments.deviation


def _parsed(text: str) -> Any:
    """A series written as JSON; None for nothing, and the text itself, which is no series, where it is not JSON."""
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def as_steps(value: Any, gaps: bool) -> npt.NDArray[np.float32] | None:
    """A series as float32 [steps, channels], with `gaps` NaN where a number is missing; None where it is none."""
    try:
        steps = np.asarray(value)
        if gaps and steps.dtype == object:
            steps = _with_gaps(value)
    except (ValueError, TypeError, OverflowError):  # a whole number may be larger than any float
        return None
    if steps.ndim == 1:
        steps = steps[:, None]
    if steps.ndim != 2 or not steps.size or steps.dtype.kind not in "iufb":
        return None
    with np.errstate(over="ignore"):
        steps = steps.astype(np.float32)
    sound = np.isfinite(steps) | np.isnan(steps) if gaps else np.isfinite(steps)
    return steps if sound.all() and not np.isnan(steps).all() else None


def _with_gaps(value: Any) -> npt.NDArray[np.generic]:
    """Numbers, or lists of them, with NaN for None: of a step, or of each of its channels. Raises ValueError."""
    width = next((len(step) for step in value if isinstance(step, list | tuple | np.ndarray)), None)
    if width is not None:
        value = [number for step in value for number in ([None] * width if step is None else _list_of(step, width))]
    if not all(number is None or isinstance(number, int | float | np.number) for number in value):
        raise ValueError("something else than numbers")
    flat = np.array([np.nan if number is None else float(number) for number in value])
    return flat if width is None else flat.reshape(-1, width)


def _list_of(step: Any, width: int) -> list[Any]:
    if not isinstance(step, list | tuple | np.ndarray) or len(step) != width:
        raise ValueError("steps of several widths")
    return list(step)
