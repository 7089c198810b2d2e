"""What the bodies of requests hold: texts, images as base64, or series, each within bounds."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from automl.data.pixels import DAMAGED, opened
from automl.data.sequences import as_steps, pack
from automl.results.package import Model
from automl.results.serving.access import RefusedError
from automl.results.serving.limits import Limits

EXPECTED = {
    "texts": 'expected a JSON object with a list of texts: {"texts": ["..."]}',
    "images": 'expected a JSON object with a list of images, files in base64: {"images": ["..."]}',
    "series": 'expected a JSON object with a list of series: {"series": [[0.5, 1.0]]}',
}


@dataclass(frozen=True)
class Picture:
    """An image file whose header has been read; its length is what it costs to decode: bytes, or pixels if more."""

    content: bytes
    pixels: int

    def __len__(self) -> int:
        return max(len(self.content), self.pixels)


@dataclass(frozen=True)
class Wanted:
    """What a model takes: `texts`, `images` or `series` of so many channels, whose numbers may be missing."""

    key: str = "texts"
    channels: int = 1
    gaps: bool = False

    @property
    def sample(self) -> Any:
        """One row, to see whether the model answers at all."""
        if self.key == "images":
            sink = io.BytesIO()
            Image.new("L", (1, 1)).save(sink, "PNG")
            return Picture(sink.getvalue(), 1)
        return pack(np.zeros((1, self.channels), np.float32)) if self.key == "series" else "is it well"

    def most(self, limits: Limits) -> int:
        """Rows of one request."""
        return limits.images if self.key == "images" else limits.texts


def wanted_of(model: Model) -> Wanted:
    """What requests of this model hold."""
    key = {"text": "texts", "image": "images"}.get(model.modality.name, "series")
    return Wanted(key, model.channels, model.modality.missing != "drop") if key == "series" else Wanted(key)


def content_of(body: bytes, limits: Limits, most: int, wanted: Wanted) -> list[Any]:
    """The rows of a body: texts, `Picture`s or packed series.

    Raises RefusedError with one sentence where it is not as it should be.
    """
    try:
        content: Any = json.loads(body.decode("utf-8-sig"), parse_constant=_no_constant, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body is not JSON: {str(error)[:200]}") from error
    rows = content.get(wanted.key) if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise RefusedError(422, EXPECTED[wanted.key])
    if not 0 < len(rows) <= most:
        raise RefusedError(422, f"a request has 1 to {most:,} {wanted.key}, this one {len(rows):,}")
    read: Callable[[Sequence[Any], Limits, Wanted], list[Any]]
    read = {"texts": _texts, "images": _images, "series": _series}[wanted.key]
    return read(rows, limits, wanted)


def unpacked(rows: Sequence[Any]) -> int:
    """The pixels of rows that are images: what their decoding takes beside their bytes."""
    return sum(row.pixels for row in rows if isinstance(row, Picture))


def _texts(texts: Sequence[Any], limits: Limits, wanted: Wanted) -> list[Any]:
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise RefusedError(422, f"texts[{number}] is {'empty' if isinstance(text, str) else 'no text'}")
        if len(text) > limits.characters:
            reason = f"texts[{number}] has {len(text):,} characters; a text has at most {limits.characters:,}"
            raise RefusedError(422, reason)
    return list(texts)


def _images(images: Sequence[Any], limits: Limits, wanted: Wanted) -> list[Any]:
    found, total = [], 0
    for number, image in enumerate(images):
        if not isinstance(image, str):
            raise RefusedError(422, f"images[{number}] is no text; expected the bytes of a file in base64")
        try:
            content = base64.b64decode(image, validate=True)
        except (binascii.Error, ValueError):
            raise RefusedError(422, f"images[{number}] is not base64") from None
        try:
            header = opened(content)
        except DAMAGED:
            raise RefusedError(422, f"images[{number}] is no image that can be read") from None
        total += header.width * header.height
        if total > limits.pixels:
            raise RefusedError(422, f"a request has images of at most {limits.pixels:,} pixels together")
        found.append(Picture(content, header.width * header.height))
    return found


def _series(series: Sequence[Any], limits: Limits, wanted: Wanted) -> list[Any]:
    found, total = [], 0
    for number, each in enumerate(series):
        if (
            isinstance(each, list) and total + len(each) * wanted.channels > limits.numbers
        ):  # before it is looked through
            raise RefusedError(422, f"a request has series of at most {limits.numbers:,} numbers together")
        steps = as_steps(each, wanted.gaps) if isinstance(each, list) else None
        if steps is None:
            one = "a number" if wanted.channels == 1 else f"a list of {wanted.channels} numbers"
            raise RefusedError(422, f"series[{number}] is no list with {one} for each step")
        if steps.shape[1] != wanted.channels:
            reason = f"series[{number}] has {steps.shape[1]:,} numbers for each step, expected {wanted.channels:,}"
            raise RefusedError(422, reason)
        total += steps.size
        found.append(pack(steps))
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # two readers of it could see different rows
        raise ValueError("a key stands twice in an object")
    return found
