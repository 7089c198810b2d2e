"""The runs of a folder in a list: what each says of itself, chosen, sorted, in every format, and damaged ones."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.cells import cell_len
from typer.testing import CliRunner

from automl.cli import app
from automl.cluster.choosing import KEYS, Choice, choose
from automl.cluster.job import _run
from automl.cluster.status import STATES, RunStatus, list_folder
from automl.cluster.submission import Runs, Submission
from automl.results.study import best_entry, read_run
from automl.space import UserError
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.cluster.test_reading import submitted
from tests.conftest import copy_run
from tests.space.test_printable import hidden

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u200b"


def automl(*arguments: object) -> str:
    said = CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "80"})
    if said.exception:
        raise said.exception
    return said.stdout


def small(folder: Path, finished: RunDirectory, **manifest: Any) -> RunDirectory:
    """A run of which only the manifest is there, which says `manifest` of itself."""
    folder.mkdir(parents=True)
    run = RunDirectory(folder)
    write_json(run.manifest, {**read_json(finished.manifest), **manifest})
    return run


def ago(**span: float) -> str:
    return (datetime.now(UTC) - timedelta(**span)).isoformat(timespec="seconds")


@pytest.fixture
def folder(finished: RunDirectory, tmp_path: Path) -> Iterator[Path]:
    """Runs of several states, scores, owners and ages; one of them is being driven."""
    made = tmp_path / "runs"
    used = {"trials": 12, "seconds": 250.0, "gpu_hours": 0.0}
    budget = {"trials": 40, "time_budget_seconds": 1800.0, "gpu_hours": None, "plateau": None}
    best = {"score": 0.75, "trial": 3, "family": "rnn"}
    small(made / "new", finished, status="running", created=ago(minutes=7), used=used, budget=budget, best=best,
          owner="ann", labels={"team": "search"})  # fmt: skip
    small(made / "old", finished, status="interrupted", created=ago(days=2, hours=1), owner="bob",
          best={**best, "score": 0.9}, labels={"team": "speech", "cost": "a"})  # fmt: skip
    small(made / "gone", finished, status="running", created=ago(hours=3), best=None, owner="ann")
    small(made / "waits", finished, status="running", created=ago(hours=4), best=None, owner="",
          waiting={"trials": 2, "running": 0, "waits_for": "1 CPU"})  # fmt: skip
    (made / "no run").mkdir()
    (made / "notes.txt").write_text("mine")
    with FileLock(made / "new" / "driver.lock"), FileLock(made / "waits" / "driver.lock"):
        yield made


def test_each_run_is_one_line_with_what_matters_the_latest_first(folder: Path) -> None:
    lines = automl("runs", folder).splitlines()
    assert max(map(cell_len, lines)) <= 80
    body = [line.split() for line in lines if line.split()[0] in ("new", "old", "gone", "waits")]
    assert [line[0] for line in body] == ["new", "gone", "waits", "old"]
    assert body[0][1:] == ["ann", "running", "12/40", "0.7500", "4m/30m", "7m", "team=search"]
    assert body[1][1:4] == ["ann", "lost", "10/10"] and body[1][-1] == "3h"
    assert body[2][1] == "waiting"
    assert body[3][2] == "interrupted" and "0.9000" in body[3] and "2d" in body[3]
    assert "best" in lines[0] + lines[1] and "accuracy" in lines[0] + lines[1]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["new", "gone", "waits", "old"]),
        (["--owner", "ann"], ["new", "gone"]),
        (["--label", "team"], ["new", "old"]),
        (["--label", "team=speech", "--label", "cost"], ["old"]),
        (["--state", "lost", "--state", "waiting"], ["gone", "waits"]),
        (["--since", "5h"], ["new", "gone", "waits"]),
        (["--since", "1d12h", "--owner", "bob"], []),
        (["--since", "1w", "--sort", "-age"], ["old", "waits", "gone", "new"]),
        (["--sort", "best"], ["old", "new", "gone", "waits"]),
        (["--sort", "-accuracy"], ["new", "old", "gone", "waits"]),
        (["--sort", "run"], ["gone", "new", "old", "waits"]),
        (["--sort", "state"], ["waits", "new", "old", "gone"]),
    ],
)
def test_runs_are_chosen_and_sorted(folder: Path, words: Sequence[str], names: Sequence[str]) -> None:
    found = json.loads(automl("runs", folder, "--format", "json", *words))
    assert [each["name"] for each in found] == names
    listed = json.loads(automl("jobs", "--runs", submitted_as(folder), "--format", "json", *words))
    there = [each["name"] for each in listed]
    if not {"lost", "state"} & {*words}:  # only the driver's lock tells that
        assert there == names
    if not names:
        assert "none of 4 runs" in automl("runs", folder, *words)


def submitted_as(folder: Path) -> Path:
    """The folder with a record of each run, as if they had been submitted when they began."""
    runs = Runs(str(folder))
    for path in folder.iterdir():
        if (path / "manifest.json").exists():
            said = read_json(path / "manifest.json")
            owner, labels = said.get("owner", ""), said.get("labels", {})
            runs_folder = folder / ".submissions"
            runs_folder.mkdir(exist_ok=True)
            runs.write(Submission(path.name, owner, labels, said["created"], "space.yaml"))
    return folder


def test_less_is_better_of_a_loss_and_metrics_stay_together() -> None:
    def scored(name: str, metric: str, score: float) -> RunStatus:
        best = {"metric": metric, "score": score, "trial": 0, "family": "cnn"}
        return RunStatus(name, "", {}, "", "", "finished", best=best)

    found = [
        scored("a", "loss", 0.5),
        scored("b", "accuracy", 0.1),
        scored("c", "loss", 0.2),
        scored("d", "accuracy", 0.8),
    ]
    assert [each.name for each in choose(found, Choice(sort="best"))] == ["d", "b", "c", "a"]
    for key in KEYS:
        assert len(choose([*found, RunStatus("x", "", {}, "", "", "damaged")], Choice(sort=key))) == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--state", "runing"], "did you mean 'running'"),
        (["--since", "soon"], "expected a time such as"),
        (["--since", "2026-13-01"], "expected a time such as"),
        (["--sort", "bst"], "did you mean 'best'"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(folder: Path, words: Sequence[str], said: str) -> None:
    for command in (["runs", folder], ["jobs", "--runs", folder]):
        with pytest.raises(UserError, match=said):
            automl(*command, *words)


def test_every_format_says_the_same(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(automl("runs", folder, "--format", "csv"))))
    found = json.loads(automl("runs", folder, "--format", "json"))
    assert [row["run"] for row in rows] == [each["name"] for each in found]
    first = rows[0]
    assert (first["owner"], first["labels"], first["state"]) == ("ann", "team=search", "running")
    assert (first["trials"], first["trials_budget"], first["best"], first["metric"]) == ("12", "40", "0.75", "accuracy")
    assert (first["seconds"], first["time_budget_seconds"]) == ("250.0", "1800.0")
    assert found[0]["best"] == {"metric": "accuracy", "score": 0.75, "trial": 3, "family": "rnn"}
    markdown = automl("runs", folder, "--format", "md").splitlines()
    assert len(markdown) == 2 + len(rows) and len({line.count("|") for line in markdown}) == 1


def test_the_list_says_what_status_says(finished: RunDirectory, tmp_path: Path) -> None:
    runs = submitted(finished, tmp_path)
    (listed,) = json.loads(automl("jobs", "--runs", runs.place, "--json"))
    told = json.loads(automl("status", "mine", "--runs", runs.place, "--json"))
    for name in ("state", "reason", "owner", "labels", "best", "used", "budget", "submitted", "started"):
        assert listed[name] == told[name], name
    assert listed["best"]["score"] is not None
    (mine,) = json.loads(automl("runs", runs.place, "--format", "json"))
    assert mine == listed
    for words in (["jobs", "--runs", runs.place], ["runs", runs.place]):
        table = automl(*words)
        assert "ann" in table and "team=a" in table and max(map(cell_len, table.splitlines())) <= 80


def test_a_run_says_its_owner_labels_and_best(finished: RunDirectory, tmp_path: Path) -> None:
    manifest = read_json(finished.manifest)
    assert manifest["best"] == best_entry(read_run(finished))
    (found,) = list_folder(finished.path)
    assert (found.state, found.owner) == ("finished", manifest["owner"]) and found.best is not None
    older = copy_run(finished, tmp_path / "older")
    del manifest["best"], manifest["owner"], manifest["labels"]
    write_json(older.manifest, manifest)
    (again,) = list_folder(older.path)
    assert again.best == found.best  # of the leaderboard
    older.leaderboard("csv").write_text("rank,score\n1,0x\n")
    assert list_folder(older.path)[0].best is None


def test_a_submitted_run_knows_whose_it_is() -> None:
    asked = Submission("mine", "ann b", {"team": "a=b"}, "", "space.yaml", ["--set", "search.trials=3"])
    words = _run(asked, Runs("s3://bucket/runs"))
    assert "--owner=ann b" in words and "--label=team=a=b" in words
    assert words[-2:] == ["--set", "search.trials=3"]


def damage(folder: Path, finished: RunDirectory) -> dict[str, str]:
    """Runs that cannot be read, with the states in which they are."""

    def of(name: str) -> RunDirectory:
        (folder / name).mkdir(parents=True)
        return RunDirectory(folder / name)

    of("half").space.write_text("name: x\n")
    of("cut").manifest.write_text('{"schema_version": 1, "me')
    of("other").manifest.write_text('{"schema_version": 1, "metric": 3}')
    of("list").manifest.write_text("[]")
    write_json(of("later").manifest, {**read_json(finished.manifest), "schema_version": 99})
    os.truncate(small(folder / "huge", finished).manifest, 1 << 40)
    os.mkfifo(of("pipe").manifest)
    of("folder").manifest.mkdir()
    of("nowhere").manifest.symlink_to(folder / "none")
    of("zero").manifest.symlink_to("/dev/zero")
    of("itself").manifest.symlink_to(of("loop").path / "manifest.json")
    (folder / "loop" / "manifest.json").symlink_to(folder / "itself" / "manifest.json")
    (folder / "link").symlink_to(finished.path)
    (folder / "dangling").symlink_to(folder / "none")
    (folder / "round").symlink_to(folder / "round")
    small(
        folder / f"name {ESCAPES}",
        finished,
        status="failed",
        reason=ESCAPES,
        owner=f"=1+1{ESCAPES}",
        labels={ESCAPES: "[red]"},
    )
    (folder / os.fsdecode(b"bytes \xff")).mkdir()
    states = dict.fromkeys(
        ("half", "cut", "other", "list", "huge", "pipe", "folder", "nowhere", "zero", "itself", "loop"), "damaged"
    )
    return {**states, "later": "newer", "link": "finished", f"name {ESCAPES}": "failed"}


def test_a_run_that_cannot_be_read_is_one_line(finished: RunDirectory, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    states = damage(folder, finished)
    assert {each.name: each.state for each in list_folder(folder)} == states
    assert set(states.values()) <= {*STATES}
    for kind in ("table", "csv", "md", "json"):
        said = automl("runs", folder, "--format", kind, "--sort", "best")
        assert hidden(said) == set() and "owned" in said
        if kind == "table":
            assert max(map(cell_len, said.splitlines())) <= 80
        if kind == "csv":
            rows = list(csv.DictReader(io.StringIO(said)))
            assert len(rows) == len(states) and not any(str(each["owner"]).startswith("=") for each in rows)
            assert all(each["reason"] for each in rows if each["state"] in ("damaged", "newer"))
            assert str(tmp_path) not in "".join(str(each["reason"]) for each in rows)
    runs = Runs(str(folder))
    (folder / ".submissions").mkdir()
    runs.write(Submission("cut", "ann", {}, ago(hours=1), "space.yaml"))
    (folder / ".submissions" / "odd.json").write_text("{")
    (folder / ".submissions" / "pipe2.json").symlink_to("/dev/zero")
    listed = {each["name"]: each["state"] for each in json.loads(automl("jobs", "--runs", folder, "--json"))}
    assert listed == {"cut": "damaged", "odd": "damaged", "pipe2": "damaged"}
    assert len(list_folder(folder)) == len(states) + 2


@pytest.mark.parametrize("name", ["best", ".", "manifest"])
def test_why_a_run_cannot_be_read_is_not_changed_by_its_folders_name(
    finished: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path)
    manifest = read_json(finished.manifest)
    write_json(tmp_path / name / "manifest.json", {**manifest, "best": {"score": "x", "trial": 1, "family": "f"}})
    (found,) = list_folder(Path(name))
    assert found.reason.startswith("manifest.json is damaged: best.score: ")
    write_json(tmp_path / name / "manifest.json", {**manifest, "schema_version": 999})
    (found,) = list_folder(Path(name))
    assert found.reason == "it was written by a later version of automl; upgrade to read it"


def test_a_copy_of_a_run_that_goes_on_elsewhere_is_not_lost(folder: Path) -> None:
    write_json(folder / "gone" / ".fetched.json", {"run": "gone", "states": []})
    assert {each.name: each.state for each in list_folder(folder)}["gone"] == "running"


def test_where_there_are_no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert automl("runs") == "there is no run in runs\n"
    assert automl("runs", "--format", "json") == "[]\n"
    assert len(automl("runs", "--format", "csv").splitlines()) == 1
    with pytest.raises(UserError, match="there is no folder nothing"):
        automl("runs", "nothing")
    with pytest.raises(UserError, match="jobs --runs"):
        automl("runs", "s3://bucket/runs")


def test_many_runs_are_listed_without_their_studies_or_pytorch(finished: RunDirectory, tmp_path: Path) -> None:
    for number in range(200):
        run = small(tmp_path / "runs" / f"run-{number:03}", finished, created=ago(minutes=number))
        run.journal.symlink_to("/dev/zero")  # which nobody reads
    said = (
        "import sys; from automl.cli import main\ntry: main(['runs'])\n"
        "finally: print(sorted({'torch', 'optuna', 'ray', 'sklearn', 'pandas'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", said], cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert lines[-1] == "[]", done.stderr
    assert [line.split()[0] for line in lines if line.startswith("run-")] == [f"run-{each:03}" for each in range(200)]


def test_long_names_are_folded_and_figures_never(finished: RunDirectory, tmp_path: Path) -> None:
    name, owner, labels = "reviews-of-films-20261201-040128-ab12", "firstname.lastname", {"team": "language and speech"}
    small(tmp_path / "runs" / name, finished, owner=owner, labels=labels, created=ago(days=400))
    small(
        tmp_path / "runs" / "b",
        finished,
        owner="b",
        status="interrupted",
        metric="loss",
        mode="min",
        objectives=["loss"],
    )
    said = automl("runs", tmp_path / "runs")
    lines = said.splitlines()
    assert max(map(cell_len, lines)) <= 80
    figures = [line.split() for line in lines if "10/10" in line]
    assert [("finished" in line, "interrupted" in line) for line in figures] == [(False, True), (True, False)]
    assert "400d" in figures[1] and "accuracy" in figures[1] and "loss" in figures[0]
    wide = CliRunner().invoke(app, ["runs", str(tmp_path / "runs")], env={"COLUMNS": "160"}).stdout
    assert len(wide.splitlines()) == 3 and name in wide and owner in wide and "team=language and speech" in wide
    assert "time" in wide.splitlines()[0]
