"""Broken files and what is said about each: `python -m tests.space.test_broken_files` writes the messages again."""

from __future__ import annotations

from pathlib import Path

import pytest

from automl.models import FAMILIES
from automl.space import SpaceError, UserError, load

FOLDER = Path(__file__).parent / "broken"
FILES = sorted(FOLDER.glob("*.yaml"))


def said_about(path: Path) -> str:
    try:
        load(path, FAMILIES)
    except SpaceError as error:
        return str(error).replace(f"{FOLDER}/", "") + "\n"
    raise AssertionError(f"{path} is valid")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_broken_file_is_explained(path: Path) -> None:
    assert said_about(path) == path.with_suffix(".txt").read_text(encoding="utf-8")


def test_there_are_many() -> None:
    assert len(FILES) >= 30


def test_encodings(tmp_path: Path) -> None:
    text = "name: café\ndata: {train: t.csv}\nmodel: {cnn: {}}\n"
    for encoding in ("utf-16", "latin-1"):
        path = tmp_path / f"{encoding}.yaml"
        path.write_bytes(text.encode(encoding))
        with pytest.raises(UserError, match="the file is not UTF-8 text; save it as UTF-8"):
            load(path, FAMILIES)


if __name__ == "__main__":
    for file in FILES:
        file.with_suffix(".txt").write_text(said_about(file), encoding="utf-8")
