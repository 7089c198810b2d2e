"""Images: decoded, resized to squares of one size, kept as uint8; networks standardise them with train statistics."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from automl.data.bounds import IMAGE_PIXELS
from automl.data.columns import as_text, is_text
from automl.data.dense import DenseRows
from automl.space import UserError
from automl.space.safe_files import read_regular

NO_IMAGE, UNREADABLE = "no image", "an image that cannot be decoded"
LARGEST_AUTO = 224  # pixels a side
SLACK = 1e-3  # least deviation of a channel, in parts of 255

# What Pillow raises for damaged or hostile files.
DAMAGED = (
    *(OSError, ValueError, SyntaxError, Image.DecompressionBombError, EOFError, MemoryError, ArithmeticError),
    *(LookupError, TypeError, AttributeError, NotImplementedError, struct.error, zlib.error),
)
# Kinds of files that are read; Pillow's others run programs (EPS) or are seldom tried with damaged files.
READ = ("PNG", "JPEG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM")
LARGEST_FILE = 256 * 1024 * 1024  # bytes


@dataclass(frozen=True)
class ImageEncoder:
    """Images' bytes in, squares of `size` pixels a side out, with one channel (grey) or three."""

    size: int
    channels: int

    @property
    def shape(self) -> list[int]:
        """Of each row."""
        return [self.size, self.size, self.channels]

    def encode(self, images: Sequence[bytes]) -> DenseRows:
        """Decode and resize; labels are all -1. For images that `read_images` finds usable."""
        shape = (len(images), self.size, self.size, self.channels)
        values = np.empty(shape, dtype=np.uint8)
        for row, content in enumerate(images):
            values[row] = self._decode(content)
        return DenseRows(values, np.full(len(images), self.size), np.full(len(images), -1))

    def _decode(self, content: bytes) -> npt.NDArray[np.uint8]:
        """uint8 [size, size, channels]; what is transparent lies on black."""
        with _opened(content) as image:
            mode = "L" if self.channels == 1 else "RGB"
            plain = _eight_bits(image).convert(mode)
            if plain.size != (self.size, self.size):
                plain = plain.resize((self.size, self.size), Image.Resampling.BILINEAR)
            return np.asarray(plain).reshape(self.size, self.size, self.channels)

    def save(self, folder: Path) -> None:
        """Write encoder.json into `folder`."""
        content = {"image": {"size": self.size, "channels": self.channels}}
        (folder / "encoder.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_images(column: pa.Array, place: str) -> tuple[pa.Array, dict[str, npt.NDArray[np.bool_]]]:
    """Images as files' bytes (large_binary), and which rows have none or one that cannot be decoded.

    `column` has files' bytes, paths (relative to the current directory), structs with `bytes` as Hugging Face writes
    them, or nested lists of pixels [height][width] or [height][width][channels], whole numbers from 0 to 255. Raises
    UserError, which opens with `place`, for another type.
    """
    column = as_text(column)
    kind = column.type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        column = column.field("bytes")
        kind = column.type
    if is_text(kind):
        found = [None if path is None or not path.strip() else _file_bytes(path) for path in column.to_pylist()]
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        found = column.to_pylist()
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        found = [None if pixels is None else _from_pixels(pixels) for pixels in column.to_pylist()]
    else:
        raise UserError(f"{place} holds {kind}, expected images: bytes of files, paths or lists of pixels")
    missing = np.array([content is None for content in found], dtype=bool)
    damaged = np.array([content is not None and not _decodes(content) for content in found], dtype=bool)
    return pa.array(found, pa.large_binary()), {NO_IMAGE: missing, UNREADABLE: damaged}


def choose_image_encoder(settings: Mapping[str, Any], images: Sequence[bytes]) -> ImageEncoder:
    """The encoder that the settings `size` and `colour` ask for, auto decided by some of the train images."""
    widths, colours = [], []
    for content in images:
        with _opened(content) as image:
            widths.append(max(image.size))
            colours.append(_has_colour(image))
    size = min(int(np.median(widths)), LARGEST_AUTO) if settings["size"] == "auto" else settings["size"]
    colour = any(colours) if settings["colour"] == "auto" else settings["colour"] == "rgb"
    return ImageEncoder(size, 3 if colour else 1)


def write_images(
    encoder: ImageEncoder, chunks: Iterator[Sequence[bytes]], rows: int, path: Path
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Write all images of a split as one uint8 array [rows, size, size, channels] in NumPy's format.

    Gives the mean and deviation of each channel, in parts of 255.
    """
    shape = (rows, encoder.size, encoder.size, encoder.channels)
    values = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    total, squares, start = np.zeros(encoder.channels), np.zeros(encoder.channels), 0
    for images in chunks:
        part = encoder.encode(images).values
        values[start : start + len(images)] = part
        start += len(images)
        numbers = part.astype(np.float64) / 255
        total += numbers.sum(axis=(0, 1, 2))
        squares += (numbers**2).sum(axis=(0, 1, 2))
    values.flush()
    pixels = rows * encoder.size**2
    mean = total / pixels
    return mean, np.sqrt(np.maximum(squares / pixels - mean**2, SLACK**2))


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image with values from 0 to 255, whatever depth its file has."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        return Image.fromarray(np.clip(values / 257 if values.max() > 255 else values, 0, 255).astype(np.uint8))
    return image.convert("RGB") if image.mode in ("P", "PA") else image


def _has_colour(image: Image.Image) -> bool:
    if image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;"):
        return False
    values = np.asarray(image.convert("RGB"))
    return bool((values != values[..., :1]).any())


def _opened(content: bytes) -> Image.Image:
    """An image whose pixels are still to be decoded; raises one of DAMAGED for other kinds and for too many pixels."""
    image = Image.open(io.BytesIO(content), formats=READ)
    if image.width * image.height > IMAGE_PIXELS.value():
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
    return image


def _decodes(content: bytes) -> bool:
    try:
        with _opened(content) as image:
            image.load()
    except DAMAGED:
        return False
    return True


def _file_bytes(path: str) -> bytes:
    """A file's bytes; none of a file that is not there, which no decoder takes for an image."""
    try:
        return read_regular(Path(path), LARGEST_FILE)
    except (OSError, ValueError, UserError):
        return b""


def _from_pixels(pixels: Any) -> bytes:
    """A PNG of nested lists of pixels; nothing, which no decoder takes, where they are no image."""
    try:
        values = np.asarray(pixels, dtype=np.float64)
    except (ValueError, TypeError):
        return b""
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    fits = values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 3)
    if not fits or not values.size or not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 255):
        return b""
    sink = io.BytesIO()
    Image.fromarray(values.round().astype(np.uint8)).save(sink, format="PNG")
    return sink.getvalue()
