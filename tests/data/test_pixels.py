"""Images of every mode, depth and orientation, as files and as lists: train and predict see the same, by one rule."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from automl.data import DenseRows, prepare
from automl.data.encode import load_encoder
from automl.data.images import ImageEncoder, choose_image_encoder, read_images
from automl.data.modalities import MODALITIES
from automl.data.pixels import White, white_of
from automl.results.input_rows import open_rows
from automl.space import UserError
from tests.data.settings import IMAGES, settings_for

AUTO = {"size": "auto", "colour": "auto"}
FORMATS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "LA", "P", "PA", "RGB", "RGBX", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "I;16B", "F"),
    "JPEG": ("L", "RGB", "CMYK", "YCbCr"),
    "GIF": ("1", "L", "P", "RGB", "RGBA"),
    "WEBP": ("L", "RGB", "RGBA", "RGBX", "P"),
    "BMP": ("1", "L", "P", "RGB"),
    "PPM": ("1", "L", "RGB", "I", "I;16"),
}
KINDS = [(kind, mode) for kind, modes in FORMATS.items() for mode in modes]


def scene(mode: str) -> Image.Image:
    """Black on the left, white on the right, 8 by 6 pixels."""
    levels = np.zeros((6, 8), dtype=np.uint8)
    levels[:, 4:] = 255
    grey = Image.fromarray(levels)
    if mode == "I":
        return Image.fromarray(levels.astype(np.int32) * 257)
    if mode.startswith("I;16"):
        return Image.frombytes(mode, (8, 6), (levels.astype(">u2" if mode == "I;16B" else "<u2") * 257).tobytes())
    if mode == "F":
        return Image.fromarray(levels.astype(np.float32) / 255)
    if mode == "LAB":
        return Image.merge("LAB", (grey, Image.new("L", grey.size, 128), Image.new("L", grey.size, 128)))
    return grey.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr", "RGBX") else grey.convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, format=kind, **({"lossless": True} if kind == "WEBP" else {}), **options)
    return sink.getvalue()


def trained_and_predicted(images: list[Any], folder: Path) -> npt.NDArray[np.generic]:
    """The rows of a column once read, by the encoder that they decide and by the same one from its file."""
    contents, unusable = read_images(pa.array(images), "here")
    assert not any(those.any() for those in unusable.values())
    encoder = choose_image_encoder(AUTO, contents.to_pylist())
    encoder.save(folder)
    again = load_encoder(folder)
    assert again == encoder and isinstance(again, ImageEncoder)
    rows = encoder.encode(contents.to_pylist()).values
    assert (again.encode(images).values == rows).all()  # as the Python interface is asked
    return rows


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_every_mode_of_every_format_is_black_and_white(kind: str, mode: str, tmp_path: Path) -> None:
    (row,) = trained_and_predicted([saved(scene(mode), kind)], tmp_path)
    assert row.shape == (8, 8, 3 if mode == "LAB" else 1)
    assert row[:, :3].max() <= 8 and row[:, 5:].min() >= 247, row[:, :, 0]


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, mode in KINDS if mode in ("LA", "RGBA", "PA")])
def test_what_is_transparent_shows_white(kind: str, mode: str, tmp_path: Path) -> None:
    icon = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    icon.paste((0, 0, 0, 255), (0, 0, 4, 8))
    image = icon.convert("LA") if mode == "LA" else icon
    if mode == "PA":
        palette, alpha = Image.new("P", (8, 8), 0), icon.getchannel("A")
        palette.putpalette([0, 0, 0])
        image = palette.convert("PA")
        image.putalpha(alpha)
    (row,) = trained_and_predicted([saved(image, kind)], tmp_path)
    assert (row[:, :4] == 0).all() and (row[:, 4:] == 255).all()


def test_transparency_of_palettes_and_of_one_colour_shows_white(tmp_path: Path) -> None:
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 0, 0, 0])
    palette.paste(1, (0, 0, 2, 4))
    one = Image.new("RGB", (4, 4), (0, 0, 0))
    one.paste((1, 1, 1), (0, 0, 2, 4))
    for content in (saved(palette, "PNG", transparency=0), saved(one, "PNG", transparency=(0, 0, 0))):
        (row,) = trained_and_predicted([content], tmp_path)
        assert row[:, :2].max() <= 1 and (row[:, 2:] == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright(kind: str, orientation: int, tmp_path: Path) -> None:
    upright = scene("L").convert("RGB").resize((8, 8))
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what undoes what the orientation asks for
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    (row,) = trained_and_predicted([saved(stored, kind, exif=exif)], tmp_path)
    assert row[:, :3].max() <= 8 and row[:, 5:].min() >= 247


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    black, white = Image.new("L", (4, 4), 0), Image.new("L", (4, 4), 255)
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        (row,) = trained_and_predicted([saved(black, kind, save_all=True, append_images=[white])], tmp_path)
        assert (row == 0).all(), kind


DEPTHS: dict[str, tuple[Any, float]] = {
    "12 bits in 16": (lambda share: saved(Image.fromarray((share * 4095).astype(np.uint16)), "PNG"), 4095),
    "16 bits": (lambda share: saved(Image.fromarray((share * 65535).astype(np.uint16)), "PNG"), 65535),
    "8 bits in 16": (lambda share: saved(Image.fromarray((share * 255).astype(np.uint16)), "TIFF"), 255),
    "floats to 1": (lambda share: saved(Image.fromarray(share.astype(np.float32)), "TIFF"), 1),
    "floats to 65,535": (lambda share: saved(Image.fromarray((share * 65535).astype(np.float32)), "TIFF"), 65535),
    "lists to 1": (lambda share: share.tolist(), 1),
    "lists of 8 bits": (lambda share: np.rint(share * 255).astype(int).tolist(), 255),
    "lists of 8 bits as floats": (lambda share: (share * 255).tolist(), 255),
    "lists of 12 bits": (lambda share: np.rint(share * 4095).astype(int).tolist(), 4095),
    "lists in colour to 1": (lambda share: np.stack([share] * 3, axis=2).tolist(), 1),
}


@pytest.mark.parametrize("depth", DEPTHS)
def test_one_scale_for_all_images_of_a_data_set(depth: str, tmp_path: Path) -> None:
    make, white = DEPTHS[depth]
    bright, dark = np.full((4, 4), 1.0), np.full((4, 4), 0.02)  # alone, each would say another scale
    half = np.full((4, 4), 0.5)
    train = tmp_path / "t.parquet"
    images = [make(each) for each in (bright, dark, half) for _ in range(6)]
    pq.write_table(pa.table({"image": images, "label": ["a", "b"] * 9}), train)
    prepared = prepare(settings_for(train, IMAGES), seed=0, cache=tmp_path / "cache")
    rows, encoder = prepared.rows("train"), prepared.encoder()
    assert isinstance(rows, DenseRows) and isinstance(encoder, ImageEncoder) and encoder.white is not None
    assert set(np.unique(rows.values)) <= {255, 5, 127, 128}
    assert [value for value in prepared.profile["white"].values() if value is not None] == [white]
    assert encoder.encode([make(dark)]).values.max() == 5
    assert (encoder.encode([make(half)]).values // 2 == 63).any() or (encoder.encode([make(half)]).values == 128).all()


def test_another_scale_than_trains_is_an_error_where_it_is_plain(tmp_path: Path) -> None:
    encoder = ImageEncoder(2, 1, White(arrays=1))
    with pytest.raises(ValueError, match="pixels up to 255, where those of the training data go from 0 to 1"):
        encoder.encode([[[0, 255], [3, 4]]])
    assert (encoder.encode([[[0.5, 1.2], [0, 1]]]).values[0, :, :, 0] == [[128, 255], [0, 255]]).all()
    with pytest.raises(ValueError, match="pixels from 0 to 1, where"):
        ImageEncoder(2, 1, White(arrays=255)).encode([[[0.5, 1.0], [0, 1]]])
    train, test = tmp_path / "train.parquet", tmp_path / "test.parquet"
    for path, most in ((train, 255), (test, 1)):
        images = [np.linspace(0, most, 16).reshape(4, 4).tolist()] * 12
        pq.write_table(pa.table({"image": images, "label": ["a", "b"] * 6}), path)
    with pytest.raises(UserError, match="12 of 12 images of test have pixels from 0 to 1, where"):
        prepare(settings_for(train, IMAGES, test=[str(test)]), seed=0, cache=tmp_path / "cache")


@settings(max_examples=30)
@given(st.lists(st.floats(0, 2**31), min_size=1, max_size=300))
def test_white_covers_all_images_but_outliers(largest: list[float]) -> None:
    white = white_of([("arrays", each) for each in largest]).arrays
    if white is None:
        assert not any(largest)
    else:
        assert sum(each > white for each in largest) <= 0.01 * len(largest)
        assert white in (1, 255, 1023, 4095, 16383, 65535, 2**24 - 1, 2**32 - 1)


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
def test_lists_of_pixels_that_train_are_predicted(ending: str, tmp_path: Path) -> None:
    images = [(np.arange(16).reshape(4, 4) / 15 * (number + 1) / 12).tolist() for number in range(12)]
    path = tmp_path / f"t.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table({"image": images, "label": ["a", "b"] * 6}), path)
    elif ending == "jsonl":
        lines = (json.dumps({"image": each, "label": "ab"[number % 2]}) for number, each in enumerate(images))
        path.write_text("\n".join(lines))
    else:
        path.write_text("image,label\n" + "".join(f'"{each}",{"ab"[n % 2]}\n' for n, each in enumerate(images)))
    prepared = prepare(settings_for(path, IMAGES), seed=0, cache=tmp_path / "cache")
    encoder = prepared.encoder()
    _, windows = open_rows(path, "image", MODALITIES["image"])
    (window,) = windows
    assert window.errors == [None] * 12
    assert isinstance(encoder, ImageEncoder)
    seen = encoder.encode(window.inputs).values
    assert seen[-1].max() == 255 and (seen[-1] == encoder.encode([images[-1]]).values).all()
    rows = prepared.rows("train")
    assert isinstance(rows, DenseRows)
    assert {row.tobytes() for row in rows.values} <= {row.tobytes() for row in seen}


def test_models_from_before_see_what_they_saw(tmp_path: Path) -> None:
    """Their encoder.json has no `white`: transparent is what its colours are, nothing is turned, each scaled alone."""
    (tmp_path / "encoder.json").write_text('{"image": {"size": 4, "channels": 1}}')
    encoder = load_encoder(tmp_path)
    assert isinstance(encoder, ImageEncoder) and encoder.white is None
    icon = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 3
    left = Image.new("L", (4, 4), 0)
    left.paste(255, (0, 0, 2, 4))
    dim = Image.fromarray(np.full((4, 4), 514, dtype=np.uint16))
    contents = [saved(icon, "PNG"), saved(left, "PNG", exif=exif), saved(dim, "PNG"), [[0.2, 200], [3, 4]]]
    rows = encoder.encode(contents[:3]).values
    assert (rows[0] == 0).all() and (rows[1, :, :2] == 255).all() and (rows[2] == 2).all()
    assert encoder.encode(contents[3:]).values.max() == 200
    encoder.save(tmp_path)
    assert "white" not in (tmp_path / "encoder.json").read_text() and load_encoder(tmp_path) == encoder


@settings(max_examples=30)
@given(st.binary(max_size=200))
def test_bytes_that_claim_to_be_an_array_are_judged(content: bytes) -> None:
    _, unusable = read_images(pa.array([b"\x93NUMPY" + content]), "here")
    assert sum(those.sum() for those in unusable.values()) == 1
