"""After the search: the leaders again under other seeds, the winner on train and validation rows together."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

import pytest
from safetensors.numpy import load_file

import automl
from automl.training.run_directory import RunDirectory, TrialDirectory
from tests.conftest import write_space

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_leaders_are_confirmed_and_the_winner_is_refitted(small_data: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "space.yaml", small_data, trials=4, epochs=3)
    overrides = ["search.confirm={top: 2, seeds: 2}", "search.refit=true", "resources.max_concurrent=1"]
    overrides.append("training.schedule={plateau: {patience: 0}}")
    result = automl.run(space, output=tmp_path / "run", overrides=overrides, quiet=True)
    assert result.status == "finished"
    run = RunDirectory(result.path)
    rows = {row["trial"]: row for row in automl.leaderboard(run.path)}
    best, second = list(rows)[:2]
    confirmed = json.loads(run.confirmed.read_text())["trials"]
    assert set(confirmed) == {str(best), str(second)}
    for trial in (best, second):
        scores = []
        for repetition in (1, 2):
            lines = run.trial(trial).rerun(repetition).metrics.read_text().splitlines()
            values = [json.loads(line)["accuracy"] for line in lines]
            assert len(values) == 3  # to the last epoch, wherever the search stopped it
            assert confirmed[str(trial)][str(repetition)] == {"score": max(values), "values": values}
            scores.append(max(values))
        assert rows[trial]["confirmed_mean"] == pytest.approx(mean(scores)) and rows[trial]["confirmed_seeds"] == 2
    first, again = (load_file(run.trial(best).rerun(repetition).weights) for repetition in (1, 2))
    assert any((first[name] != again[name]).any() for name in first)

    refit = json.loads(run.refit_record.read_text())
    assert refit["trial"] == best and 1 <= refit["epochs"] <= 3
    trained = load_file(TrialDirectory(run.refit).weights)
    packed = load_file(run.best_model / "model.safetensors")
    searched = load_file(run.trial(best).weights)
    assert all((packed[name] == trained[name]).all() for name in packed)
    assert any((packed[name] != searched[name]).any() for name in packed)
    figures = json.loads((run.best_model / "metrics.json").read_text())
    assert automl.evaluate(run.path, small_data / "test.jsonl")["metrics"] == pytest.approx(figures["test"], abs=1e-5)
    assert figures["test_before_refit"]["accuracy"] == rows[best]["test_score"]
    assert "train and validation rows together" in (run.best_model / "README.md").read_text()

    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("metrics.jsonl")}
    written = run.refit_record.stat().st_mtime_ns
    assert automl.resume(run.path, quiet=True).status == "finished"
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("metrics.jsonl")} == before
    assert run.refit_record.stat().st_mtime_ns == written
