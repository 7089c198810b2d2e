"""The average of the leaders: measured as what it is, the best model unless one is clearly better on validation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import automl
from automl.results import finish, read_run
from automl.results.finalists import _members, prepared_data
from automl.results.formats import format_leaderboard
from automl.results.package import Model
from automl.results.packing import write_best_model
from automl.results.predictions import read_predictions, write_predictions
from automl.results.report import write_report
from automl.results.study import TrialRecord
from automl.results.verdict import verdict
from automl.space import UserError
from automl.training.floor import fit_floor, load_linear
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.conftest import copy_run


@pytest.fixture
def run(finished: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of a finished run that is to average its three best trials."""
    copied = copy_run(finished, tmp_path / "run")
    write_json(copied.manifest, {**read_json(copied.manifest), "ensemble": {"top": 3, "linear": False}})
    return copied


@pytest.fixture
def with_floor(run: RunDirectory) -> RunDirectory:
    """The same, where the linear floor is half of the average."""
    record = read_run(run)
    prepared = prepared_data(record, record.ranked[0].config)
    linear, figures = fit_floor(prepared, record.ranked[0].config["data"]["clean"], metric="accuracy", maximize=True)
    assert figures["test"] == read_json(run.floor)["test"]
    linear.save(run.linear)
    write_json(run.manifest, {**read_json(run.manifest), "ensemble": {"top": 3, "linear": True}})
    return run


def trial_of(family: str, number: int) -> TrialRecord:
    return TrialRecord(number, "completed", family, 0.5, {}, (), 1, 4, 1.0, {}, 1, 0, "", {}, None, None)


def let_it_be(run: RunDirectory, ahead: float, p: float) -> None:
    """Say that the best trial is so much ahead of the ensemble, and nothing of its calibration."""
    content = {**read_json(run.finalists), "confusion_of": None}
    content["ensemble"]["best_ahead"] |= {"value": ahead, "p": p}
    write_json(run.finalists, content)


def packages(run: RunDirectory, numbers: list[int], folder: Path) -> list[Model]:
    """The members as models of their own, each packed as if it were the best."""
    config = read_json(run.best_model / "config.json")
    models = []
    for number in numbers:
        alone = folder / str(number)
        (alone / "members").mkdir(parents=True)
        (member,) = [member for member in config["members"] if member["trial"] == number]
        (run.best_model / member["folder"]).rename(alone / "members" / str(number))
        write_json(alone / "config.json", {**config, "members": [member], "linear": None, "temperature": 1.0})
        models.append(automl.load_model(alone))
    return models


def test_an_ensemble_is_packed_whole_and_says_the_mean_of_its_members(
    run: RunDirectory, small_data: Path, tmp_path: Path
) -> None:
    record = finish(run)
    measured = read_json(run.finalists)["ensemble"]
    numbers = measured["members"]
    assert numbers[:3] == [trial.number for trial in record.ranked[:3]]
    let_it_be(run, 0.0, 1.0)
    write_best_model(read_run(run))
    rows = [json.loads(line) for line in (small_data / "test.jsonl").read_text().splitlines()]
    texts = [row["text"] for row in rows]
    together = automl.load_model(run.path).predict_probabilities(texts)
    found = automl.evaluate(run.path, small_data / "test.jsonl")["metrics"]
    assert found == pytest.approx(measured["test"], abs=1e-5)
    assert f"average of {len(numbers)} networks" in (run.best_model / "README.md").read_text()
    alone = [model.predict_probabilities(texts) for model in packages(run, numbers, tmp_path / "alone")]
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1e-6)
    assert not np.allclose(alone[0], alone[1], atol=1e-3)


def test_the_linear_model_is_half_of_the_average(with_floor: RunDirectory, small_data: Path, tmp_path: Path) -> None:
    finish(with_floor)
    numbers = read_json(with_floor.finalists)["ensemble"]["members"]
    let_it_be(with_floor, 0.0, 1.0)
    record = read_run(with_floor)
    write_best_model(record)
    texts = [json.loads(line)["text"] for line in (small_data / "test.jsonl").read_text().splitlines()]
    together = automl.load_model(with_floor.path).predict_probabilities([*texts, ""])
    found = automl.evaluate(with_floor.path, small_data / "test.jsonl")["metrics"]
    assert found == pytest.approx(read_json(with_floor.finalists)["ensemble"]["test"], abs=1e-5)
    linear = load_linear(with_floor.best_model / "linear").predict_probabilities([*texts, ""])
    networks = [
        model.predict_probabilities([*texts, ""]) for model in packages(with_floor, numbers, tmp_path / "alone")
    ]
    np.testing.assert_allclose(together, (np.mean(networks, axis=0) + linear) / 2, atol=1e-6)
    labels = [json.loads(line)["label"] for line in (small_data / "test.jsonl").read_text().splitlines()]
    right = np.mean(
        [("negative", "positive")[row.argmax()] == label for row, label in zip(linear, labels, strict=False)]
    )
    assert right == pytest.approx(read_json(with_floor.floor)["test"]["accuracy"])
    assert f"{len(numbers)} networks and a linear model" in (with_floor.best_model / "README.md").read_text()
    assert "and the linear model" in verdict(record)


@pytest.mark.parametrize(("ahead", "p", "is_best"), [(-0.01, 0.3, True), (0.01, 0.3, True), (0.1, 0.01, False)])
def test_an_ensemble_is_the_best_model_unless_a_trial_is_ahead_by_more_than_chance(
    run: RunDirectory, ahead: float, p: float, is_best: bool
) -> None:
    finish(run)
    let_it_be(run, ahead, p)
    record = read_run(run)
    write_best_model(record)
    write_report(record)
    config = read_json(run.best_model / "config.json")
    assert (len(config["members"]) >= 3) is is_best
    assert ("behind the best alone" not in run.report.read_text()) is is_best
    board = json.loads(format_leaderboard(record, "json"))
    assert board["ensemble"]["score"] == read_json(run.finalists)["ensemble"]["validation"]["accuracy"]
    assert board["ensemble"] in automl.leaderboard(run.path)
    assert ("the average of" in verdict(record)) is is_best
    assert ("The best trial alone" in verdict(record)) is is_best


def test_the_best_of_another_family_joins_where_it_may_be_as_good() -> None:
    cnn, rnn, tcn = (
        [trial_of(family, number) for number in range(10 * place, 10 * place + 3)]
        for place, family in enumerate(("cnn", "rnn", "tcn"))
    )
    leaders = [*cnn, rnn[0], rnn[1], tcn[0]]
    groups = {str(trial.number): 2 if trial in tcn else 1 for trial in leaders}
    assert _members(leaders, 3, groups) == [*cnn, rnn[0]]
    assert _members(leaders, 4, groups) == [*cnn, rnn[0]]
    assert _members(leaders, 1, dict.fromkeys(groups, 1)) == [cnn[0], rnn[0], tcn[0]]
    assert _members(leaders, 0, groups) == []


def test_what_has_been_measured_needs_no_data_again(run: RunDirectory, tmp_path: Path) -> None:
    finish(run)
    written = run.finalists.read_text()
    manifest = read_json(run.manifest)
    write_json(run.manifest, {**manifest, "prepared": str(tmp_path / "gone" / "x"), "working_directory": "/"})
    finish(run)
    assert run.finalists.read_text() == written


def test_a_member_outside_the_folder_is_refused(run: RunDirectory) -> None:
    finish(run)
    config = read_json(run.best_model / "config.json")
    config["members"][0]["folder"] = "../trials/0"
    write_json(run.best_model / "config.json", config)
    with pytest.raises(UserError, match="outside"):
        automl.load_model(run.best_model)


def test_refit_and_ensemble_exclude_each_other(small_space: Path) -> None:
    with pytest.raises(UserError, match="one of them"):
        automl.check(small_space, overrides=["search.refit=true", "search.ensemble={}"])


def test_how_far_the_best_trial_is_ahead_is_counted_on_the_same_rows(run: RunDirectory) -> None:
    """A trial that is always right beside two that know nothing is ahead by more than chance."""
    best = finish(run).ranked[0].number
    said = read_predictions(run)
    labels = said.labels["validation"]
    content = read_json(run.finalists)
    for number in content["ensemble"]["members"]:
        right = 1 - labels if number != best else labels  # one against several: the average is always wrong
        said.said["validation"][str(number)] = np.eye(2, dtype=np.float32)[right]
    write_predictions(run, said)
    del content["ensemble"]["best_ahead"]
    write_json(run.finalists, content)
    record = finish(run)
    ahead = read_json(run.finalists)["ensemble"]["best_ahead"]
    assert ahead["value"] == 1.0 and ahead["p"] < 1e-6
    assert record.ensemble is None
