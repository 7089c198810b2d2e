"""Real faults: a killed driver, Ctrl-C, a second driver, trials that fail, a budget of time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import automl
from automl.training.run_directory import RunDirectory
from tests.conftest import copy_run, write_space
from tests.search.conftest import ended, start_automl

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def wait_for(run: RunDirectory, count: int, process: subprocess.Popen[str]) -> dict[int, Any]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = ended(run)
        if len(found) >= count:
            return found
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError(f"{count} trials did not end in time")


def left_behind(folder: Path) -> list[str]:
    """Commands of processes that still run in or for `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in command:
                found.append(command)
    return found


def test_a_killed_run_is_resumed_and_loses_nothing(slow_space: Path, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    process = start_automl(["run", slow_space, "--output", run.path], tmp_path)
    wait_for(run, 3, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = ended(run)
    assert 3 <= len(before) < 8
    with run.journal.open("ab") as file:
        file.write(b'{"op_code": 6, "worker_id": "torn')
    first_lines = {number: run.trial(number).metrics.read_text() for number in before}
    resumed = start_automl(["resume", run.path], tmp_path)
    out, err = resumed.communicate(timeout=180)
    assert resumed.returncode == 0, err
    after = ended(run)
    assert sorted(after) == list(range(8))
    for number, trial in before.items():
        assert after[number] == trial
        assert run.trial(number).metrics.read_text() == first_lines[number]
    rows = json.loads(run.leaderboard("json").read_text())["trials"]
    assert Counter(row["trial"] for row in rows) == Counter(range(8))
    manifest = json.loads(run.manifest.read_text())
    assert manifest["status"] == "finished" and manifest["used"]["trials"] == 8
    assert "rank" in out and left_behind(run.path) == []


def test_ctrl_c_ends_in_good_order_and_the_run_goes_on(slow_space: Path, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    process = start_automl(["run", slow_space, "--output", run.path], tmp_path)
    wait_for(run, 2, process)
    asked = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - asked < 30
    assert process.returncode == 1 and "Traceback" not in err
    assert f"go on with: automl resume {run.path}" in err
    finished = ended(run)
    rows = json.loads(run.leaderboard("json").read_text())["trials"]
    assert sorted(row["trial"] for row in rows) == sorted(finished) and 2 <= len(finished) < 8
    assert json.loads(run.manifest.read_text())["status"] == "interrupted"
    assert run.best_model.exists() and run.report.exists() and "rank" in out
    assert automl.resume(run.path, quiet=True).status == "finished"
    assert {number: ended(run)[number] for number in finished} == finished
    assert len(ended(run)) == 8


def test_a_second_driver_is_refused(finished: RunDirectory, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    with FileLock(run.lock), pytest.raises(automl.UserError, match="another process is driving"):
        automl.resume(run.path, trials=11, quiet=True)


def test_a_trials_fault_ends_that_trial_alone(small_data: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "space.yaml", small_data, trials=8)
    overrides = ["search.sampler=random", "search.seed=3"]  # trials 1 and 4 draw too much
    overrides += [f"model.{family}.embedding={{choice: [8, 1000000000]}}" for family in ("cnn", "rnn")]
    result = automl.run(space, output=tmp_path / "run", overrides=overrides, quiet=True)
    trials = ended(RunDirectory(result.path))
    failed = [trial for trial in trials.values() if trial.status == "failed"]
    assert result.status == "finished" and len(trials) == 8
    assert failed and len(failed) < 8
    for trial in failed:
        assert trial.config["model"][trial.family]["embedding"] == 1_000_000_000
        assert trial.reason.startswith("out of memory: it asked for ")
    rows = automl.leaderboard(result.path)
    assert [row["error"] for row in rows if row["status"] == "failed"] == [trial.reason for trial in failed]
    assert "memory" in (tmp_path / "run" / "report.html").read_text()


def test_a_run_whose_trials_all_fail_stops_with_the_cause(small_data: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "space.yaml", small_data, trials=30)
    overrides = ["model.rnn.embedding=1000000000", "model.cnn.embedding=1000000000"]
    result = automl.run(space, output=tmp_path / "run", overrides=overrides, quiet=True)
    assert result.status == "failed" and "trials in a row failed of one cause: out of memory" in result.reason
    assert len(ended(RunDirectory(result.path))) < 10
    assert not (tmp_path / "run" / "best_model").exists()
    with pytest.raises(automl.UserError, match="no best model yet"):
        automl.load_model(result.path)


def test_a_time_budget_holds_and_ranks_what_was_reached(small_data: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "space.yaml", small_data, trials=500)
    endless = ["search.early_stopping={none: {max_epochs: 100000}}", "resources.max_concurrent=1"]
    result = automl.run(space, output=tmp_path / "run", time_budget="45s", overrides=endless, quiet=True)
    manifest = json.loads((result.path / "manifest.json").read_text())
    assert result.status == "finished" and 45 <= manifest["used"]["seconds"] < 55
    trials = ended(RunDirectory(result.path)).values()
    assert trials and all(trial.status == "stopped" and trial.reason == "time budget" for trial in trials)
    assert all(row["rank"] for row in automl.leaderboard(result.path)[:-1])
