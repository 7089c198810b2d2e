"""Series of numbers: one or several channels, cut to one greatest length, padded with NaN, which no series has.

Networks standardise them with train statistics; what is NaN is masked there, so padding never reaches an output.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from automl.data.columns import as_text, is_text
from automl.data.dense import DenseRows
from automl.space import UserError

NO_SERIES, NO_NUMBERS = "no series", "a series that is not made of finite numbers"
LONGEST_AUTO = 4096  # steps
SLACK = 1e-6  # least deviation of a channel


@dataclass(frozen=True)
class SequenceEncoder:
    """Series in, rows of at most `max_length` steps with `channels` numbers each out."""

    max_length: int
    channels: int

    @property
    def shape(self) -> list[int]:
        """Of the longest row."""
        return [self.max_length, self.channels]

    def encode(self, series: Sequence[Any]) -> DenseRows:
        """Cut and pad; labels are all -1.

        A series is what `read_series` gives, or numbers, [steps] or [steps, channels]. Raises UserError where one has
        another number of channels.
        """
        values = np.full((len(series), *self.shape), np.nan, dtype=np.float32)
        lengths = np.empty(len(series), dtype=np.int64)
        for row, each in enumerate(series):
            steps = unpack(each) if isinstance(each, bytes) else _steps(each)
            if steps is None or steps.shape[1] != self.channels:
                found = "something else" if steps is None else f"one of {steps.shape[1]}"
                raise UserError(f"expected series of {self.channels} channels, as the first of train is; found {found}")
            lengths[row] = min(len(steps), self.max_length)
            values[row, : lengths[row]] = steps[: self.max_length]
        return DenseRows(values, lengths, np.full(len(series), -1))

    def save(self, folder: Path) -> None:
        """Write encoder.json into `folder`."""
        content = {"series": {"max_length": self.max_length, "channels": self.channels}}
        (folder / "encoder.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_series(column: pa.Array, place: str) -> tuple[pa.Array, dict[str, npt.NDArray[np.bool_]]]:
    """Series packed as bytes (large_binary), and which rows have none or one with something else than finite numbers.

    `column` has lists of numbers, one for each step, or of lists of numbers, one for each channel; or such lists
    written as JSON. Raises UserError, which opens with `place`, for another type.
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
        steps = None if value is None or value == [] else _steps(value)
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
        if _steps([step]) is None:
            return f"step {number} is {str(step)[:20]}"
    return ""


def pack(steps: npt.NDArray[np.float32]) -> bytes:
    """A series float32 [steps, channels] as bytes: the number of channels as int32, then the numbers."""
    return np.int32(steps.shape[1]).tobytes() + steps.tobytes()


def unpack(content: bytes) -> npt.NDArray[np.float32]:
    """What `pack` was given."""
    channels = int(np.frombuffer(content, np.int32, 1)[0])
    return np.frombuffer(content, np.float32, offset=4).reshape(-1, channels)


def choose_sequence_encoder(settings: Mapping[str, Any], series: Sequence[bytes]) -> SequenceEncoder:
    """The encoder that the setting `max_length` asks for, auto decided by some of the train rows."""
    unpacked = [unpack(content) for content in series]
    length = settings["max_length"]
    if length == "auto":
        length = int(np.clip(np.ceil(np.percentile([len(steps) for steps in unpacked], 99)), 1, LONGEST_AUTO))
    return SequenceEncoder(length, unpacked[0].shape[1])


def write_series(
    encoder: SequenceEncoder, chunks: Iterator[Sequence[bytes]], rows: int, path: Path
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Write the series of a split, float32 [rows, max_length, channels], and their lengths in NumPy's format.

    Gives the mean and deviation of each channel, padding aside.
    """
    values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, *encoder.shape))
    lengths = np.empty(rows, dtype=np.int64)
    total, squares, start = np.zeros(encoder.channels), np.zeros(encoder.channels), 0
    for series in chunks:
        part = encoder.encode(series)
        values[start : start + len(series)] = part.values
        lengths[start : start + len(series)] = part.lengths
        start += len(series)
        numbers = part.values.astype(np.float64)
        total += np.nansum(numbers, axis=(0, 1))
        squares += np.nansum(numbers**2, axis=(0, 1))
    values.flush()
    np.save(path.with_suffix(".lengths.npy"), lengths)
    steps = max(1, int(lengths.sum()))
    mean = total / steps
    return mean, np.sqrt(np.maximum(squares / steps - mean**2, SLACK**2))


def _parsed(text: str) -> Any:
    """A series written as JSON; None for nothing, and the text itself, which is no series, where it is not JSON."""
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _steps(value: Any) -> npt.NDArray[np.float32] | None:
    """float32 [steps, channels]; None where that is not what it is."""
    try:
        steps = np.asarray(value)
    except (ValueError, TypeError):
        return None
    if steps.ndim == 1:
        steps = steps[:, None]
    if steps.ndim != 2 or not steps.size or steps.dtype.kind not in "iufb":
        return None
    with np.errstate(over="ignore"):
        steps = steps.astype(np.float32)
    return steps if np.isfinite(steps).all() else None
