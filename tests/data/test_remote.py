"""Data that lies in a store: found, fetched once, and prepared as if it were here."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from automl.data import prepare
from automl.data.fingerprint import fingerprint_files
from automl.data.remote import find_remote
from automl.data.store import Store
from automl.data.tables import find_files
from automl.space import UserError
from tests.data.settings import IMAGES, rows, settings_for
from tests.data.test_images import picture


@pytest.fixture
def place(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The URL of a folder with two shards and a packed file."""
    monkeypatch.setenv("AUTOML_CACHE", str(tmp_path / "cache"))
    store = Store(f"{bucket}/{tmp_path.name}")
    for number in range(2):
        pq.write_table(pa.Table.from_pylist(rows(40)[number::2]), tmp_path / "shard.parquet")
        store.put(tmp_path / "shard.parquet", f"train/part-{number}.parquet")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"text,label\nword1 and 1,no\nword2,yes\n"))
    store.put(tmp_path / "t.csv.gz", "test/t.csv.gz")
    return store.url


def test_files_folders_and_globs_are_found(place: str) -> None:
    parts = [f"{place}/train/part-{number}.parquet" for number in range(2)]
    assert list(find_remote(parts[0])) == parts[:1]
    for named in ("train", "train/", "*/part-*.parquet", "**/part-?.parquet"):
        assert list(find_remote(f"{place}/{named}")) == parts
    for missing in (f"{place}/nothing", f"{place}/train/*.csv"):
        with pytest.raises(UserError, match="there is no file at s3://bucket"):
            find_remote(missing)


def test_remote_files_are_prepared_as_local_ones(place: str, tmp_path: Path) -> None:
    data = settings_for(f"{place}/train/*.parquet", test=[f"{place}/test/t.csv.gz"])
    prepared = prepare(data, seed=0, cache=tmp_path / "cache")
    assert prepared.profile["rows"] == {"train": 30, "validation": 10, "test": 2}
    local = [str(path) for path in find_files(data["train"])]
    assert [Path(path).read_bytes()[:4] for path in local] == [b"PAR1"] * 2
    here = prepare(
        {**data, "train": local, "test": [str(find_files(data["test"])[0])]}, seed=0, cache=tmp_path / "here"
    )
    assert here.texts("train") == prepared.texts("train")


def test_a_folder_of_images_is_prepared_as_a_local_one(bucket: str, tmp_path: Path) -> None:
    store = Store(f"{bucket}/{tmp_path.name}/pets/train")
    for number in range(12):
        path = tmp_path / "pets" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
        store.put(path, f"{path.parent.name}/{path.name}")
    store.put(path, "cat/.hidden.png")
    (tmp_path / "notes.txt").write_text("no image")
    store.put(tmp_path / "notes.txt", "notes.txt")
    here = prepare(settings_for(tmp_path / "pets", IMAGES), seed=0, cache=tmp_path / "here")
    there = prepare(settings_for(f"{store.url}/", IMAGES), seed=0, cache=tmp_path / "there")
    assert there.classes == ("cat", "dog") and there.inputs("train") == here.inputs("train")
    store.put(tmp_path / "pets" / "dog" / "1.png", "dog/13.png")
    again = prepare(settings_for(store.url, IMAGES), seed=0, cache=tmp_path / "there")
    assert sum(again.profile["rows"].values()) == 13 and again.fingerprint != there.fingerprint
    with pytest.raises(UserError, match="names no file that ends in"):
        find_files([f"{store.url}/cat/*.png"])


def test_a_file_is_fetched_once_and_again_when_it_has_changed(place: str, tmp_path: Path) -> None:
    data: dict[str, Any] = settings_for(f"{place}/test/t.csv.gz")
    before = fingerprint_files(data, tmp_path)
    assert not (tmp_path / "cache" / "sources").exists()  # that takes no look at the content
    (first,) = find_files(data["train"])
    (again,) = find_files(data["train"])
    assert first == again and fingerprint_files(data, tmp_path) == before
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"text,label\nother,no\n"))
    Store(f"{place}/test").put(tmp_path / "t.csv.gz", "t.csv.gz")
    (changed,) = find_files(data["train"])
    assert changed != first and fingerprint_files(data, tmp_path) != before


def test_any_url_that_fsspec_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_CACHE", str(tmp_path / "cache"))
    with fsspec.open("memory://folder/t.csv", "wb") as file:
        file.write(b"text,label\na,x\nb,y\n")
    (path,) = find_files(["memory://folder/t.csv"])
    assert path.read_bytes().startswith(b"text,label")
    with pytest.raises(UserError, match="cannot use the store nonsense://folder"):
        find_files(["nonsense://folder/t.csv"])
