"""TensorBoard and MLflow hear what the trials wrote; a tracker that fails costs nothing."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import automl
from automl.search.journal import open_journal
from automl.search.ledger import Ledger
from automl.search.trackers import MLflow, tracked
from automl.training.run_directory import RunDirectory, read_json
from automl.verbs import load_space
from tests.conftest import write_space

STATUS = {"completed": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}


def lines_of(run: RunDirectory) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for path in sorted(run.path.glob("trials/*/metrics.jsonl")):
        found[path.parent.name] = [json.loads(line) for line in path.read_text().splitlines()]
    return found


@pytest.mark.ray
@pytest.mark.slow
def test_both_hear_every_epoch_of_every_trial(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    space = write_space(tmp_path / "space.yaml", small_data, trials=3, epochs=3)
    wanted = ["search.log_to=[tensorboard, mlflow]", "resources.max_concurrent=1"]
    automl.run(space, output=tmp_path / "run", overrides=wanted, quiet=True)
    run = RunDirectory(automl.resume(tmp_path / "run", trials=4, quiet=True).path)
    lines = lines_of(run)
    assert len(lines) == 4
    client = MlflowClient(tracking_uri=f"sqlite:///{run.path}/mlflow.db")
    experiment = client.get_experiment_by_name("run")
    runs = {found.data.tags["automl.trial"]: found for found in client.search_runs([experiment.experiment_id])}
    rows = {str(row["trial"]): row for row in read_json(run.leaderboard("json"))["trials"]}
    assert runs.keys() == lines.keys() == rows.keys()
    for number, measured in lines.items():
        events = EventAccumulator(str(run.path / "tensorboard" / number)).Reload()
        found = runs[number]
        for name in ("accuracy", "loss", "train_loss"):
            values = [(line["epoch"], pytest.approx(line[name])) for line in measured]
            assert [(each.step, each.value) for each in events.Scalars(name)] == values
            assert [(each.step, each.value) for each in client.get_metric_history(found.info.run_id, name)] == values
        row = rows[number]
        assert found.data.tags["automl.status"] == row["status"] and found.info.status == STATUS[row["status"]]
        assert found.data.tags["automl.family"] == row["family"]
        learning_rate = row["config"]["training"]["optimizer"]["adamw"]["learning_rate"]
        assert found.data.params["training.optimizer.adamw.learning_rate"] == str(learning_rate)


def ledger_of(run: RunDirectory, small_space: Path, log_to: str) -> Ledger:
    run.path.mkdir()
    return Ledger(open_journal(run.journal, mode="max"), load_space(small_space, [f"search.log_to={log_to}"]))


def test_a_tracker_that_fails_is_given_up_and_the_others_go_on(
    small_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ConnectionError("the server is gone\nin two lines")

    monkeypatch.setattr(MLflow, "log", broken)
    run = RunDirectory(tmp_path / "run")
    ledger = ledger_of(run, small_space, "[mlflow, tensorboard]")
    line = {"accuracy": 0.5, "train_seconds": 1.0, "parameters": 9, "bytes": 36}
    with caplog.at_level(logging.WARNING), tracked(ledger, ledger.spec, run) as book:
        for _ in range(2):
            proposal = book.next()
            assert proposal is not None
            for epoch in (1, 2, 3, 4):
                if not book.record(proposal.number, {"epoch": epoch, **line}):
                    break
    assert [record.message for record in caplog.records] == ["mlflow is not logged to any more: the server is gone"]
    for number in ("0", "1"):
        steps = [
            each.step for each in EventAccumulator(str(run.path / "tensorboard" / number)).Reload().Scalars("accuracy")
        ]
        assert steps == sorted(ledger.journal.trial(int(number)).intermediate_values)


def test_a_server_that_does_not_answer_is_said_before_anything_runs(
    small_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = RunDirectory(tmp_path / "run")
    ledger = ledger_of(run, small_space, "[mlflow]")
    with pytest.raises(automl.UserError, match="log_to: MLflow does not answer"), tracked(ledger, ledger.spec, run):
        pass


def test_an_unknown_tracker_is_a_mistake_of_the_file(small_space: Path) -> None:
    with pytest.raises(automl.UserError, match="log_to"):
        load_space(small_space, ["search.log_to=[tensorbord]"])
