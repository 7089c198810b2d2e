"""Submitted runs as whoever submitted them reads them: without a cluster, and copied to this machine."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from automl.cli import _conclude, app
from automl.cluster import commands, service
from automl.cluster.address import ADDRESS
from automl.cluster.archive import archive
from automl.cluster.commands import say_what_is_next
from automl.cluster.job import SUBMITTED
from automl.cluster.local import _removed
from automl.cluster.render import status_text
from automl.cluster.run_table import run_table
from automl.cluster.status import RunStatus, list_status, read_status, with_job
from automl.cluster.submission import Runs, Submission
from automl.runs import RunResult
from automl.search.journal import open_study
from automl.space import UserError
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.conftest import copy_run
from tests.results.conftest import record_trials

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cluster is named, and the folder that the command is in has no runs."""
    for name in (ADDRESS, "AUTOML_RUNS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def submitted(finished: RunDirectory, folder: Path, name: str = "mine", **manifest: Any) -> Runs:
    """A folder of submitted runs with a copy of a finished one, which says `manifest` of itself."""
    runs = Runs(str(folder / "all runs"))
    Path(runs.run(".submissions")).mkdir(parents=True, exist_ok=True)
    runs.write(Submission(name, "ann", {"team": "a"}, "2026-01-02T03:04:05+00:00", "space.yaml", jobs=[f"{name}.1"]))
    run = copy_run(finished, Path(runs.run(name)))
    write_json(run.manifest, {**read_json(run.manifest), **manifest})
    return runs


def in_the_middle(finished: RunDirectory, folder: Path, **manifest: Any) -> Runs:
    """The same with three trials under way."""
    runs = submitted(finished, folder)
    run = RunDirectory(Path(runs.run("mine")))
    record_trials(run, trials=10, epochs=4, reasons={1: "it broke"}, unfinished=3)
    write_json(run.manifest, {**read_json(run.manifest), "status": "running", **manifest})
    study = open_study(run, modes=["max"]).study
    assert sum(not trial.state.is_finished() for trial in study.trials) == 1
    return runs


def shown(status: RunStatus) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(status_text(status, {}), run_table([status], ""))
    assert max(map(len, out.getvalue().splitlines())) <= 80
    return out.getvalue()


def automl(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "80"})


def test_runs_are_read_without_a_cluster(finished: RunDirectory, tmp_path: Path) -> None:
    runs = submitted(finished, tmp_path)
    listed = automl("jobs", "--runs", runs.place, "--json")
    assert [each["name"] for each in json.loads(listed.stdout)] == ["mine"]
    status = automl("status", "mine", "--runs", runs.place, "--json")
    found = json.loads(status.stdout)
    assert (found["state"], found["trials"]["budget"], found["cluster"]) == ("finished", 10, {})
    assert "finished" in automl("status", "mine", "--runs", runs.place).stdout
    fetched = automl("fetch", "mine", "--runs", runs.place)
    assert (fetched.stdout, fetched.stderr) == ("runs/mine\n", "")


@pytest.mark.parametrize("action", [["jobs"], ["status", "mine"], ["fetch", "mine"]])
def test_without_a_cluster_and_without_runs_it_is_said_what_to_name(action: list[str], tmp_path: Path) -> None:
    for runs in ([], ["--runs", tmp_path / "nothing"]):
        ended = automl(*action, *runs)
        assert isinstance(ended.exception, UserError)
        assert "--address" in str(ended.exception) and ADDRESS in str(ended.exception)
        assert not runs or "nothing" in str(ended.exception)


@pytest.mark.parametrize("action", ["status", "fetch"])
def test_a_run_that_is_not_there(finished: RunDirectory, tmp_path: Path, action: str) -> None:
    runs = submitted(finished, tmp_path)
    ended = automl(action, "other", "--runs", runs.place)
    assert isinstance(ended.exception, UserError) and "no run other was submitted" in str(ended.exception)


def test_a_name_is_resumed_on_the_cluster_that_the_environment_names(
    finished: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(service, "resume", lambda cluster, name, arguments: asked.append((cluster, name)) or name)
    monkeypatch.setattr(commands.service, "resume", service.resume)
    assert isinstance(automl("resume", "mine").exception, UserError)
    monkeypatch.setenv(ADDRESS, "http://127.0.0.1:1")
    assert automl("resume", "mine", "--trials", 3).stdout == "mine\n"
    assert [(cluster.address, name) for cluster, name in asked] == [("http://127.0.0.1:1", "mine")]
    for place in (tmp_path / "run", "runs/mine"):  # a place is gone on with here, whatever the environment names
        assert "there is no run directory" in str(automl("resume", place).exception)
    copy_run(finished, Path("mine"))
    assert commands.address_of("mine") is None
    assert commands.address_of("s3://bucket/mine") is None
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("manifest", "job", "state", "words"),
    [
        ({"status": "interrupted", "reason": "interrupted"}, "STOPPED", "interrupted", "interrupted\n"),
        ({"status": "interrupted", "reason": "the disk is full"}, "STOPPED", "interrupted", ": the disk is full"),
        ({"status": "running"}, "FAILED", "lost", "lost: its driver is gone"),
        ({"status": "running"}, None, "lost", "lost: its driver is gone"),
    ],
)
def test_a_run_that_nobody_drives_has_no_running_trials(
    finished: RunDirectory, tmp_path: Path, manifest: dict[str, str], job: str | None, state: str, words: str
) -> None:
    runs = in_the_middle(finished, tmp_path, **manifest)
    found = with_job(read_status(runs, "mine"), job)
    assert found.state == state and found.trials is not None
    assert (found.trials["running"], found.trials["waiting"], found.trials["paused"]) == (0, 0, 0)
    assert found.trials["unfinished"] == 1
    said = "\n".join(line.rstrip() for line in shown(found).splitlines())
    assert words in f"{said}\n"
    assert "1 unfinished" in said and "running" not in said
    assert "automl resume mine" in said
    assert said.split().count("interrupted") <= 2  # once in the table


def test_a_run_that_goes_on_does_not_say_why_it_was_stopped(finished: RunDirectory, tmp_path: Path) -> None:
    runs = in_the_middle(finished, tmp_path, reason="interrupted")
    for found in (*list_status(runs), read_status(runs, "mine")):
        assert (found.state, found.reason) == ("running", "")
    stopped = submitted(finished, tmp_path / "b", status="interrupted", reason="interrupted")
    assert (with_job(read_status(stopped, "mine"), "PENDING").state, found.reason) == ("running", "")


def test_trials_that_wait_are_not_running(finished: RunDirectory, tmp_path: Path) -> None:
    waits_for = "1 CPU; the cluster's 2 are in use"
    runs = in_the_middle(finished, tmp_path, waiting={"trials": 1, "running": 0, "waits_for": waits_for})
    for found in (*list_status(runs), read_status(runs, "mine")):
        assert with_job(found, "RUNNING") == found
        assert (found.state, found.reason) == ("waiting", waits_for)
    assert found.trials is not None and (found.trials["running"], found.trials["waiting"]) == (0, 1)
    assert "not asked, so whether the driver still lives is not known" in shown(found)
    assert f"waiting for {waits_for}" in shown(found) and "1 waiting" in shown(found)
    busy = replace(found, state="running", reason="", trials={**found.trials, "running": 3})
    assert "3 running, 1 waiting" in shown(busy)


def test_a_copy_of_a_run_that_has_not_ended_is_partial_and_is_brought_up_to_date(
    finished: RunDirectory, tmp_path: Path
) -> None:
    runs = in_the_middle(finished, tmp_path)
    source = Path(runs.run("mine"))
    again = ("fetch", "mine", "--runs", runs.place)
    first = automl(*again)
    assert first.stdout == "runs/mine\n"
    assert "partial" in first.stderr and "automl fetch mine again" in first.stderr
    copy = Path("runs/mine")
    (copy / "exported").mkdir()
    (copy / "exported" / "model.onnx").write_text("made here")
    packed, member = copy / "trials" / "0" / "packed" / "config.json", copy / "best_model" / "members" / "9" / "encoder"
    for path in (packed, member):
        path.parent.mkdir(parents=True)
        path.touch()
    weights = RunDirectory(source).trial(0).weights
    weights.unlink(missing_ok=True)
    RunDirectory(copy).trial(0).weights.touch()
    run = RunDirectory(source)
    write_json(run.manifest, {**read_json(run.manifest), "status": "finished"})
    with run.journal.open("a") as file:
        file.write("\n")
    second = automl(*again)
    assert (second.stdout, second.stderr) == ("runs/mine\n", "")
    assert read_json(RunDirectory(copy).manifest)["status"] == "finished"
    assert RunDirectory(copy).journal.read_bytes() == run.journal.read_bytes()
    assert not RunDirectory(copy).trial(0).weights.exists()
    assert (copy / "exported" / "model.onnx").read_text() == "made here"
    assert packed.exists() and not member.exists()
    assert automl(*again).stdout == "runs/mine\n"


def test_what_is_no_copy_or_was_gone_on_with_here_is_not_replaced(finished: RunDirectory, tmp_path: Path) -> None:
    runs = submitted(finished, tmp_path)
    submitted(finished, tmp_path, name="other")
    automl("fetch", "mine", "--runs", runs.place)
    ended = automl("fetch", "other", "--runs", runs.place, "--output", "runs/mine")
    assert "exists already" in str(ended.exception) and "--output" in str(ended.exception)
    copy = RunDirectory(Path("runs/mine"))
    write_json(copy.manifest, {**read_json(copy.manifest), "status": "running"})
    assert "gone on with on this machine" in str(automl("fetch", "mine", "--runs", runs.place).exception)
    Path("plain").mkdir()
    ended = automl("fetch", "mine", "--runs", runs.place, "--output", "plain")
    assert "exists already" in str(ended.exception)
    assert list(Path("plain").iterdir()) == []
    other = automl("fetch", "other", "--runs", runs.place)
    assert other.stdout == "runs/other\n"
    outside = tmp_path / "outside"
    outside.mkdir()
    (Path("runs/other") / "link").symlink_to(outside)
    assert "leads out of it" in str(automl("fetch", "other", "--runs", runs.place).exception)


def test_a_run_that_has_not_begun_is_not_fetched(finished: RunDirectory, tmp_path: Path) -> None:
    runs = submitted(finished, tmp_path)
    RunDirectory(Path(runs.run("mine"))).manifest.unlink()
    assert "has not begun" in str(automl("fetch", "mine", "--runs", runs.place).exception)
    assert not Path("runs/mine").exists()


def test_files_that_go_while_a_run_is_archived_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    assert archive(tmp_path, [tmp_path / "gone", tmp_path / "a"])


@pytest.mark.parametrize("status", ["finished", "interrupted", "failed"])
def test_the_log_of_a_driver_ends_with_what_the_submitter_can_type(
    finished: RunDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setenv(SUBMITTED, "mine")
    try:
        _conclude(RunResult(finished.path, status, "the cause"), None)
    except Exception as end:
        assert type(end).__name__ == "Exit" and status != "finished"
    said = capsys.readouterr().err
    for action in ("status mine", "fetch mine", "leaderboard runs/mine", "predict runs/mine"):
        assert f"automl {action}" in said
    assert str(finished.path) not in said
    assert (status == "interrupted") == ("automl resume mine" in said)
    assert max(map(len, said.splitlines())) <= 80


def test_a_run_without_a_model_is_not_to_predict(capsys: pytest.CaptureFixture[str]) -> None:
    say_what_is_next("mine", model=False)
    assert "predict" not in capsys.readouterr().err


def test_the_token_of_a_local_cluster_goes_with_it_and_runs_stay(tmp_path: Path) -> None:
    for kept in (False, True):
        folder = tmp_path / str(kept)
        runs, token = folder / "runs", folder / "token"
        runs.mkdir(parents=True)
        token.write_text("secret")
        with pytest.raises(KeyboardInterrupt), _removed(token, runs, folder):
            if kept:
                (runs / "mine").mkdir()
            raise KeyboardInterrupt
        assert not token.exists()
        assert folder.exists() == kept == (runs / "mine").exists()
    assert "/local-cluster/" in (Path(__file__).parents[2] / ".gitignore").read_text().splitlines()
