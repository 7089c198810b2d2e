"""What people give to a model in Python, as a list of inputs: lists, arrays, columns and tables of several libraries.

No library is imported for it: a pandas, polars or Arrow object is known by what it can do.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from automl.data.modalities import MODALITIES
from automl.data.sequences import explain_series
from automl.data.wide import join_cells
from automl.results.inputs import Inputs
from automl.space import UserError

ONE = {"text": "text", "image": "image", "series": "series"}
TABLE = Path("the table")  # in sentences, where others name a file
SHOWN = 40  # characters
AS_PNG, AS_TIFF = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), ("I", "F", "CMYK", "YCbCr", "LAB", "I;16B")
MOST_SAID = 200  # characters of what a decoder says


def listed(given: Any, inputs: Inputs, channels: int = 1) -> list[Any]:
    """The inputs that `given` holds, as encoders take them, in order.

    `given` is a list, tuple, generator, NumPy array or tensor, a column (pandas, polars, Arrow), or a table of which
    the columns of `inputs` are taken, or its only one. Texts are str. Images are files' bytes, paths, PIL images,
    pixels [height, width] or [height, width, channels], or mappings with `bytes` or `path`. Series are numbers [steps]
    or [steps, channels]; a 2-D array is so many series of one channel where the model's have one. Raises UserError for
    a lone input, for what is none, and for one that is missing, in a sentence that says which.
    """
    kind = inputs.modality.name
    if _is_table(given):
        return _checked(_of_table(given, inputs), kind)
    if isinstance(given, str | bytes | bytearray | memoryview | Path | Image.Image):
        raise _lone(given, kind)
    if isinstance(given, Set):
        raise UserError(f"a set of {inputs.modality.plural} has no order; give a list")
    if not isinstance(given, list | tuple):
        given = _column(given, kind, channels)
    return _checked(list(given), kind)


def fault_of(given: Any, error: Exception, inputs: Inputs, channels: int) -> str:
    """In a few words why an encoder raised `error` for an input that `listed` gave."""
    if inputs.modality.name == "series":
        return _series_fault(given, inputs, channels)
    if isinstance(error, OSError) and isinstance(given, str):
        return f"{given}: {error.strerror or 'it is no image that can be read'}"
    said = str(error).partition(" <_io.")[0]
    return " ".join(said.split())[:MOST_SAID] or type(error).__name__


def _is_table(given: Any) -> bool:
    return isinstance(given, Mapping) or (
        not isinstance(given, np.ndarray) and (hasattr(given, "columns") or hasattr(given, "column_names"))
    )


def _of_table(table: Any, inputs: Inputs) -> list[Any]:
    """The inputs in a table's columns; raises UserError where it has none of them."""
    found = table if isinstance(table, Mapping) else getattr(table, "column_names", None)
    names = [str(name) for name in (found if found is not None else table.columns)]
    keys = dict(zip(names, found if found is not None else table.columns, strict=True))
    if len(names) == 1 and not inputs.wide and inputs.column not in names:
        chosen = names
    else:
        chosen = inputs.columns(TABLE, names)
    columns = {name: _values(table[keys[name]], name, inputs.modality.name) for name in chosen}
    if not inputs.wide:
        return columns[chosen[0]]
    channels = inputs.channels(names)
    rows = len(next(iter(columns.values())))
    if other := next((name for name, column in columns.items() if len(column) != rows), None):
        raise UserError(f"the columns {chosen[0]!r} and {other!r} are not of the same length")
    cells = [columns.get(name, [None] * rows) for channel in channels for name in channel]
    return [join_cells(row, len(channels), inputs.garbage) for row in zip(*cells, strict=True)]


def _values(column: Any, name: str, kind: str) -> list[Any]:
    """The Python values of a column of a table; raises UserError where it holds one value, not a list."""
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, method):
            column = getattr(column, method)()
            break
    if isinstance(column, str | bytes | bytearray | memoryview | Mapping | Set) or not isinstance(column, Iterable):
        raise UserError(f"expected a list of {MODALITIES[kind].plural} in the column {name!r}, found {_said(column)}")
    return list(column)


def _column(given: Any, kind: str, channels: int) -> Any:
    """The inputs of what is no list: a column, an array or a tensor, or a generator."""
    if hasattr(given, "to_pylist"):
        return given.to_pylist()
    if hasattr(given, "to_list") and not isinstance(given, np.ndarray):
        return given.to_list()
    if hasattr(given, "__array__"):
        return _of_array(_as_array(given), kind, channels)
    if isinstance(given, Iterable):
        return given
    raise _lone(given, kind)


def _as_array(given: Any) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor on a GPU
        raise UserError(f"cannot read a {type(given).__name__} as an array: {str(error)[:200]}") from error


def _of_array(array: np.ndarray[Any, Any], kind: str, channels: int) -> Any:
    if array.ndim == 0:
        raise _lone(array.item(), kind)
    if array.dtype.kind in "OUST":
        if array.ndim > 1 and array.size != len(array):
            raise UserError(f"expected one column of {MODALITIES[kind].plural}, found an array {[*array.shape]}")
        return array.reshape(-1).tolist()
    lone = {
        "text": False,
        "image": array.ndim < 3 or (array.ndim == 3 and array.shape[2] in (1, 3, 4)),
        "series": array.ndim == 1 or (array.ndim == 2 and (channels > 1 or array.shape[1] == 1)),
    }[kind]
    if lone:
        raise _lone(array, kind)
    return list(array)


def _lone(given: Any, kind: str) -> UserError:
    known = {"text": str, "image": bytes | str | Path | Image.Image | np.ndarray, "series": np.ndarray}[kind]
    if isinstance(given, known):
        return UserError(
            f"expected a list of {MODALITIES[kind].plural}, found one {ONE[kind]}; put it into a list: "
            f"predict([{ONE[kind]}])"
        )
    return UserError(f"expected a list of {MODALITIES[kind].plural}, found {_said(given)}")


def _said(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, bytes | bytearray | memoryview):
        return "bytes"
    return f"{kind} {str(value)[:SHOWN]!r}" if isinstance(value, str | int | float) else kind


def _checked(items: list[Any], kind: str) -> list[Any]:
    """Each input in the form that encoders take; raises UserError with the number of the first that is none."""
    take = {"text": _text, "image": _image, "series": _series}[kind]
    if kind == "series" and items and all(isinstance(each, int | float | np.number) for each in items):
        raise _lone(np.asarray(items), kind)
    if kind == "image" and items and all(_numbers(each) for each in items):
        raise _lone(np.asarray(items[:1]), kind)
    found = []
    for number, each in enumerate(items):
        if _missing(each):
            raise UserError(f"input {number} is missing ({each}); leave it out or fill it in")
        taken = take(each)
        if taken is None:
            raise UserError(f"input {number} is {_said(each)}, expected {_WANTED[kind]}")
        found.append(taken)
    return found


_WANTED = {
    "text": "text (str)",
    "image": "an image: the bytes or the path of a file, a PIL image, or pixels",
    "series": "a series: numbers [steps] or [steps, channels]",
}


def _missing(value: Any) -> bool:
    """None, NaN, pandas' NA and NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and math.isnan(value)


def _numbers(value: Any) -> bool:
    """Whether it is a row of pixels, not an image."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(each, int | float) for each in value)


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str) else None


def _image(value: Any) -> Any:
    if isinstance(value, Mapping):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Image.Image):
        return _file_of(value)
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, list | tuple):
        return value
    return _as_array(value) if hasattr(value, "__array__") else None


def _file_of(image: Image.Image) -> bytes:
    """A PIL image as the bytes of a file without loss, upright as its note about the orientation says."""
    sink = io.BytesIO()
    upright = ImageOps.exif_transpose(image)
    if upright.mode not in AS_PNG + AS_TIFF:
        upright = upright.convert("RGBA" if upright.mode in ("La", "RGBa", "PA") else "RGB")
    upright.save(sink, "PNG" if upright.mode in AS_PNG else "TIFF")
    return sink.getvalue()


def _series(value: Any) -> Any:
    if isinstance(value, str | bytes | bytearray | Mapping):
        return None
    if isinstance(value, list | tuple):
        return list(value)
    for name in ("to_pylist", "to_list"):
        if hasattr(value, name):
            return getattr(value, name)()
    return _as_array(value) if hasattr(value, "__array__") else None


def _series_fault(series: Any, inputs: Inputs, channels: int) -> str:
    """Why a model whose series have so many channels cannot take this one."""
    values = series.tolist() if isinstance(series, np.ndarray) else series
    shape = np.shape(series) if isinstance(series, np.ndarray) else ()
    if len(shape) == 2 and shape[1] != channels:
        return f"it has {shape[1]} channels, expected {channels}"
    if inputs.modality.missing == "drop" and (reason := explain_series(values)):
        return reason
    width = next((len(step) for step in values if isinstance(step, list | tuple)), 1) if values else 0
    return f"it has {width} channels, expected {channels}" if width != channels else explain_series(values)
