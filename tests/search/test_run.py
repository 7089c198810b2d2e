"""A whole run on small real text: what it writes, and that every account of it agrees with every other."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as pq
import pytest
import ray
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import automl
from automl.training.run_directory import RunDirectory
from tests.conftest import copy_run, write_space

pytestmark = pytest.mark.ray


def study_of(run: RunDirectory) -> optuna.Study:
    return optuna.load_study(study_name="search", storage=JournalStorage(JournalFileBackend(str(run.journal))))


def leaderboard_of(run: RunDirectory) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(run.leaderboard("json").read_text())
    return content


def test_the_run_directory_is_complete(finished: RunDirectory) -> None:
    names = {path.name for path in finished.path.iterdir()}
    assert names == {
        "space.yaml", "manifest.json", "study.journal", "trials", "floor.json", "finalists.json", "driver.lock",
        "leaderboard.csv", "leaderboard.json", "leaderboard.md", "leaderboard.parquet", "report.html", "best_model",
        "predictions.safetensors", "examination.json",
    }  # fmt: skip
    manifest = json.loads(finished.manifest.read_text())
    assert manifest["status"] == "finished"
    assert manifest["used"]["trials"] == manifest["budget"]["trials"] == 10
    assert manifest["data"]["profile"]["rows"] == {"train": 400, "validation": 120, "test": 120}


def test_leaderboard_and_study_agree_trial_by_trial(finished: RunDirectory) -> None:
    study = study_of(finished)
    rows = {row["trial"]: row for row in leaderboard_of(finished)["trials"]}
    assert sorted(rows) == [trial.number for trial in study.trials] == list(range(10))
    states = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
    for trial in study.trials:
        row = rows[trial.number]
        assert states[row["status"]] == trial.state
        assert row["score"] == max(trial.intermediate_values.values())
        assert row["epochs"] == max(trial.intermediate_values) == len(trial.intermediate_values)
        assert row["config"] == trial.user_attrs["config"]
        assert row["family"] == next(iter(row["config"]["model"])) == trial.params["model"]
        if trial.state == TrialState.COMPLETE:
            assert trial.value == row["score"] and row["epochs"] == 4
        else:
            # at a rung, or an epoch after it to make room for a better one
            rung = row["epochs"] in (1, 2) and row["stopped_by"] == f"asha: rung {row['epochs']}"
            assert rung or row["stopped_by"] == f"asha: outdone at rung {row['epochs'] - 1}"
    assert sum(row["status"] == "stopped" for row in rows.values()) >= 4


def test_the_study_agrees_with_what_the_trials_wrote(finished: RunDirectory) -> None:
    for trial in study_of(finished).trials:
        folder = finished.trial(trial.number)
        lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
        assert {line["epoch"]: line["accuracy"] for line in lines} == trial.intermediate_values
        assert math.isclose(trial.user_attrs["train_seconds"], sum(line["seconds"] for line in lines))
        assert json.loads(folder.config.read_text()) == trial.user_attrs["config"]
        assert not folder.checkpoint.exists()


def test_the_leaderboard_is_ranked_and_its_formats_agree(finished: RunDirectory) -> None:
    board = leaderboard_of(finished)
    scores = [row["score"] for row in board["trials"]]
    assert scores == sorted(scores, reverse=True)
    assert [row["rank"] for row in board["trials"]] == list(range(1, 11))
    assert all(row["test_score"] is not None for row in board["trials"][:3])
    table = pq.read_table(finished.leaderboard("parquet")).to_pylist()
    with finished.leaderboard("csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    everything = [*board["trials"], board["floor"]]
    assert [row["score"] for row in table] == [row["score"] for row in everything]
    assert [float(row["score"]) for row in lines] == [row["score"] for row in everything]
    assert lines[-1]["status"] == "floor" and lines[-1]["trial"] == ""
    assert automl.leaderboard(finished.path) == everything
    assert all(row["family"] in finished.leaderboard("md").read_text() for row in everything)


def test_weights_are_kept_for_the_finalists_only(finished: RunDirectory) -> None:
    kept = {number for number, folder in finished.trials() if folder.weights.exists()}
    rows = leaderboard_of(finished)["trials"]
    best_of_families = {row["family"]: row["trial"] for row in reversed(rows) if row["score"] is not None}
    assert kept == {row["trial"] for row in rows[:3]} | set(best_of_families.values())
    assert kept == {row["trial"] for row in rows if row["test_score"] is not None}


def test_the_best_model_reaches_the_figures_that_are_said_of_it(finished: RunDirectory, small_data: Path) -> None:
    best = leaderboard_of(finished)["trials"][0]
    figures = json.loads((finished.best_model / "metrics.json").read_text())
    assert figures["validation"]["accuracy"] == best["score"]
    assert figures["test"]["accuracy"] == best["test_score"]
    for split in ("validation", "test"):
        found = automl.evaluate(finished.path, small_data / f"{split}.jsonl")
        said = figures[split] | (figures["calibrated_in_sample"] if split == "validation" else {})
        assert found["metrics"] == pytest.approx(said, abs=1e-5)
        assert found["rows"] == 120
    model = automl.load_model(finished.best_model)
    prediction = model.predict(["the flight was wonderful great good"])[0]
    assert prediction.label == "positive" and sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-5)
    card = (finished.best_model / "README.md").read_text()
    assert f"{best['test_score']:.4f}" in card and "95 % interval" in card


def test_the_floor_stands_on_the_leaderboard_and_is_judged(finished: RunDirectory) -> None:
    board = leaderboard_of(finished)
    floor, best = board["floor"], board["trials"][0]
    words = finished.leaderboard("md").read_text()
    assert floor["score"] > 0.7 and floor["test_score"] > 0.7
    said = "beats" if best["score"] > floor["score"] else "does not beat"
    assert f"best searched model {said} the linear floor on validation" in words


def test_a_finished_run_is_resumed_only_with_more_budget(finished: RunDirectory, tmp_path: Path) -> None:
    finished = copy_run(finished, tmp_path / "run")
    before = study_of(finished).trials
    assert automl.resume(finished.path, quiet=True).status == "finished"
    assert [trial.number for trial in study_of(finished).trials] == list(range(10))
    assert automl.resume(finished.path, trials=12, quiet=True).status == "finished"
    assert not ray.is_initialized()
    after = study_of(finished).trials
    assert [(t.number, t.params, t.intermediate_values) for t in after[:10]] == [
        (t.number, t.params, t.intermediate_values) for t in before
    ]
    assert [row["trial"] for row in sorted(leaderboard_of(finished)["trials"], key=lambda row: row["trial"])] == list(
        range(12)
    )
    with pytest.raises(automl.UserError, match="has been edited since the run began"):
        finished.space.write_text(finished.space.read_text() + "\n# changed\n")
        automl.resume(finished.path, quiet=True)


@pytest.mark.slow
def test_one_trial_at_a_time_and_the_same_seed_give_the_same_numbers(small_data: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "space.yaml", small_data, trials=6, epochs=2)
    found = []
    for name in ("first", "again"):
        automl.run(space, output=tmp_path / name, overrides=["resources.max_concurrent=1"], quiet=True)
        trials = study_of(RunDirectory(tmp_path / name)).trials
        found.append([(trial.state, trial.params, trial.intermediate_values) for trial in trials])
    assert found[0] == found[1] and len(found[0]) == 6
