"""Files that are small and want to become large: their rows are bad rows, or the file is refused in one sentence."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from automl.data.damaged import read_undamaged
from automl.data.images import UNREADABLE, read_images
from automl.data.modalities import MODALITIES
from automl.data.tables import column_names, read_batches
from automl.data.vectors import vector_dimension
from automl.results.input_rows import open_rows
from automl.space import UserError

HUGE = 17 * 1024 * 1024


@pytest.mark.parametrize("ending", [".csv.gz", ".csv.zst", ".jsonl.gz", ".jsonl.zst"])
def test_what_unpacks_to_too_much_is_refused(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"bomb{ending}"
    row = b'{"text": "aaaaaaaa", "label": "x"}\n' if "jsonl" in ending else b"aaaaaaaa,x\n"
    with pa.output_stream(str(path), compression="gzip" if ending.endswith("gz") else "zstd") as file:
        file.write(b"text,label\n" if "csv" in ending else b"")
        for _ in range(5):
            file.write(row * 20_000)
    assert sum(batch.num_rows for batch in read_batches(path)) == 100_000
    for variable, value in (("AUTOML_MAX_UNPACKED", "100k"), ("AUTOML_MAX_UNPACKED_RATIO", "1")):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            if "RATIO" in variable:
                patch.setattr("automl.data.formats.SMALL_BYTES", 1)
            with pytest.raises(UserError, match=f"set {variable} to allow more"):
                list(read_batches(path))
            with pytest.raises(UserError, match=f"set {variable} to allow more"):
                list(read_undamaged(path, ["text", "label"], lambda *_: None))
            with pytest.raises(UserError, match=f"set {variable} to allow more"):
                list(open_rows(path, "text", MODALITIES["text"])[1])


def test_a_cell_that_is_long_but_not_too_long_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text(f"text,label\n{'a' * 200_000},x\n")
    assert column_names(path) == ["text", "label"]


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".jsonl"])
def test_a_row_that_is_too_long_has_an_error_and_the_rest_goes_on(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows{ending}"
    texts = ["first", "a" * HUGE, "last"]
    lines = [json.dumps({"text": text, "label": "x"}) if ending == ".jsonl" else f"{text},x" for text in texts]
    content = "\n".join([*([] if ending == ".jsonl" else ["text,label"]), *lines, ""]).encode()
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    names, windows = open_rows(path, "text", MODALITIES["text"])
    found = [each for window in windows for each in zip(window.inputs, window.errors, strict=True)]
    assert names == ["text", "label"] and [text for text, _ in found] == ["first", None, "last"]
    assert [error is None for _, error in found] == [True, False, True] and "16,777,216" in str(found[1][1])
    if ending == ".jsonl":
        noted: list[int] = []
        batches = read_undamaged(path, ["text", "label"], lambda reason, row, text: noted.append(row))
        assert sum(batch.num_rows for _, batch in batches) == 2 and noted == [1]
        with pytest.raises(UserError, match=r"rows\.jsonl:2: not a JSON object"):
            list(read_batches(path))


def test_images_are_bounded_in_pixels_and_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def saved(kind: str, size: tuple[int, int] = (8, 8), **more: object) -> bytes:
        sink = io.BytesIO()
        Image.new("RGB", size).save(sink, format=kind, **more)
        return sink.getvalue()

    kinds = ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"]
    bad = [saved("EPS"), saved("ICO"), saved("PNG", (9000, 9000)), saved("TIFF")[:40]]
    contents = [*map(saved, kinds), *bad]
    _, unusable = read_images(pa.array(contents, pa.binary()), "here")
    assert unusable[UNREADABLE].tolist() == [False] * len(kinds) + [True] * len(bad)
    os.mkfifo(tmp_path / "pipe.png")
    paths = [str(tmp_path / "pipe.png"), "/dev/zero", str(tmp_path), "a\0b"]
    assert read_images(pa.array(paths), "here")[1][UNREADABLE].all()
    monkeypatch.setenv("AUTOML_MAX_IMAGE_PIXELS", "63")
    assert read_images(pa.array([saved("PNG")], pa.binary()), "here")[1][UNREADABLE].all()


@pytest.mark.parametrize("first", ["2 999999999", "2 99999999999999999999", "2 4"])
def test_vectors_do_not_have_more_numbers_than_they_show(first: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(f"{first}\nword 1 2\n")
    with pytest.raises(UserError, match="more numbers for a word"):
        vector_dimension({"source": str(path)})
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UserError, match="not a regular file"):
        vector_dimension({"source": str(tmp_path / "pipe.txt")})
