"""Pixels of image files and of arrays: upright, on white ground, from 0 to 255 by one scale for all of a kind.

Files of 8 bits a channel have their values already. Files of more bits, files of floats and arrays do not say which
value is white, so the train images decide it, once for each of these kinds (`white_of`).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps

from automl.data.bounds import IMAGE_PIXELS

# What Pillow raises for damaged or hostile files.
DAMAGED = (
    *(OSError, ValueError, SyntaxError, Image.DecompressionBombError, EOFError, MemoryError, ArithmeticError),
    *(LookupError, TypeError, AttributeError, NotImplementedError, struct.error, zlib.error),
)
# Kinds of files that are read; Pillow's others run programs (EPS) or are seldom tried with damaged files.
READ = ("PNG", "JPEG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM")
ARRAY = b"\x93NUMPY"  # how NumPy's format begins
SIDES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # channels of arrays
# Values that are white somewhere: of floats, of 8 bits, of cameras and scanners, of 32 bits.
WHITES = (1, *(2**bits - 1 for bits in (8, 10, 12, 14, 16, 24, 32)))
OUTLIERS = 0.01  # share of train images that may have pixels beyond white

Kind = Literal["bytes", "integers", "floats", "arrays"]
Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class White:
    """The value that is white in files of integers of more than 8 bits, in files of floats and in arrays.

    None where no train image is of that kind: then 65,535, or 1 or 255 by what an image looks like.
    """

    integers: float | None = None
    floats: float | None = None
    arrays: float | None = None

    def as_json(self) -> dict[str, float | None]:
        """By kind."""
        return asdict(self)


class PixelScaleError(ValueError):
    """An image whose pixels have another scale than those of the training data."""


def read_pixels(content: bytes) -> tuple[Kind, Image.Image | Values]:
    """An image: of 8 bits upright on white ground, else float32 values, [height, width] or [height, width, channels].

    Raises one of DAMAGED where it is none, has too many pixels, or values below 0 or not finite.
    """
    if content.startswith(ARRAY):
        return "arrays", _checked(_unpacked(content))
    with opened(content) as image:
        image.load()
        try:
            upright = ImageOps.exif_transpose(image)
        except DAMAGED:  # the note about the orientation is damaged, the image is not
            upright = image
        if upright.mode == "F":
            return "floats", _checked(np.asarray(upright))
        if upright.mode.startswith("I"):
            return "integers", _checked(np.asarray(upright))
        return "bytes", _on_white(upright)


def plain_image(kind: Kind, found: Image.Image | Values, white: White, others: list[str] | None = None) -> Image.Image:
    """What `read_pixels` gave as an image of mode L or RGB; values above white become white.

    Where they are so far from it that the scale is another one, raises PixelScaleError or, where `others` is given,
    adds to it what is wrong.
    """
    if isinstance(found, Image.Image):
        return found
    known: float | None = {"integers": white.integers, "floats": white.floats, "arrays": white.arrays}[kind]
    if known is not None and (fault := misfit(found, known)):
        if others is None:
            raise PixelScaleError(fault)
        others.append(fault)
    most = known if known is not None else _guessed(kind, found)
    values = np.clip(np.rint(found * np.float32(255 / most)), 0, 255).astype(np.uint8)
    return Image.fromarray(values) if values.ndim == 2 else _on_white(Image.fromarray(values, SIDES[values.shape[2]]))


def misfit(values: Values, white: float) -> str | None:
    """Why values have not the scale whose white is this; None where they may have it."""
    most = float(values.max())
    if most > 2 * white + 1:
        return f"pixels up to {most:g}, where those of the training data go from 0 to {white:g}"
    if most <= 1 < white and (values != np.rint(values)).any():
        return f"pixels from 0 to 1, where those of the training data go from 0 to {white:g}"
    return None


def white_of(found: Sequence[tuple[Kind, float]]) -> White:
    """The white of each kind, from the kind and the largest value of each train image."""

    def of(kind: Kind) -> float | None:
        largest = sorted(most for each, most in found if each == kind)
        if not largest or not largest[-1]:
            return None
        covered = largest[len(largest) - 1 - int(OUTLIERS * len(largest))]
        return next((white for white in WHITES if white >= covered), float(covered))

    return White(of("integers"), of("floats"), of("arrays"))


def pack_pixels(pixels: Any) -> bytes:
    """An array or nested lists of pixels in NumPy's format; raises ValueError where they are no image, saying why."""
    try:
        values = np.asarray(pixels)
    except (ValueError, TypeError) as error:
        raise ValueError("its rows have different lengths") from error
    if values.dtype.kind not in "iufb" or values.ndim not in (2, 3) or not values.size:
        raise ValueError("it is not [height][width] or [height][width][channels] of numbers")
    if values.ndim == 3 and values.shape[2] not in SIDES:
        raise ValueError(f"it has {values.shape[2]} channels in [height][width][channels], expected 1 to 4")
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > WHITES[-1]:
        raise ValueError(f"it has pixels outside 0 to {WHITES[-1]:,}")
    whole = values.dtype.kind != "f"
    kind: Any = np.float32 if not whole or values.max() > 65535 else np.uint8 if values.max() <= 255 else np.uint16
    sink = io.BytesIO()
    np.lib.format.write_array(sink, np.ascontiguousarray(values.astype(kind)), allow_pickle=False)
    return sink.getvalue()


def opened(content: bytes) -> Image.Image:
    """An image whose pixels are still to be decoded; raises one of DAMAGED for other kinds and for too many pixels."""
    image = Image.open(io.BytesIO(content), formats=READ)
    _require_few(image.width * image.height, f"{image.width} x {image.height}")
    return image


def image_of_old(content: bytes) -> Image.Image:
    """An image as models saw it that have no `white`: nothing turned, what is transparent as its colours are.

    Values of more than 8 bits are scaled where one is above 255.
    """
    if content.startswith(ARRAY):
        values = _checked(_unpacked(content))
        if values.max() > 255:
            raise PixelScaleError(f"pixels up to {float(values.max()):g}, where the training data has them up to 255")
        return Image.fromarray(np.rint(values).astype(np.uint8))
    with opened(content) as image:
        if image.mode.startswith("I") or image.mode == "F":
            found = np.asarray(image, dtype=np.float64)
            return Image.fromarray(np.clip(found / 257 if found.max() > 255 else found, 0, 255).astype(np.uint8))
        image.load()
        return image.convert("RGB") if image.mode in ("P", "PA") else image


def _require_few(pixels: int, what: str) -> None:
    if pixels > IMAGE_PIXELS.value():
        raise Image.DecompressionBombError(f"{what} pixels")


def _unpacked(content: bytes) -> npt.NDArray[Any]:
    """What `pack_pixels` was given; raises ValueError for anything else in NumPy's format."""
    source = io.BytesIO(content)
    if np.lib.format.read_magic(source) != (1, 0):
        raise ValueError("an array of another version")
    shape, fortran, kind = np.lib.format.read_array_header_1_0(source)
    known = kind.str[1:] in ("u1", "u2", "f4") and not fortran
    if not known or len(shape) not in (2, 3) or (shape[2:] or (1,))[0] not in SIDES:
        raise ValueError("an array that is no image")
    _require_few(shape[0] * shape[1], f"{shape[0]} x {shape[1]}")
    values = np.frombuffer(content, kind, offset=source.tell()).reshape(shape)
    if not values.size:
        raise ValueError("an array without pixels")
    return values


def _checked(values: npt.NDArray[Any]) -> Values:
    found = values.astype(np.float32)
    if not np.isfinite(found).all() or found.min() < 0:
        raise ValueError("it has pixels that are below 0 or no numbers")
    return found[:, :, 0] if found.ndim == 3 and found.shape[2] == 1 else found


def _guessed(kind: Kind, values: Values) -> float:
    """The white of an image of a kind that train does not have."""
    most = float(values.max())
    if kind == "integers":
        return next(white for white in (*WHITES[-3:], max(most, 1)) if white >= most)
    if kind == "floats" or (values != np.rint(values)).any():
        return next(white for white in (*WHITES, max(most, 1)) if white >= most)
    return next(white for white in (*WHITES[1:], max(most, 1)) if white >= most)


def _on_white(image: Image.Image) -> Image.Image:
    """An image of 8 bits as L or RGB; what is transparent shows white."""
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        ground = Image.new("RGBA", seen.size, "white")
        ground.alpha_composite(seen)
        return ground.convert("RGB")
    if image.mode == "LAB":
        return ImageCms.applyTransform(image, _from_lab()) or image
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


@lru_cache
def _from_lab() -> ImageCms.ImageCmsTransform:
    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, rgb, "LAB", "RGB")
