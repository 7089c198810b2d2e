"""A trial on its worker, without Ray: what it writes, how it goes on, and what it does about files that fail it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from automl.models import FAMILIES
from automl.search import trial as trial_module
from automl.search.trainable import Assignment, TrialWorker
from automl.space import load, sample_configs

EPOCHS = 3


@pytest.fixture(autouse=True)
def always_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_module, "CHECKPOINT_SECONDS", 0.0)


@pytest.fixture
def assignment(small_space: Path, tmp_path: Path) -> Assignment:
    return Assignment(
        number=3,
        config=sample_configs(load(small_space, FAMILIES), 1, seed=0)[0],
        epochs_known=0,
        max_epochs=EPOCHS,
        seed=0,
        training_seed=3,
        metric="accuracy",
        maximize=True,
        folder=str(tmp_path / "trial"),
        run_folder=str(tmp_path),
        cache=str(tmp_path / "cache"),
        working_directory=str(tmp_path),
        threads=1,
        stall_timeout=60.0,
    )


def worker_for(assignment: Assignment, **changes: Any) -> TrialWorker:
    return TrialWorker({"assignment": json.dumps(asdict(assignment) | changes)})


def figures(result: dict[str, Any]) -> dict[str, Any]:
    assert "error" not in result, result
    return {name: result[name] for name in ("epoch", "rows", "train_loss", "loss", "accuracy")}


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def undisturbed(assignment: Assignment) -> list[dict[str, Any]]:
    worker = worker_for(assignment, folder=assignment.folder + "-undisturbed")
    return [figures(worker.step()) for _ in range(EPOCHS)]


def test_a_trial_writes_its_epochs_and_leaves_no_sign_of_its_watchdog(assignment: Assignment) -> None:
    worker = worker_for(assignment)
    results = [worker.step() for _ in range(EPOCHS)]
    folder = Path(assignment.folder)
    names = {"config.json", "metrics.jsonl", "model.safetensors", "checkpoint.pt"}
    assert {path.name for path in folder.iterdir()} == names
    assert [figures(line) for line in lines_of(folder)] == [figures(result) for result in results]
    assert results[-1]["train_seconds"] == pytest.approx(sum(line["seconds"] for line in lines_of(folder)))
    assert (torch.get_num_threads(), torch.get_num_interop_threads()) == (1, 1)
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"


def test_a_stop_file_ends_an_epoch_and_the_trial_goes_on_later(assignment: Assignment) -> None:
    expected = undisturbed(assignment)
    worker = worker_for(assignment)
    worker.step()
    assignment.stop_file().set()
    assert [worker.step() for _ in range(2)] == [{"interrupted": True}] * 2
    assignment.stop_file().clear()
    later = worker_for(assignment, epochs_known=1)
    assert [figures(later.step()) for _ in range(EPOCHS - 1)] == expected[1:]


@pytest.mark.parametrize("file", ["checkpoint.pt", "metrics.jsonl"])
@pytest.mark.parametrize("how", ["cut", "bit", "empty"])
def test_a_damaged_checkpoint_means_a_new_beginning(assignment: Assignment, file: str, how: str) -> None:
    expected = undisturbed(assignment)
    worker = worker_for(assignment)
    worker.step()
    worker.step()
    path = Path(assignment.folder) / file
    content = path.read_bytes()
    middle = len(content) // 2
    wrong = {"cut": content[:middle], "bit": content[:middle] + b"\xff" + content[middle + 1 :], "empty": b""}[how]
    path.write_bytes(wrong)
    later = worker_for(assignment, epochs_known=2)
    results = [later.step() for _ in range(EPOCHS)]
    assert [figures(result) for result in results] == expected
    lines = lines_of(Path(assignment.folder))
    assert file in lines[0]["note"] and lines[0]["note"].startswith("began anew: ")
    assert [figures(line) for line in lines] == expected and "note" not in lines[1]


@contextlib.contextmanager
def small_disk(path: Path, size: int) -> Iterator[None]:
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True)
    if done.returncode:
        pytest.skip(f"cannot mount a small disk here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def test_a_full_disk_is_said_and_nothing_is_half_written(assignment: Assignment, tmp_path: Path) -> None:
    expected = undisturbed(assignment)
    with small_disk(tmp_path / "disk", 2**20):
        folder, filler = tmp_path / "disk" / "trial", tmp_path / "disk" / "filler"
        worker = worker_for(assignment, folder=str(folder))
        worker.step()
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        for _ in range(2):  # in mid-trial, and when it tries to begin again
            result = worker.step()
            assert set(result) == {"disk_full"}
            assert result["disk_full"].startswith(str(folder))
            assert result["disk_full"].endswith(": No space left on device")
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        filler.unlink()
        later = worker_for(assignment, folder=str(folder), epochs_known=1)
        assert [figures(later.step()) for _ in range(EPOCHS - 1)] == expected[1:]
        assert load_file(folder / "model.safetensors")


def test_no_room_for_prepared_data_is_no_fault_of_the_trial(assignment: Assignment, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 16 * 1024):
        result = worker_for(assignment, cache=str(tmp_path / "disk" / "cache")).step()
        assert set(result) == {"disk_full"}
        assert f"{tmp_path}/disk/cache" in result["disk_full"] and "No space left on device" in result["disk_full"]
    shutil.rmtree(assignment.folder, ignore_errors=True)
    assert figures(worker_for(assignment).step())["epoch"] == 1


def test_a_line_that_finds_no_room_is_not_half_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64 * 1024):
        path = tmp_path / "disk" / "metrics.jsonl"
        path.write_text("first\n")
        with pytest.raises(OSError, match="No space left"):
            trial_module._append(path, "x" * 100_000 + "\n")
        assert path.read_text() == "first\n"
