"""Folders of images as people have them: what is a class, what is not used, and that it is said."""

from __future__ import annotations

import io
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from automl.checking import check_space
from automl.data import Prepared, prepare
from automl.data.folders import Unused, walk
from automl.data.found import folder_sentences
from automl.data.image_folder import survey
from automl.data.tables import find_files
from automl.profiling import profile_data
from automl.results.report_data import data_profile
from automl.space import UserError, load
from automl.space.families import FAMILIES
from tests.data.settings import IMAGES, settings_for


def fill(folder: Path, count: int = 6, ending: str = "png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        values = np.random.default_rng([number, *map(ord, folder.name)]).integers(0, 256, (4, 4), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number}.{ending}", format="PNG")
    return folder


def prepared_of(folder: Path, tmp_path: Path, **changes: Any) -> Prepared:
    return prepare(settings_for(folder, IMAGES, **changes), seed=0, cache=tmp_path / "cache")


def said(prepared: Prepared) -> str:
    return "\n".join(prepared.profile["warnings"])


def test_the_folders_at_the_top_are_the_classes_however_deep_the_images_lie(tmp_path: Path) -> None:
    for colour in ("blue", "red"):
        for batch in ("batch0", "batch1"):
            fill(tmp_path / "colours" / colour / batch)
    prepared = prepared_of(tmp_path / "colours", tmp_path)
    assert prepared.classes == ("blue", "red")
    assert "each of its 2 own folders is a class; the folders within them (batch0, batch1) are not" in said(prepared)


def test_what_is_hidden_or_a_systems_own_is_neither_class_nor_image(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    for name in ("cat", "dog", ".ipynb_checkpoints", "__MACOSX", "cat/.thumbnails", "cat/@eaDir"):
        fill(folder / name)
    for name in (".DS_Store", "cat/Thumbs.db", "dog/._1.png", "dog/desktop.ini"):
        (folder / name).write_bytes(b"x")
    prepared = prepared_of(folder, tmp_path)
    assert prepared.classes == ("cat", "dog") and sum(prepared.profile["rows"].values()) == 12
    assert "8 hidden or a system's own (.DS_Store, .ipynb_checkpoints, __MACOSX, ...)" in said(prepared)


def test_links_are_followed_and_those_that_lead_nowhere_or_back_are_said(tmp_path: Path) -> None:
    fill(tmp_path / "pets" / "cat")
    fill(tmp_path / "elsewhere" / "dogs")
    (tmp_path / "pets" / "dog").symlink_to(tmp_path / "elsewhere" / "dogs")
    (tmp_path / "pets" / "cat" / "again").symlink_to(tmp_path / "pets")
    (tmp_path / "pets" / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pets" / "cat" / "pipe.png")
    prepared = prepared_of(tmp_path / "pets", tmp_path)
    assert prepared.classes == ("cat", "dog") and sum(prepared.profile["rows"].values()) == 12
    assert "2 a link that leads nowhere or back (cat/again/, cat/gone.png)" in said(prepared)
    assert "1 no regular file (cat/pipe.png)" in said(prepared)


def test_links_that_multiply_are_bounded(tmp_path: Path) -> None:
    levels = [tmp_path / "deep" / "a", *(tmp_path / f"level{number}" for number in range(20))]
    for here, following in pairwise(levels):
        here.mkdir(parents=True, exist_ok=True)
        for name in ("one", "two", "three"):
            (here / name).symlink_to(following)
    fill(levels[-1], 1)
    assert len(list(walk(tmp_path / "deep", Unused()))) == 1
    assert len(survey(tmp_path / "deep").labelled) == 1


def test_files_that_cannot_be_read_and_classes_without_images_are_said(tmp_path: Path) -> None:
    fill(tmp_path / "pets" / "cat")
    fill(tmp_path / "pets" / "dog")
    fill(tmp_path / "pets" / "bird", ending="heic")
    (tmp_path / "pets" / "empty").mkdir()
    fill(tmp_path / "pets", 2)
    prepared = prepared_of(tmp_path / "pets", tmp_path)
    assert prepared.classes == ("cat", "dog")
    for words in (
        "6 an ending that is not read (.heic) (bird/0.heic, bird/1.heic, bird/2.heic, ...)",
        "2 in no class's folder (0.png, 1.png)",
        "2 a class's folder without an image (bird/, empty/)",
    ):
        assert words in said(prepared)
    facts = dict(data_profile(prepared.profile).facts)
    assert "bird/0.heic" in facts["Folders"]


def test_check_and_data_say_it_too(tmp_path: Path) -> None:
    fill(tmp_path / "pets" / "cat")
    fill(tmp_path / "pets" / "dog")
    fill(tmp_path / "pets" / "bird", ending="heic")
    path = tmp_path / "space.yaml"
    path.write_text(
        f"name: x\ntask: image_classification\ndata: {{train: {tmp_path}/pets}}\nmodel: {{image_cnn: {{}}}}\n"
    )
    spec = load(path, FAMILIES)
    assert any("bird/0.heic" in warning for warning in check_space(spec, 1).warnings)
    console = Console(file=io.StringIO(), width=200)
    profile = profile_data(spec)
    console.print(profile.as_text())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "bird/0.heic" in text and "12 images in the folders of 2 classes" in text


def test_folders_of_splits_and_a_folder_around_the_classes_are_refused_with_advice(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            fill(tmp_path / "photos" / split / name)
    with pytest.raises(UserError, match=r"has a folder for each split, test and train, where .* train: .*photos/test"):
        prepared_of(tmp_path / "photos", tmp_path)
    with pytest.raises(UserError, match=r"one class only: 'photos'.*the folders within them .* are not"):
        fill(tmp_path / "around" / "photos" / "cat")
        fill(tmp_path / "around" / "photos" / "dog")
        prepared_of(tmp_path / "around", tmp_path)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "pets" / "cat")
    fill(tmp_path / "pets" / "dog")
    (tmp_path / "pets" / "cat" / "0.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"1 with an image that cannot be decoded .*row 1: .*pets/cat/0.png: "):
        prepared_of(tmp_path / "pets", tmp_path)
    for name in ("cat", "dog"):
        for file in (tmp_path / "pets" / name).iterdir():
            file.write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"no usable row: 12 with an image that cannot .*first row 1 of .*cat/0.png: "):
        prepared_of(tmp_path / "pets", tmp_path, on_bad_rows="report")


def test_folders_of_tables_leave_hidden_ones_out_and_say_so(tmp_path: Path) -> None:
    for name in (
        "a.csv",
        "sub/b.csv",
        ".ipynb_checkpoints/a-checkpoint.csv",
        "__MACOSX/._a.csv",
        "_old/c.csv",
        "d.xlsx",
    ):
        (tmp_path / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / name).write_text("text,label\n" + "one,a\ntwo,b\nthree,a\nfour,b\n" * 3)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "e.csv").write_text("text,label\nfive,a\n")
    (tmp_path / "t" / "linked").symlink_to(tmp_path / "more")
    names = [str(file.relative_to(tmp_path / "t")) for file in find_files([str(tmp_path / "t")])]
    assert names == ["a.csv", "linked/e.csv", "sub/b.csv"]
    prepared = prepare(settings_for(tmp_path / "t"), seed=0, cache=tmp_path / "cache")
    (line,) = folder_sentences(prepared.profile["folders"])
    assert "(.ipynb_checkpoints, __MACOSX, _old/c.csv)" in line and "(.xlsx) (d.xlsx)" in line
    assert line in prepared.profile["warnings"]
    with pytest.raises(UserError, match=r"nor an image \(it has files: 6 with .heic\)"):
        find_files([str(fill(tmp_path / "heic", ending="heic"))])
