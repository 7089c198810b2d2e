"""Images: decoded, resized to squares of one size, kept as uint8; networks standardise them with train statistics."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from automl.data.columns import as_text, is_text
from automl.data.counted import Counted, Running
from automl.data.dense import DenseRows
from automl.data.image_paths import open_image, path_and_content
from automl.data.pixels import DAMAGED, White, image_of_old, pack_pixels, plain_image, read_pixels, white_of
from automl.space import UserError

NO_IMAGE, UNREADABLE = "no image", "an image that cannot be decoded"
ABSENT = "a path to a file that is not there"
FAULTS = (NO_IMAGE, ABSENT, UNREADABLE)
LARGEST_AUTO = 224  # pixels a side
SLACK = 1e-3  # least deviation of a channel, in parts of 255
MOST_OTHERS = 0.5  # share of the images of a split whose pixels may have another scale than those of train
SHOWN_CHARACTERS = 100


@dataclass(frozen=True)
class Changed:
    """What an encoder does to an image: whether it has another size then, or colours no more."""

    resized: bool
    grey: bool


@dataclass(frozen=True)
class ImageEncoder:
    """Images in, squares of `size` pixels a side out, with one channel (grey) or three.

    `white` is None for models from before it was kept (`image_of_old`).
    """

    size: int
    channels: int
    white: White | None = field(default_factory=White)

    @property
    def shape(self) -> list[int]:
        """Of each row."""
        return [self.size, self.size, self.channels]

    def encode(
        self, images: Sequence[Any], others: list[str] | None = None, changed: list[Changed] | None = None
    ) -> DenseRows:
        """Decode and resize; labels are all -1.

        An image is what `read_images` finds usable, the path of a file, or an array or nested lists of pixels, [height,
        width] or [height, width, channels]. Raises one of DAMAGED for another one, and PixelScaleError where its pixels
        have another scale than those of train; into `others`, where that is given, goes what is wrong instead.
        Into `changed` goes what became of each image.
        """
        shape = (len(images), self.size, self.size, self.channels)
        values = np.empty(shape, dtype=np.uint8)
        for row, image in enumerate(images):
            values[row], each = self._decode(_content(image), others)
            if changed is not None:
                changed.append(each)
        return DenseRows(values, np.full(len(images), self.size), np.full(len(images), -1))

    def _decode(self, content: bytes, others: list[str] | None) -> tuple[npt.NDArray[np.uint8], Changed]:
        """uint8 [size, size, channels], and what that changed."""
        white = self.white
        plain = image_of_old(content) if white is None else plain_image(*read_pixels(content), white, others)
        grey = self.channels == 1 and _has_colour(np.asarray(plain))
        plain = plain.convert("L" if self.channels == 1 else "RGB")
        resized = plain.size != (self.size, self.size)
        if resized:
            plain = plain.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return np.asarray(plain).reshape(self.size, self.size, self.channels), Changed(resized, grey)

    def save(self, folder: Path) -> None:
        """Write encoder.json into `folder`."""
        content: dict[str, Any] = {"size": self.size, "channels": self.channels}
        if self.white is not None:
            content["white"] = self.white.as_json()
        (folder / "encoder.json").write_text(json.dumps({"image": content}, indent=2) + "\n", encoding="utf-8")


def read_images(column: pa.Array, place: str) -> tuple[pa.Array, dict[str, npt.NDArray[np.bool_]]]:
    """Images as bytes (large_binary), and which rows have none, a path without a file, or one that cannot be decoded.

    `column` has files' bytes, paths (relative to the current directory), structs with `bytes` or `path` as Hugging Face
    writes them, or nested lists of pixels [height][width] or [height][width][channels], also as JSON. Raises UserError,
    which opens with `place`, for another type.
    """
    column = as_text(column)
    kind = column.type
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    struct = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    if not (listed or binary or struct or is_text(kind)):
        raise UserError(f"{place} holds {kind}, expected images: bytes of files, paths or lists of pixels")
    found, reasons = [], []
    for value in column.to_pylist():
        content, reason = _read(value)
        found.append(content)
        reasons.append(reason)
    masks = {each: np.array([reason == each for reason in reasons], dtype=bool) for each in FAULTS}
    return pa.array(found, pa.large_binary()), masks


def explain_image(value: Any) -> str:
    """What there is to say of one that cannot be used: its path and what is wrong, nothing of bytes without a path."""
    path, content = path_and_content(value)
    if content is not None:
        return path or ("" if isinstance(content, bytes) else _reason(content))
    if path is None:
        return ""
    fault = _reason(path)
    return f"{path}: {fault}" if fault else path


def choose_image_encoder(settings: Mapping[str, Any], images: Sequence[bytes]) -> ImageEncoder:
    """The encoder that the settings `size` and `colour` ask for, auto decided by some of the train images."""
    widths, colours, largest = [], [], []
    for content in images:
        kind, pixels = read_pixels(content)
        if isinstance(pixels, Image.Image):
            widths.append(max(pixels.size))
            colours.append(_has_colour(np.asarray(pixels)))
        else:
            widths.append(max(pixels.shape[:2]))
            colours.append(_has_colour(pixels))
            largest.append((kind, float(pixels.max())))
    size = min(int(np.median(widths)), LARGEST_AUTO) if settings["size"] == "auto" else settings["size"]
    colour = any(colours) if settings["colour"] == "auto" else settings["colour"] == "rgb"
    return ImageEncoder(size, 3 if colour else 1, white_of(largest))


def write_images(
    encoder: ImageEncoder,
    chunks: Iterator[Sequence[bytes]],
    rows: int,
    path: Path,
    counted: list[Counted] | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Write all images of a split as one uint8 array [rows, size, size, channels] in NumPy's format.

    Gives the mean and deviation of each channel, in parts of 255; what was resized or lost its colours goes into
    `counted`, where that is given. Raises UserError where most images have another scale than those of train.
    """
    shape = (rows, encoder.size, encoder.size, encoder.channels)
    values = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    total, squares, start = np.zeros(encoder.channels), np.zeros(encoder.channels), 0
    others: list[str] = []
    resized, grey = Running(), Running()
    for images in chunks:
        changed: list[Changed] = []
        part = encoder.encode(images, others, changed).values
        resized.add(np.array([each.resized for each in changed], dtype=bool))
        grey.add(np.array([each.grey for each in changed], dtype=bool))
        values[start : start + len(images)] = part
        start += len(images)
        numbers = part.astype(np.float64) / 255
        total += numbers.sum(axis=(0, 1, 2))
        squares += (numbers**2).sum(axis=(0, 1, 2))
    values.flush()
    if len(others) > rows * MOST_OTHERS:
        raise UserError(f"{len(others):,} of {rows:,} images of {path.stem} have {others[0]}; give all one scale")
    if counted is not None:
        split, size = path.stem, encoder.size
        clipped = f"{split} images have pixels of another scale than train and are read by that of train"
        counted += [
            Counted(f"{split} images are resized to {size} x {size}", "size", resized.count, rows, resized.row),
            Counted(f"{split} images lose their colours", "colour", grey.count, rows, grey.row),
            Counted(clipped, "image", len(others), rows, warn=True),
        ]
    pixels = rows * encoder.size**2
    mean = total / pixels
    return mean, np.sqrt(np.maximum(squares / pixels - mean**2, SLACK**2))


def _read(value: Any) -> tuple[bytes | None, str | None]:
    """The bytes of an image, nothing that a decoder takes where there are none, and why it cannot be used."""
    path, content = path_and_content(value)
    if path is None and content is None:
        return None, NO_IMAGE
    try:
        found = _content(path if content is None else content)
    except (FileNotFoundError, NotADirectoryError):
        return b"", ABSENT
    except (OSError, ValueError, UserError):
        return b"", UNREADABLE
    return found, UNREADABLE if _fault(found) else None


def _content(image: Any) -> bytes:
    """The bytes of an image; raises OSError, ValueError or UserError where it has none."""
    if isinstance(image, bytes):
        return image
    return open_image(image) if isinstance(image, str | Path) else pack_pixels(image)


def _fault(content: bytes) -> str | None:
    """Why bytes are no image."""
    try:
        read_pixels(content)
    except DAMAGED as error:
        return " ".join(str(error).split())[:SHOWN_CHARACTERS] or type(error).__name__
    return None


def _reason(image: Any) -> str:
    """The same of a path or of pixels."""
    try:
        return _fault(_content(image)) or ""
    except OSError as error:
        return error.strerror or str(error)
    except (ValueError, UserError) as error:
        return str(error)


def _has_colour(values: npt.NDArray[Any]) -> bool:
    return values.ndim == 3 and values.shape[2] > 2 and bool((values[..., :3] != values[..., :1]).any())
