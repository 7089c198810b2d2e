"""GPU hours are those of trials that hold their GPUs, not of those that wait for a node."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from automl.search import tune_adapters
from automl.search.trial import Assignment
from automl.search.tune_adapters import BookScheduler


def trial(folder: Path, number: int, status: str, workers: int = 1) -> Any:
    assignment = Assignment(
        number=number,
        config={},
        epochs_known=0,
        max_epochs=1,
        seed=0,
        training_seed=0,
        metric="accuracy",
        maximize=True,
        folder=str(folder / str(number)),
        run_folder=str(folder),
        cache="",
        working_directory="",
        threads=1,
        workers=workers,
    )
    return SimpleNamespace(status=status, config={"assignment": json.dumps(asdict(assignment))}, is_finished=bool)


def at_work(trials: list[Any], workers: int = 1) -> int:
    scheduler = BookScheduler(SimpleNamespace(), lambda _: None, lambda _: None)  # type: ignore[arg-type]
    assert scheduler.at_work(workers) == 0
    scheduler.begin(2)
    scheduler.choose_trial_to_run(SimpleNamespace(get_trials=lambda: trials, get_live_trials=lambda: trials))
    return scheduler.at_work(workers)


def test_trials_that_wait_for_a_node_are_not_charged(tmp_path: Path) -> None:
    trials = [trial(tmp_path, 0, "RUNNING"), trial(tmp_path, 1, "PENDING"), trial(tmp_path, 2, "PENDING")]
    assert at_work(trials) == 1


def test_a_trial_of_several_workers_is_charged_once_they_have_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [trial(tmp_path, number, "RUNNING", workers=2) for number in (0, 1)]
    assert at_work(trials, 2) == 0
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "placement_group").touch()
    assert at_work(trials, 2) == 1
    monkeypatch.setattr(tune_adapters, "LOOK_SECONDS", 0.0)
    (tmp_path / "1" / "placement_group").unlink()
    assert at_work(trials, 2) == 0
