"""A run from elsewhere is read without being followed: no connection, no import, no file outside, unless asked for."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torchmetrics.functional.classification  # noqa: F401  (imports Matplotlib, which makes a folder of its own at first)

import automl
from automl.cli import main
from automl.results.finalists import prepared_data
from automl.results.study import read_run
from automl.space import UserError
from automl.training.run_directory import Allowed, RunDirectory, read_json, write_json
from tests.audit import audited
from tests.conftest import copy_run

pytestmark = pytest.mark.ray

MODULE = "raise SystemExit('imported')"


@contextmanager
def listening() -> Iterator[tuple[str, list[bool]]]:
    """The address of a socket that nobody may connect to, and afterwards whether someone has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        came: list[bool] = []
        yield f"127.0.0.1:{server.getsockname()[1]}", came
        try:
            server.accept()
            came.append(True)
        except TimeoutError:
            came.append(False)


def change(run: RunDirectory, **entries: Any) -> None:
    write_json(run.manifest, {**read_json(run.manifest), **entries})


def point_data_at(run: RunDirectory, place: str) -> None:
    """Let every trial, and the file, name `place` as the train data."""
    folder = next(iter(read_run(run).ranked)).config["data"]["train"][0]
    for path in (run.journal, run.space):
        path.write_text(path.read_text().replace(folder, place))


def words_of(run: RunDirectory, other: RunDirectory, rows: Path) -> list[list[str]]:
    return [
        ["leaderboard", str(run.path)],
        ["leaderboard", str(run.path), "--format", "json"],
        ["leaderboard", "--compare", str(run.path), str(other.path)],
        ["leaderboard", "--compare", str(other.path), str(run.path)],
        ["report", str(run.path)],
        ["predict", str(run.path), str(rows)],
        ["evaluate", str(run.path), str(rows)],
        ["export", str(run.path), "--format", "torch"],
        ["compress", str(run.path), "--epochs", "1"],
    ]


@pytest.fixture
def stranger(finished: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A run that names places on this machine and in a network, beside a module that nobody named."""
    run = copy_run(finished, tmp_path / "stranger")
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "stranger_module.py").write_text(MODULE)
    (run.path / "stranger_module.py").write_text(MODULE)
    space = run.space.read_text().replace("model:\n", 'model:\n  "stranger_module:net": {}\n')
    run.space.write_text(space)
    change(run, space_file=str(beside / "space.yaml"), working_directory=str(beside))
    return run


def test_no_command_connects_imports_or_writes_elsewhere(
    stranger: RunDirectory, finished: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that has been measured is gone, so that every command has a reason to ask for the data."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a good day", "label": "positive"}\n{"text": "a bad day", "label": "negative"}\n')
    cache = tmp_path / "cache"
    monkeypatch.setenv("AUTOML_CACHE", str(cache))
    monkeypatch.delenv("AUTOML_STUDY", raising=False)
    with listening() as (address, came):
        point_data_at(stranger, f"http://{address}/data/train.jsonl")
        change(stranger, prepared=str(tmp_path / "beside" / "prepared" / "x"))
        for path in (stranger.finalists, stranger.examination, stranger.predictions):
            path.unlink()
        before = {path: path.read_bytes() for path in (tmp_path / "beside").rglob("*") if path.is_file()}
        for words in words_of(stranger, finished, rows):
            with audited([stranger.path, cache, Path("/tmp")]) as offences, pytest.raises(SystemExit):
                main(words)
            assert offences == [], words
    assert came == [False]
    assert "stranger_module" not in sys.modules
    assert {path: path.read_bytes() for path in (tmp_path / "beside").rglob("*") if path.is_file()} == before


def test_the_report_says_how_its_data_is_taken_from_a_url(
    finished: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_run(finished, tmp_path / "run")
    with listening() as (address, came):
        point_data_at(run, f"http://{address}/train.jsonl?token=open-sesame")
        change(run, prepared=str(tmp_path / "x"))
        run.finalists.unlink()
        with pytest.raises(SystemExit) as ended:
            main(["report", str(run.path)])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and came == [False]
    assert "--fetch-data" in said and f"http://{address}/train.jsonl" in said and "open-sesame" not in said
    assert run.report.exists()
    shown = [run.report, *(run.leaderboard(kind) for kind in ("csv", "json", "md"))]
    assert not any("open-sesame" in each.read_text() for each in shown)


def test_a_run_of_ones_own_is_reported_without_a_flag_from_the_cache_or_from_its_files(
    finished: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_run(finished, tmp_path / "run")
    run.finalists.unlink()
    automl.report(run.path)
    assert run.finalists.exists()
    monkeypatch.setenv("AUTOML_CACHE", str(tmp_path / "empty"))
    run.finalists.unlink()
    automl.report(run.path)
    assert run.finalists.exists()


@pytest.mark.parametrize("recorded", [True, False])
def test_files_are_used_only_while_they_hold_what_the_run_was_made_of(
    finished: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    """A run of an earlier version has no digest of the files, but the fingerprint of what was prepared from them."""
    run = copy_run(finished, tmp_path / "run")
    monkeypatch.setenv("AUTOML_CACHE", str(tmp_path / "empty"))
    train = Path(next(iter(read_run(run).ranked)).config["data"]["train"][0])
    if not recorded:
        data = {name: value for name, value in read_json(run.manifest)["data"].items() if name != "files"}
        change(run, data=data)
    record = read_run(run)
    assert prepared_data(record, record.ranked[0].config).classes == ("negative", "positive")
    monkeypatch.setenv("AUTOML_CACHE", str(tmp_path / "empty again"))
    private = tmp_path / "private.jsonl"
    private.write_text(train.read_text() + '{"text": "my secret", "label": "positive"}\n')
    point_data_at(run, str(private))
    for allowed in (Allowed(), Allowed(data=True)):
        record = read_run(RunDirectory(run.path, allowed=allowed))
        with pytest.raises(UserError, match="has changed since the run began"):
            prepared_data(record, record.ranked[0].config)
    assert not any((tmp_path / "empty again").glob("source-*"))


@pytest.mark.parametrize("entry", ["report.html", "best_model", "compressed", "exported", "trials", "finalists.json"])
def test_nothing_is_written_through_a_link_that_leads_out(
    finished: RunDirectory, tmp_path: Path, entry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, outside = copy_run(finished, tmp_path / "run"), tmp_path / "outside"
    outside.mkdir()
    path = run.path / entry
    if path.is_dir():
        shutil.move(path, outside / entry)
    else:
        (outside / entry).write_text("mine")
        path.unlink(missing_ok=True)
    path.symlink_to(outside / entry)
    before = {each: each.read_bytes() for each in outside.rglob("*") if each.is_file()}
    for words in (["report"], ["compress", "--epochs", "1"], ["export", "--format", "torch"], ["resume", "--quiet"]):
        with pytest.raises(SystemExit) as ended:
            main([words[0], str(run.path), *words[1:]])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert f"{entry} in {run.path}" in said and "remove the link" in said and said.count("\n") == 1, words
    assert {each: each.read_bytes() for each in outside.rglob("*") if each.is_file()} == before


def test_links_inside_a_run_are_fine(finished: RunDirectory, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    (run.path / "same.json").symlink_to("manifest.json")
    assert automl.report(run.path) == run.report


def test_runs_are_compared_without_looking_for_what_their_files_name(
    stranger: RunDirectory, finished: RunDirectory
) -> None:
    found = automl.compare(stranger.path, finished.path).settings
    assert found["model.stranger_module:net"] == ("one of the alternatives", None)
    assert "stranger_module" not in sys.modules


def test_the_file_of_a_run_extends_no_other(stranger: RunDirectory, finished: RunDirectory, tmp_path: Path) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text("kept: not to be shown\n")
    stranger.space.write_text(f"extends: {secret}\n{stranger.space.read_text()}")
    with pytest.raises(UserError, match="extends no other") as raised:
        automl.compare(stranger.path, finished.path)
    assert "not to be shown" not in str(raised.value)


@pytest.mark.parametrize("content", ["not to be shown", "- not to be shown", "kept: not to be shown", "a: [not to be"])
def test_no_line_is_shown_of_a_file_to_which_the_runs_file_is_a_link(
    finished: RunDirectory, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_run(finished, tmp_path / "run")
    (tmp_path / "secret.txt").write_text(f"{content}\n")
    run.space.unlink()
    run.space.symlink_to(tmp_path / "secret.txt")
    with pytest.raises(SystemExit) as ended:
        main(["leaderboard", "--compare", str(finished.path), str(run.path)])
    assert ended.value.code == 2 and "not to be" not in capsys.readouterr().err


def test_a_damaged_run_says_so_in_one_sentence(finished: RunDirectory, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    whole = json.loads(run.manifest.read_text())
    for name, value in {"budget": None, "used": [], "rungs": ["x"], "metric": "secrets", "classes": 3}.items():
        write_json(run.manifest, {**whole, name: value} if name != "classes" else {**whole, "data": {"classes": 3}})
        with pytest.raises(UserError, match=r"manifest\.json is damaged: ") as raised:
            automl.leaderboard(run.path)
        assert "\n" not in str(raised.value)
