"""`confirm: {decides: true}`: the mean under other seeds says which trial is best, and all follows it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import automl
from automl.models import FAMILIES
from automl.results import finish, read_run
from automl.results.formats import format_leaderboard
from automl.results.recommendation import recommended
from automl.results.verdict import choice_text, verdict
from automl.search.phases import _winner, refit_winner
from automl.space import UserError, parse
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.conftest import copy_run

MEANS = {0: [0.70, 0.72], 1: [0.60, 0.62], 2: [0.90, 0.92]}  # by place in the search's order


@pytest.fixture
def run(finished: RunDirectory, tmp_path: Path) -> RunDirectory:
    return copy_run(finished, tmp_path / "run")


def confirm(run: RunDirectory, *, decides: bool, means: dict[int, list[float]] = MEANS, seeds: int = 2) -> list[int]:
    """Write what reruns of the leaders reached; gives the leaders in the search's order."""
    numbers = [trial.number for trial in read_run(run).ranked[:3]]
    trials = {
        str(numbers[place]): {str(seed): {"score": score, "values": [score]} for seed, score in enumerate(scores, 1)}
        for place, scores in means.items()
    }
    write_json(run.confirmed, {"trials": trials})
    asked = {"top": 3, "seeds": seeds, "decides": decides}
    write_json(run.manifest, {**read_json(run.manifest), "confirm": asked})
    return numbers


def test_the_confirmed_mean_decides_and_all_follows_it(run: RunDirectory) -> None:
    first, second, third = confirm(run, decides=True)
    record = finish(run)
    assert [trial.number for trial in record.ranked[:3]] == [third, first, second]
    board = json.loads(format_leaderboard(record, "json"))
    assert [row["trial"] for row in board["trials"]][:3] == [third, first, second]
    assert [row["rank"] for row in board["trials"]][:3] == [1, 2, 3]
    assert board["trials"][0]["packed"] is True and board["trials"][0]["confirmed_mean"] == pytest.approx(0.91)
    assert board["choice"] is None
    (member,) = read_json(run.best_model / "config.json")["members"]
    assert member["trial"] == third
    assert (run.best_model / "model.safetensors").read_bytes() == run.trial(third).weights.read_bytes()
    assert read_json(run.finalists)["confusion_of"] == third
    assert recommended(record) is not None and board["trials"][0]["group"] == 1
    said = f"{third} is first by its mean under other seeds (0.9100); by the search's scores it would be {first}"
    assert said in verdict(record) and said in (run.best_model / "README.md").read_text()
    assert "the best by their mean under other seeds" in run.report.read_text()


def test_without_deciding_the_search_s_scores_rank(run: RunDirectory) -> None:
    numbers = confirm(run, decides=False)
    record = read_run(run)
    assert [trial.number for trial in record.ranked[:3]] == numbers and record.first_by_score is None


@pytest.mark.parametrize("means", [{0: [0.7, 0.7], 2: [0.9, 0.9]}, {0: [0.7, 0.7], 1: [0.7], 2: [0.9, 0.9]}, {}])
def test_nothing_is_decided_before_all_have_ended(run: RunDirectory, means: dict[int, list[float]]) -> None:
    numbers = confirm(run, decides=True, means=means)
    record = read_run(run)
    assert [trial.number for trial in record.ranked[:3]] == numbers and record.first_by_score is None


def test_an_ensemble_begins_with_the_trial_that_the_means_put_first(run: RunDirectory) -> None:
    _, _, third = confirm(run, decides=True)
    write_json(run.manifest, {**read_json(run.manifest), "ensemble": {"top": 2, "linear": False}})
    finish(run)
    assert read_json(run.finalists)["ensemble"]["members"][0] == third


@pytest.mark.parametrize(("decides", "place"), [(True, 2), (False, 0)])
def test_the_refit_is_of_the_trial_that_is_best(
    run: RunDirectory, decides: bool, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = confirm(run, decides=decides)
    text = "name: x\ndata: {train: t.csv}\nmodel: {cnn: {}}\n"
    text += f"search: {{refit: true, confirm: {{top: 3, seeds: 2, decides: {str(decides).lower()}}}}}"
    ledger = SimpleNamespace(leaders=lambda count: numbers[:count], config=lambda number: {}, best_epoch=lambda _: 1)
    drive: Any = SimpleNamespace(spec=parse(text, FAMILIES), ledger=ledger, run=run, stop=SimpleNamespace(reason=None))
    assert _winner(drive) == numbers[place]
    refitted: list[int] = []
    monkeypatch.setattr("automl.search.phases._assignment", lambda drive, proposal, *_: proposal)
    monkeypatch.setattr("automl.search.refit.refit", lambda _, proposal, **__: refitted.append(proposal.number))
    refit_winner(drive)
    assert refitted == [numbers[place]]


def test_what_decides_keeps_the_weights_of_all_that_are_confirmed() -> None:
    text = "name: x\ndata: {train: t.csv}\nmodel: {cnn: {}}\nsearch: {confirm: {top: 7, decides: %s}}"
    assert parse(text % "true", FAMILIES).search.finalists == 7
    assert parse(text % "false", FAMILIES).search.finalists == 3


def test_one_mean_does_not_decide_between_several_objectives(small_space: Path) -> None:
    overrides = ["search.objectives=[accuracy, latency_ms]", "search.confirm={decides: true}"]
    with pytest.raises(UserError, match="leave decides out"):
        automl.check(small_space, overrides=overrides)


def test_how_much_the_choice_flatters_is_said(run: RunDirectory) -> None:
    record = finish(run)
    found = read_json(run.finalists)["choice"]
    best = read_json(run.finalists)["trials"][str(record.ranked[0].number)]["validation"]["accuracy"]
    assert found["models"] == len(read_json(run.finalists)["trials"]) and found["in_sample"] == pytest.approx(best)
    assert 0.5 < found["cross_fitted"] <= found["in_sample"] + 0.02
    said = choice_text(record)
    assert f"reaches accuracy {found['cross_fitted']:.4f}; on the rows that chose it {best:.4f}" in said
    assert said in " ".join((run.best_model / "README.md").read_text().split("\n"))
    assert json.loads(format_leaderboard(record, "json"))["choice"] == found
