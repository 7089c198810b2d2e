"""Every fault of a trial ends that trial alone, with its reason in a line; real faults in a real search."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

import automl
from automl.training.run_directory import RunDirectory
from tests.conftest import write_space

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.xdist_group("faulty")]

STALL_SECONDS = 12
REASONS = {
    "error": "KeyError: 'first line\\nsecond line'",
    "long message": f"RuntimeError: {'x' * 483}...",
    "unpicklable": "UnpicklableError: it holds a lock",
    "unshowable": "UnshowableError: its message cannot be shown (ValueError)",
    "exit": "SystemExit: 3",
    "python memory": "out of memory",
    "tensor memory": "out of memory: it asked for 4194304.0 GiB",
    "gpu memory twice": "out of GPU memory, even with half a batch at a time: "
    "CUDA out of memory. Tried to allocate 20.00 MiB.",
    "nan": "the loss was not finite in epoch 1",
    "metric none": "its accuracy after epoch 1 is no number: None",
    "metric missing": "its accuracy after epoch 1 is no number: None",
    "sleep": f"no progress for {STALL_SECONDS} s, in before (FILE:",
    "busy": f"no progress for {STALL_SECONDS} s, in match (",
}
HOSTILE = b"cos\nmkdir\n(V%s\ntR."  # a pickle that makes a folder
SOUND = ("gpu memory once", "nothing")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> RunDirectory:
    folder = tmp_path_factory.mktemp("faulty")
    faults = dict(enumerate([*REASONS, *SOUND]))
    space = write_space(folder / "space.yaml", small_data, trials=len(faults))
    overrides = [
        "search.early_stopping={none: {max_epochs: 2}}",
        "search.sampler=random",
        f"search.stall_timeout={STALL_SECONDS}s",
    ]
    here = str(Path(__file__).parent / "faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
        patch.setenv("AUTOML_TEST_FAULTS", json.dumps(faults))
        patch.setenv("AUTOML_CACHE", str(folder / "cache"))
        result = automl.run(space, output=folder / "run", overrides=overrides, quiet=True)
    assert (result.status, result.reason) == ("finished", "")
    return RunDirectory(result.path)


def row_of(run: RunDirectory, fault: str) -> dict[str, Any]:
    rows = {row["trial"]: row for row in json.loads(run.leaderboard("json").read_text())["trials"]}
    assert sorted(rows) == list(range(len(REASONS) + len(SOUND)))
    found: dict[str, Any] = rows[[*REASONS, *SOUND].index(fault)]
    return found


@pytest.mark.parametrize("fault", REASONS)
def test_a_fault_ends_its_trial_alone_with_a_reason(faulty: RunDirectory, fault: str) -> None:
    row = row_of(faulty, fault)
    file = str(Path(__file__).parent / "faults" / "sitecustomize.py")
    assert row["status"] == "failed"
    assert row["error"].startswith(REASONS[fault].replace("FILE", file))
    assert len(row["error"]) <= 500 and "\n" not in row["error"]


@pytest.mark.parametrize("fault", SOUND)
def test_other_trials_are_not_harmed(faulty: RunDirectory, fault: str) -> None:
    row = row_of(faulty, fault)
    assert row["status"] == "completed" and row["epochs"] == 2
    lines = [json.loads(line) for line in faulty.trial(row["trial"]).metrics.read_text().splitlines()]
    assert [line["accumulation"] for line in lines] == [2 if fault == "gpu memory once" else 1] * 2


def test_stacks_are_kept_of_stalled_trials_only(faulty: RunDirectory) -> None:
    kept = {number for number, folder in faulty.trials() if folder.stalled.exists()}
    assert kept == {row_of(faulty, fault)["trial"] for fault in ("sleep", "busy")}


def test_a_worker_that_cannot_start_says_why(small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = write_space(tmp_path / "space.yaml", small_data, trials=1)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "faults"))
    monkeypatch.setenv("AUTOML_TEST_FAULTS", json.dumps({"start": "this node has another version"}))
    # As somebody would who is quick enough to exchange the file that Ray Tune writes of an error and then loads.
    monkeypatch.setattr(cloudpickle, "dump", lambda error, file: file.write(HOSTILE % str(tmp_path / "ran").encode()))
    automl.run(space, output=tmp_path / "run", quiet=True)
    (row,) = (row for row in automl.leaderboard(tmp_path / "run") if row["trial"] is not None)
    said = "its worker could not start: ImportError: this node has another version (3 times)"
    assert (row["status"], row["error"]) == ("failed", said)
    assert not (tmp_path / "ran").exists()
    with suppress(Exception):
        cloudpickle.loads(HOSTILE % str(tmp_path / "ran").encode())
    assert (tmp_path / "ran").exists()  # it does run where it is loaded
