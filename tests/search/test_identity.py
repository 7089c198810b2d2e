# ruff: noqa: F401, F811 - fixtures
"""Whose a checkpoint, weights or a copy of a run are: none of another run in the same place is taken up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from automl.data.copies import hold, remove_if_unused, remove_missing, use_copy
from automl.data.store import Store
from automl.places import model_folder, open_run
from automl.search import trial as trial_module
from automl.search.lease import BeingDrivenError
from automl.search.publishing import driving, fetch_run
from automl.search.trainable import Assignment
from automl.search.watchdog import stall_of
from automl.space import UserError
from automl.training.identity import Identity, has_own_weights, identity_of, weights_identity
from automl.training.run_directory import RunDirectory, TrialDirectory, write_json
from automl.training.shard import Shard
from tests.search.test_trial import always_a_checkpoint, assignment, figures, lines_of, undisturbed, worker_for


@pytest.fixture
def url() -> str:
    """The URL of a folder in a store in memory."""
    return f"memory://{uuid.uuid4().hex}/run"


def put(store: Store, name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(content)
    store.put(tmp_path / "file", name)


def test_a_file_says_whose_it_is_in_each_part() -> None:
    mine = identity_of("run", {"b": 1, "a": 2}, "data")
    assert mine is not None and mine == identity_of("run", {"a": 2, "b": 1}, "data")
    assert mine.differs(mine) == ""
    assert mine.differs(None) == mine.differs(mine.model_copy(update={"run": "x"})) == "another run"
    assert mine.differs(mine.model_copy(update={"config": "x"})) == "another configuration"
    assert mine.differs(mine.model_copy(update={"data": "x"})) == "other data"
    assert identity_of("", {}, "data") is None


@pytest.mark.parametrize(("before", "after"), [("first", "second"), ("", "second"), ("first", "")])
def test_a_checkpoint_of_another_run_is_not_taken_up(assignment: Assignment, before: str, after: str) -> None:
    expected = undisturbed(assignment)
    earlier = worker_for(assignment, run_id=before, training_seed=3)
    earlier.step()
    earlier.step()
    later = worker_for(assignment, run_id=after)
    results = [later.step() for _ in range(2)]
    assert [figures(result) for result in results] == expected[:2]
    lines = lines_of(Path(assignment.folder))
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines[0]["note"] == "began anew: checkpoint.pt is of another run"
    path = Path(assignment.folder) / "model.safetensors"
    assert has_own_weights(path, after)
    assert not after or not has_own_weights(path, "third")


@pytest.mark.parametrize("changed", ["config", "data"])
def test_a_checkpoint_of_other_settings_or_data_is_not_taken_up(
    assignment: Assignment, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = replace(assignment, run_id="run")
    with monkeypatch.context() as patch:
        other = Identity(run="run", config="x", data="x")
        kept = Assignment.identity
        patch.setattr(
            Assignment,
            "identity",
            lambda self, data: kept(self, data).model_copy(update={changed: getattr(other, changed)}),  # type: ignore[union-attr]
        )
        worker_for(mine).step()
    later = worker_for(mine)
    assert later.step()["epoch"] == 1
    what = {"config": "another configuration", "data": "other data"}[changed]
    assert lines_of(Path(mine.folder))[0]["note"] == f"began anew: checkpoint.pt is of {what}"


@pytest.mark.parametrize("run", ["", "run"])
def test_a_checkpoint_of_the_same_run_is_gone_on_from(assignment: Assignment, run: str) -> None:
    expected = undisturbed(assignment)
    worker_for(assignment, run_id=run).step()
    later = worker_for(assignment, run_id=run, epochs_known=1)
    assert [figures(later.step()) for _ in range(2)] == expected[1:]
    assert "note" not in lines_of(Path(assignment.folder))[0]


def test_weights_that_nobody_of_this_run_wrote_are_not_kept(assignment: Assignment) -> None:
    worker_for(assignment, run_id="first").step()
    path = Path(assignment.folder) / "model.safetensors"
    found = weights_identity(path)
    assert found is not None and found.run == "first"
    worker = worker_for(assignment, run_id="second")
    assert worker.assignment is not None
    trial_module.begin(worker.assignment, device=trial_module.torch.device("cpu"))
    assert not path.exists()


def test_a_run_made_again_at_the_same_url_reports_no_old_epochs(assignment: Assignment, url: str) -> None:
    """The node still has its copy of the trial's folder; the store does not."""
    expected = undisturbed(assignment)
    places = {"url": f"{url}/trials/3", "run_url": url}
    earlier = worker_for(assignment, **places, run_id="first")
    earlier.step()
    earlier.step()
    for name in Store(url).names():
        Store(url).remove(name)
    later = worker_for(assignment, **places, run_id="second")
    assert figures(later.step()) == expected[0]
    assert len(lines_of(Path(assignment.folder))) == 1


def test_a_node_keeps_no_copy_of_a_trial_that_it_is_done_with(assignment: Assignment, url: str) -> None:
    places = {"url": f"{url}/trials/3", "run_url": url}
    first, second = worker_for(assignment, **places), worker_for(assignment, **places)
    first.step()
    first.cleanup()
    assert Path(assignment.folder).exists()  # the second has it
    assert second.step()["epoch"] == 1
    second.cleanup()
    assert not Path(assignment.folder).exists()
    later = worker_for(assignment, **places, epochs_known=1)
    assert later.step()["epoch"] == 2
    local = worker_for(assignment, folder=assignment.folder + "-here")
    local.step()
    local.cleanup()
    assert Path(assignment.folder + "-here").exists()


def made(url: str, run_id: str, tmp_path: Path, **files: str) -> None:
    store = Store(url)
    for name in store.names():
        store.remove(name)
    content = {"manifest.json": json.dumps({"schema_version": 1, "metric": "accuracy", "id": run_id, "created": "x"})}
    for name, text in {**content, "space.yaml": "name: x", **files}.items():
        put(store, name, text, tmp_path)


def test_a_copy_holds_what_the_store_holds(url: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    more = {"floor.json": "{}", "trials/1/model.safetensors": "w", "best_model/config.json": "{}"}
    made(url, "one", tmp_path, **more)
    run = open_run(url, models=True)
    assert (run.path / "trials/1/model.safetensors").exists()
    (run.path / "link").symlink_to(outside)
    (run.path / "file-link").symlink_to(outside / "precious")
    for name in more:
        Store(url).remove(name)
    assert open_run(url, models=True).path == run.path
    left = {path.name for path in run.path.iterdir()}
    assert left == {"manifest.json", "space.yaml", "link"}
    assert (outside / "precious").read_text() == "kept"


def test_a_copy_of_another_run_at_this_place_is_removed(url: str, tmp_path: Path) -> None:
    made(url, "one", tmp_path, **{"study.journal": "a long journal", "trials/1/checkpoint.pt": "c"})
    run = open_run(url, drive=True)
    (run.path / "trials" / "1").mkdir(parents=True)
    (run.path / "trials" / "1" / "checkpoint.pt").write_text("old")
    (run.path / "study.journal").write_text("a long journal, and more of it")
    assert (open_run(url, drive=True).path / "study.journal").read_text().endswith("more of it")  # of the same run
    made(url, "two", tmp_path, **{"study.journal": "short"})
    assert (open_run(url, drive=True).path / "study.journal").read_text() == "short"
    assert not (run.path / "trials").exists()
    for name in Store(url).names():
        Store(url).remove(name)
    with pytest.raises(UserError, match="is no run directory"):
        open_run(url, drive=True)


def test_a_copy_that_a_driver_works_on_is_not_touched(url: str, tmp_path: Path) -> None:
    made(url, "one", tmp_path)
    run = open_run(url, drive=True)
    (run.path / "floor.json").write_text("not copied yet")
    with driving(RunDirectory(run.path)), pytest.raises(BeingDrivenError):
        open_run(url, drive=True)
    assert (run.path / "floor.json").exists()


def test_a_models_copy_holds_what_the_store_holds(url: str, tmp_path: Path) -> None:
    put(Store(url), "config.json", "{}", tmp_path)
    put(Store(url), "members/1/model.safetensors", "w", tmp_path)
    folder = model_folder(url)
    assert (folder / "members/1/model.safetensors").exists()
    Store(url).remove("members/1/model.safetensors")
    assert sorted(path.name for path in model_folder(url).iterdir()) == ["config.json"]


def test_old_copies_go_unless_a_process_uses_them(tmp_path: Path) -> None:
    for name in ("old", "used", "new"):
        (tmp_path / name / "inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "new")
    lock = hold(tmp_path / "used")
    for name in ("old", "used"):
        os.utime(tmp_path / name, (0, 0))
    use_copy(tmp_path / "mine")
    assert {path.name for path in tmp_path.iterdir()} == {"used", "new", "mine", "link"}
    assert not remove_if_unused(tmp_path / "used")
    os.close(lock)
    assert remove_if_unused(tmp_path / "used")
    assert not remove_if_unused(tmp_path / "mine")


def test_what_a_trial_fetches_is_what_the_store_has(url: str, tmp_path: Path) -> None:
    folder = TrialDirectory(tmp_path / "trial", url)
    folder.path.mkdir()
    folder.checkpoint.write_text("of an earlier run")
    folder.fetch(folder.checkpoint)
    assert not folder.checkpoint.exists()
    local = TrialDirectory(tmp_path / "local")
    local.path.mkdir()
    local.checkpoint.write_text("kept")
    local.fetch(local.checkpoint)
    assert local.checkpoint.exists()


class Others(Shard):
    """One of two processes, of which the other is asked to stop or cannot use its checkpoint."""

    def sum(self, values: Any) -> Any:
        return values

    def any(self, value: bool, device: Any) -> bool:
        return True


def test_processes_that_train_together_end_together(assignment: Assignment) -> None:
    trial = trial_module.begin(assignment, device=trial_module.torch.device("cpu"))
    trial.training.shard = Others()
    assert not trial.stop_file.is_set()
    assert trial.next_epoch() == {"interrupted": True}


def test_processes_that_train_together_begin_at_the_same_epoch(assignment: Assignment) -> None:
    worker_for(assignment).step()
    trial = trial_module.begin(assignment, device=trial_module.torch.device("cpu"), shard=Others())
    assert (trial.training.epoch, trial.lines) == (0, [])
    assert trial.note == "began anew: another process cannot use the checkpoint"


def test_the_reason_of_a_stall_is_seen_from_other_machines(url: str, tmp_path: Path) -> None:
    """The stacks are on the disk of the node; before that node's process ends they are in the store, too."""
    code = (
        "import os, sys, time, pathlib\n"
        "from automl.search.watchdog import watch\n"
        "def stuck():\n    while True: time.sleep(0.01)\n"
        "def publish(path): pathlib.Path(sys.argv[2]).write_bytes(path.read_bytes())\n"
        "with watch(pathlib.Path(sys.argv[1]), 0.5, publish):\n    stuck()\n"
    )
    node, there = tmp_path / "node" / "stalled.txt", tmp_path / "published"
    done = subprocess.run([sys.executable, "-c", code, str(node), str(there)], check=False, timeout=120)
    assert done.returncode == 1
    Store(url).put(there, "stalled.txt")
    folder = TrialDirectory(tmp_path / "driver", url)
    reason = stall_of(folder, folder.stalled)
    assert reason is not None and reason.startswith("no progress for 0.5 s, in stuck (<string>:")


def test_a_trial_that_ended_its_worker_is_not_run_again_on_its_node(assignment: Assignment, url: str) -> None:
    folder = Path(assignment.folder)
    folder.mkdir()
    (folder / "stalled.txt").write_text("thread 0x1\nTimeout (0:15:00)!\nThread 0x1 (most recent call first):\n")
    worker = worker_for(assignment, url=f"{url}/trials/3", run_url=url)
    assert worker.step() == {"error": "no progress for 900 s"}
