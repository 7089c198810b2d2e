"""What rows hold, texts, images or series, and what differs between them before they are encoded.

A `data` section says which by the name of the setting that names the column: `text`, `image` or `series`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from automl.data.clean import normalise_space
from automl.data.columns import blank, no_text, text_column
from automl.data.images import FAULTS, explain_image, read_images
from automl.data.sequences import NO_NUMBERS, NO_SERIES, explain_series, read_series

NO_TEXT, NOT_TEXT, LONG_TEXT = "no text", "something else than text", "a text of more than 8 MiB"
MOST_TEXT_BYTES = 8 * 1024 * 1024  # in UTF-8; whatever is done to a text takes time and memory as its length

Read = Callable[[pa.Array, str], tuple[pa.Array, dict[str, npt.NDArray[np.bool_]]]]


@dataclass(frozen=True)
class Modality:
    """One kind of input."""

    name: str
    """The setting that names the column, and the input's column in prepared sources."""
    plural: str
    type: pa.DataType
    """Of that column."""
    settings: tuple[str, ...]
    """Settings of the `data` section that shape what networks see."""
    read: Read
    """A column of a table, and words for where it is, to inputs of `type` and, by reason, which cannot be used."""
    faults: tuple[str, ...]
    """The reasons for which inputs cannot be used."""
    sameness: Callable[[Any], bytes]
    """What two inputs have in common that count as the same."""
    explain: Callable[[Any], str]
    """What there is to say, in a few words, of a cell whose input cannot be used, beside the reason."""
    missing: str = "drop"
    """What is done about numbers that a series lacks: a setting of the `data` section."""


def _read_texts(column: pa.Array, place: str) -> tuple[pa.Array, dict[str, npt.NDArray[np.bool_]]]:
    texts = text_column(column, place)
    long = np.asarray(pc.fill_null(pc.greater(pc.binary_length(texts), MOST_TEXT_BYTES), False))
    return texts, {NOT_TEXT: no_text(column), NO_TEXT: blank(texts), LONG_TEXT: long}


def is_long(text: str) -> bool:
    """Whether a text is longer than may be."""
    if len(text) * 4 <= MOST_TEXT_BYTES:
        return False
    return len(text.encode("utf-8", "surrogatepass")) > MOST_TEXT_BYTES


def _same_text(text: str) -> bytes:
    return normalise_space(text).lower().encode()


TEXT = Modality(
    name="text",
    plural="texts",
    type=pa.large_string(),
    settings=("clean", "tokenizer", "max_length"),
    read=_read_texts,
    faults=(NOT_TEXT, NO_TEXT, LONG_TEXT),
    sameness=_same_text,
    explain=lambda cell: "",
)
IMAGE = Modality(
    name="image",
    plural="images",
    type=pa.large_binary(),
    settings=("size", "colour"),
    read=read_images,
    faults=FAULTS,
    sameness=bytes,
    explain=explain_image,
)
SERIES = Modality(
    name="series",
    plural="series",
    type=pa.large_binary(),
    settings=("max_length",),
    read=read_series,
    faults=(NO_SERIES, NO_NUMBERS),
    sameness=bytes,
    explain=explain_series,
)
MODALITIES = {kind.name: kind for kind in (TEXT, IMAGE, SERIES)}


def modality_of(data: Mapping[str, Any]) -> Modality:
    """What the rows of a `data` section hold."""
    kind = next(kind for name, kind in MODALITIES.items() if name in data)
    missing = data.get("missing", "drop")
    if kind is not SERIES or missing == "drop":
        return kind
    return replace(SERIES, read=partial(read_series, gaps=True), missing=missing)
