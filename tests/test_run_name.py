"""A run's folder is named before anything is done for it, and where nothing comes of it, that is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from automl.cli import main
from automl.run_name import default_places, named
from automl.space import UserError
from automl.training.run_directory import RunDirectory


def test_the_first_line_of_a_run_is_its_folder(finished: RunDirectory) -> None:
    assert (finished.path.parent / "stderr.txt").read_text().splitlines()[0] == "run         run"


def test_a_run_that_cannot_begin_has_written_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text("name: flights\ndata: {train: none.csv}\nmodel: {cnn: {channels: 8}}\n")
    with pytest.raises(SystemExit):
        main(["run", "s.yaml"])
    first, second, *error = capsys.readouterr().err.splitlines()
    place = first.removeprefix("run         ")
    assert place.startswith("runs/flights-") and second == f"nothing was written to {place}"
    assert error[0].startswith("automl: ") and "none.csv" in error[0]
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_others_took_is_named_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second, third, *_ = default_places("flights")
    first.mkdir(parents=True)
    with named([first, second, third], quiet=False) as tell:
        assert capsys.readouterr().err == f"run         {second}\n"
        tell(third)
    assert capsys.readouterr().err == f"run         {third}\n"


def test_a_run_that_has_begun_is_not_said_to_be_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "run"
    with pytest.raises(UserError), named([place], quiet=False) as tell:
        place.mkdir()
        tell(place)
        raise UserError("the disk is full")
    assert capsys.readouterr().err == f"run         {place}\n"


def test_with_quiet_and_where_the_place_is_taken_nothing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for places, quiet in (([tmp_path / "new"], True), ([tmp_path], False)):
        with pytest.raises(UserError), named(places, quiet=quiet):
            raise UserError("taken")
    assert capsys.readouterr().err == ""
