"""Images that a table names by path: another file, or another content, is another data set; what is wrong is named."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from automl.data import DenseRows, Prepared, fingerprint, prepare
from automl.data.fingerprint import fingerprint_files
from automl.data.images import read_images
from automl.space import UserError
from tests.data.settings import IMAGES, SERIES, settings_for

ROWS = 12


def images(folder: Path, level: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(ROWS):
        Image.fromarray(np.full((4, 4), level + number, dtype=np.uint8)).save(folder / f"{number}.png", format="BMP")
    return folder


def table(path: Path, kind: str, names: list[str]) -> Path:
    labels = ["a", "b"] * (len(names) // 2)
    if kind == "parquet":
        pq.write_table(pa.table({"image": names, "label": labels}), path)
    elif kind == "struct":
        pq.write_table(pa.table({"image": [{"bytes": None, "path": name} for name in names], "label": labels}), path)
    else:
        path.write_text("image,label\n" + "".join(f"{n},{one}\n" for n, one in zip(names, labels, strict=True)))
    return path


def prepared_of(path: Path, cache: Path, **changes: Any) -> Prepared:
    return prepare(settings_for(path, IMAGES, **changes), seed=0, cache=cache)


def levels(prepared: Prepared) -> set[int]:
    rows = [prepared.rows(split) for split in ("train", "validation")]
    return {int(each) for part in rows if isinstance(part, DenseRows) for each in np.unique(part.values)}


@pytest.mark.parametrize("kind", ["csv", "parquet", "struct"])
@pytest.mark.parametrize("damaged", ["fail", "report"])
def test_the_same_table_in_another_folder_is_of_other_images(
    kind: str, damaged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for place, level in (("one", 10), ("two", 100)):
        images(tmp_path / place / "img", level)
        monkeypatch.chdir(tmp_path / place)
        name = "t.csv" if kind == "csv" else "t.parquet"
        table(Path(name), kind, [f"img/{number}.png" for number in range(ROWS)])
        found.append(prepared_of(Path(name), tmp_path / "cache", on_bad_rows=damaged))
    assert [min(levels(each)) for each in found] == [10, 100]
    assert found[0].files != found[1].files


@pytest.mark.parametrize("as_folder", [False, True])
def test_images_overwritten_in_place_are_seen(as_folder: bool, tmp_path: Path) -> None:
    folder = images(tmp_path / "img" / "a", 10)
    other = images(tmp_path / "img" / "b", 60)
    names = [str(path) for path in sorted(folder.iterdir())]
    train = tmp_path / "img" if as_folder else table(tmp_path / "t.csv", "csv", names)
    before = prepared_of(train, tmp_path / "cache")
    again = prepared_of(train, tmp_path / "cache")
    assert again.fingerprint == before.fingerprint
    path = folder / "3.png"
    state = path.stat()
    content = path.read_bytes()
    Image.fromarray(np.full((4, 4), 200, dtype=np.uint8)).save(path, format="BMP")
    assert len(path.read_bytes()) == len(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # the same size and time as before
    after = prepared_of(train, tmp_path / "cache")
    assert after.fingerprint != before.fingerprint and 200 in levels(after)
    path.unlink()
    gone = prepared_of(train, tmp_path / "cache", on_bad_rows="report")
    assert gone.fingerprint != after.fingerprint and other.is_dir()


@pytest.mark.parametrize("as_folder", [False, True])
def test_images_that_have_not_changed_are_not_read_again(
    as_folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = images(tmp_path / "img" / "a", 10)
    train = (
        tmp_path / "img" if as_folder else table(tmp_path / "t.csv", "csv", [str(each) for each in folder.iterdir()])
    )
    data = settings_for(train, IMAGES)
    cache = tmp_path / "cache"
    cache.mkdir()
    later = time.time_ns() + 10**10
    monkeypatch.setattr(time, "time_ns", lambda: later)
    first = fingerprint_files(data, cache)

    def never(path: Path) -> bytes:
        raise AssertionError(path)

    monkeypatch.setattr(fingerprint, "open_image", never)
    assert fingerprint_files(data, cache) == first


def test_what_changes_while_it_is_read_is_no_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from automl.data import prepared

    folder = images(tmp_path / "img", 10)
    train = table(tmp_path / "t.csv", "csv", [str(each) for each in sorted(folder.iterdir())])
    write = prepared.write_source

    def write_slowly(*args: Any) -> None:
        write(*args)
        images(folder, 90)

    monkeypatch.setattr(prepared, "write_source", write_slowly)
    with pytest.raises(UserError, match="changed while they were read"):
        prepared_of(train, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("source-*/"))


def test_absent_and_damaged_files_are_named(tmp_path: Path) -> None:
    folder = images(tmp_path / "img", 10)
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:40])
    (folder / "3.png").unlink()
    (folder / "4.png").unlink()
    (folder / "4.png").mkdir()
    train = table(tmp_path / "t.csv", "csv", [str(folder / f"{number}.png") for number in range(ROWS)])
    with pytest.raises(UserError) as raised:
        prepared_of(train, tmp_path / "cache")
    said = str(raised.value)
    assert f"1 with a path to a file that is not there in column 'image' (line 5: {folder}/3.png: No such file" in said
    assert f"2 with an image that cannot be decoded in column 'image' (line 4: {folder}/2.png: " in said
    assert f"line 6: {folder}/4.png: {folder}/4.png is not a regular file)" in said
    _, unusable = read_images(pa.array(["nowhere.png"]), "here")
    assert [reason for reason, those in unusable.items() if those.any()] == ["a path to a file that is not there"]


def test_no_usable_row_says_why(tmp_path: Path) -> None:
    train = table(tmp_path / "t.csv", "csv", ["nowhere/1.png", "nowhere/2.png"])
    with pytest.raises(
        UserError, match=r"no usable row: 2 with a path to a file that is not there \(first line 2 of .*1.png"
    ):
        prepared_of(train, tmp_path / "cache", on_bad_rows="report")
    train.write_text("text,label\n,a\n,b\nx,\n")
    with pytest.raises(
        UserError, match=r"no usable row: 2 with no text \(first line 2 of .*; 1 with no label \(first line 4"
    ):
        prepare(settings_for(train, on_bad_rows="report"), seed=0, cache=tmp_path / "cache")


def test_series_say_what_is_wrong_with_them(tmp_path: Path) -> None:
    train = tmp_path / "t.csv"
    cells = ["[1, NaN]", "[1, [2]]", "12", "words", "[[1, 2], [3, 4]]"]
    train.write_text("series,label\n" + "".join(f'"{cell}",a\n' for cell in cells))
    with pytest.raises(UserError) as raised:
        prepare(settings_for(train, SERIES), seed=0, cache=tmp_path / "cache")
    for words in ("line 2: step 2 is nan", "line 4: no list of numbers", "line 5: no list"):
        assert words in str(raised.value)


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(
        UserError, match=r"cannot keep prepared data in .*; set the environment variable AUTOML_CACHE to"
    ):
        prepare(settings_for(tmp_path / "t.csv"), seed=0, cache=blocked / "cache")
