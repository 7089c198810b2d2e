"""Images as they come, in tables and folders: decoded, counted where they cannot be, prepared once as uint8."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from automl.data import DenseRows, batches, prepare
from automl.data.images import ImageEncoder, read_images
from automl.data.modalities import MODALITIES
from automl.results.input_rows import open_rows
from automl.space import UserError
from tests.data.settings import IMAGES, settings_for


def picture(seed: int, *, side: int = 8, mode: str = "L", kind: str = "PNG") -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(values).convert(mode).save(sink, format=kind)
    return sink.getvalue()


def table(path: Path, images: list[Any], labels: list[str] | None = None) -> Path:
    labels = labels or [("cat", "dog")[number % 2] for number in range(len(images))]
    pq.write_table(pa.table({"image": images, "label": labels}), path)
    return path


def test_pixels_come_back_as_they_were(tmp_path: Path) -> None:
    train = table(tmp_path / "t.parquet", [picture(seed) for seed in range(20)])
    prepared = prepare(settings_for(train, IMAGES), seed=0, cache=tmp_path / "cache")
    assert prepared.profile["shape"] == [8, 8, 1]
    rows, originals = prepared.rows("train"), prepared.inputs("train")
    assert isinstance(rows, DenseRows) and originals is not None
    assert rows.values.dtype == np.uint8 and len(rows) == 16 and prepared.profile["rows"]["validation"] == 4
    for row, content in zip(rows.values, originals, strict=True):
        assert (row[..., 0] == np.asarray(Image.open(io.BytesIO(content)))).all()
    assert prepared.profile["mean"] == pytest.approx([rows.values.mean() / 255])
    assert prepared.profile["deviation"] == pytest.approx([rows.values.std() / 255])


def test_bytes_paths_and_nested_lists_are_the_same_images(tmp_path: Path) -> None:
    files = [picture(seed, side=6, mode="RGB") for seed in range(8)]
    for number, content in enumerate(files):
        (tmp_path / f"{number}.png").write_bytes(content)
    pixels = [np.asarray(Image.open(io.BytesIO(content))).tolist() for content in files]
    ways = {
        "bytes": files,
        "paths": [str(tmp_path / f"{number}.png") for number in range(8)],
        "lists": pixels,
        "structs": [{"bytes": content, "path": None} for content in files],
    }
    found = []
    for name, images in ways.items():
        train = table(tmp_path / f"{name}.parquet", images)
        rows = prepare(settings_for(train, IMAGES), seed=0, cache=tmp_path / "cache").rows("train")
        assert isinstance(rows, DenseRows)
        found.append(rows.values.tobytes())
    assert len(set(found)) == 1


def test_a_folder_has_a_folder_for_each_class(tmp_path: Path) -> None:
    for number in range(12):
        path = tmp_path / "pets" / ("cat", "dog")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number, mode="RGB", kind="JPEG"))
    prepared = prepare(settings_for(tmp_path / "pets", IMAGES), seed=0, cache=tmp_path / "cache")
    assert prepared.classes == ("cat", "dog")
    assert prepared.profile["classes"]["train"] == {"cat": 4, "dog": 4}
    assert prepared.profile["shape"] == [8, 8, 3]
    (tmp_path / "pets" / "cat" / "0.jpg").write_bytes(picture(99, mode="RGB", kind="JPEG"))
    again = prepare(settings_for(tmp_path / "pets", IMAGES), seed=0, cache=tmp_path / "cache")
    assert again.fingerprint != prepared.fingerprint


def test_images_that_cannot_be_decoded_are_counted(tmp_path: Path) -> None:
    images = [picture(seed) for seed in range(12)]
    images[3], images[7], images[8] = b"no image at all", picture(7)[:40], None
    train = table(tmp_path / "t.parquet", images)
    with pytest.raises(UserError, match=r"2 with an image that cannot be decoded in column 'image' \(rows 4, 8\)"):
        prepare(settings_for(train, IMAGES), seed=0, cache=tmp_path / "cache")
    prepared = prepare(settings_for(train, IMAGES, on_bad_rows="report"), seed=0, cache=tmp_path / "cache")
    assert sum(prepared.profile["rows"].values()) == 9
    (counted,) = prepared.profile["bad_rows"].values()
    assert counted["counts"] == {"no image": 1, "an image that cannot be decoded": 2}


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_file_becomes_the_asked_shape(mode: str, channels: int) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    if mode == "I;16":
        sink = io.BytesIO()
        Image.fromarray(np.full((5, 9), 65535, dtype=np.uint16)).save(sink, format="PNG")
        content = sink.getvalue()
    else:
        content = picture(0, mode=mode, kind=kind)
    rows = ImageEncoder(4, channels).encode([content])
    assert rows.values.shape == (1, 4, 4, channels) and rows.values.dtype == np.uint8
    assert mode != "I;16" or (rows.values == 255).all()


def test_pixels_outside_their_range_are_no_image() -> None:
    column = pa.array([[[0, 255]], [[0, 2**40]], [[-1, 0]], [], [[1, 2], [3]]], pa.list_(pa.list_(pa.int64())))
    _, unusable = read_images(column, "t")
    assert unusable["an image that cannot be decoded"].tolist() == [False, True, True, True, True]
    with pytest.raises(UserError, match="holds double, expected images"):
        read_images(pa.array([1.5]), "t: column 'image'")


def test_a_pass_has_every_row_once_and_goes_on_where_it_was() -> None:
    values = np.arange(23, dtype=np.uint8).reshape(23, 1, 1, 1)
    rows = DenseRows(values, np.ones(23, dtype=np.int64), np.arange(23))
    whole = list(batches(rows, 5, shuffle=np.random.default_rng(1)))
    seen = [label for batch in whole for label in batch.labels.tolist()]
    assert sorted(seen) == list(range(23)) and seen != sorted(seen)
    for batch in whole:
        assert batch.tokens.flatten().tolist() == batch.labels.tolist() == batch.index.tolist()
    later = list(batches(rows, 5, shuffle=np.random.default_rng(1), start=len(whole[0].labels)))
    assert [batch.labels.tolist() for batch in later] == [batch.labels.tolist() for batch in whole[1:]]


def test_a_folder_of_images_is_predicted_by_the_names_of_its_files(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4), 200).save(tmp_path / name)
    (tmp_path / "d.png").write_bytes(b"no image")
    names, windows = open_rows(tmp_path, "image", MODALITIES["image"])
    (window,) = windows
    assert names == ["file"] and window.rows == [["a/c.png"], ["b.png"], ["d.png"]]
    assert window.errors == [None, None, "an image that cannot be decoded"]
    assert [each is None for each in window.inputs] == [False, False, True]
    with pytest.raises(UserError, match="is a folder of images; this model is for texts"):
        open_rows(tmp_path, "text", MODALITIES["text"])
