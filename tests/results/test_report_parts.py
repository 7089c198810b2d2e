"""What the report says of early stopping, of workers and of parameters, each against figures made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, create_trial

from automl.results import RunRecord, read_run
from automl.results.early_stopping import rungs, savings, savings_text
from automl.results.figures import MOST_CURVES, MOST_POINTS, learning_curves, optimisation_history, timeline_bars
from automl.results.importance import ALL_TRIALS, Importance
from automl.results.parameter_figures import MOST_TRIALS, contour, parallel_coordinates, slices
from automl.results.report_data import data_profile
from automl.results.report_table import MOST_ROWS, leaderboard_table
from automl.results.study import TrialRecord
from automl.results.timeline import timeline
from automl.training.run_directory import RunDirectory
from tests.conftest import copy_run
from tests.results.conftest import record_trials

pytestmark = pytest.mark.ray


def a_trial(number: int, epochs: int, status: str, reason: str = "", **changes: object) -> TrialRecord:
    trial = TrialRecord(
        **dict.fromkeys(TrialRecord.__dataclass_fields__)
        | {"number": number, "status": status, "family": "cnn", "reason": reason}
        | {"values": {epoch: 0.5 + epoch / 100 for epoch in range(1, epochs + 1)}, "train_seconds": 10.0 * epochs}
    )
    return replace(trial, **{"score": max(trial.values.values(), default=None), **changes})


@pytest.fixture
def record(finished: RunDirectory) -> RunRecord:
    return read_run(finished)


def with_trials(record: RunRecord, *trials: TrialRecord, rungs: tuple[int, ...] = (1, 3)) -> RunRecord:
    return replace(record, trials=trials, manifest={**record.manifest, "max_epochs": 9, "rungs": list(rungs)})


def test_only_what_the_rule_stopped_counts_as_saved(record: RunRecord) -> None:
    run = with_trials(
        record,
        a_trial(0, 9, "completed"),
        a_trial(1, 1, "stopped", "asha: rung 1"),
        a_trial(2, 3, "stopped", "asha: rung 3"),
        a_trial(3, 2, "stopped", "time budget"),
        a_trial(4, 1, "failed", "ValueError"),
    )
    found = savings(run)
    assert (found.trials, found.stopped, found.epochs, found.epochs_spared) == (4, 2, 15, 8 + 6)
    assert (found.seconds, found.seconds_spared) == (150, 140)
    assert "2 of 4 trials were stopped early" in savings_text(run) and "1.9 times as long" in savings_text(run)
    assert [(rung.epoch, rung.arrived, rung.stopped) for rung in rungs(run)] == [(1, 4, 1), (3, 2, 1)]
    assert "No trial was stopped" in savings_text(with_trials(record, a_trial(0, 9, "completed")))
    assert savings_text(with_trials(record)) == ""


def write_lines(folder: Path, *lines: tuple[str, float, float]) -> None:
    folder.mkdir(parents=True)
    text = [json.dumps({"worker": worker, "started": start, "seconds": seconds}) for worker, start, seconds in lines]
    (folder / "metrics.jsonl").write_text("\n".join(text) + '\n{"torn', encoding="utf-8")


def test_a_trial_that_paused_and_went_on_elsewhere_has_two_spans(record: RunRecord, tmp_path: Path) -> None:
    run = replace(
        with_trials(record, a_trial(0, 3, "completed"), a_trial(1, 2, "stopped", "asha: rung 1")),
        directory=RunDirectory(tmp_path),
    )
    write_lines(tmp_path / "trials/0", ("a-1", 100, 10), ("a-1", 110.5, 10), ("b-2", 200, 10))
    write_lines(tmp_path / "trials/1", ("b-2", 100, 20), ("a-1", 150, 20))
    found = timeline(run)
    assert found is not None
    spans = {lane: [(span.trial.number, span.start, span.end) for span in held] for lane, held in found.lanes.items()}
    assert spans == {"a-1": [(0, 100, 120.5), (1, 150, 170)], "b-2": [(1, 100, 120), (0, 200, 210)]}
    assert found.places == 2 and found.utilisation == pytest.approx(70 / (2 * 110))
    bars = timeline_bars(found)["data"]
    assert [(trace["name"], trace["y"]) for trace in bars] == [("completed", [0, 1]), ("stopped", [0, 1])]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), min_size=1, max_size=30))
def test_without_lines_no_trial_covers_another_and_no_place_is_spare(
    finished: RunDirectory, tmp_path_factory: pytest.TempPathFactory, times: list[tuple[int, int]]
) -> None:
    trials = [
        a_trial(
            number,
            1,
            "completed",
            started=datetime.fromtimestamp(1_000_000 + start),
            finished=datetime.fromtimestamp(1_000_000 + start + length),
            train_seconds=float(length),
        )
        for number, (start, length) in enumerate(times)
    ]
    empty = RunDirectory(tmp_path_factory.getbasetemp() / "no such run")
    found = timeline(replace(with_trials(read_run(finished), *trials), directory=empty))
    assert found is not None and sum(map(len, found.lanes.values())) == len(trials)
    for held in found.lanes.values():
        assert all(one.end <= other.start for one, other in pairwise(held))
    assert found.places == len(found.lanes) and 0 < found.utilisation <= 1


def many(count: int) -> tuple[FrozenTrial, ...]:
    space = {
        "training.rate": FloatDistribution(1e-4, 1e-1, log=True),
        "model.cnn.width": IntDistribution(8, 64),
        "model": CategoricalDistribution(["<b>cnn</b>", "rnn"]),
    }
    return tuple(
        create_trial(
            value=0.9 - abs(number % 97 - 48) / 100,
            params={
                "training.rate": 1e-4 * 10 ** (number % 97 / 32.5),
                "model.cnn.width": 8 + number % 57,
                "model": ("<b>cnn</b>", "rnn")[number % 2],
            },
            distributions=space,
        )
        for number in range(count)
    )


def test_slices_and_maps_show_what_trials_reached(record: RunRecord) -> None:
    shares = {"training.rate": 0.7, "model.cnn.width": 0.2, "model": 0.1}
    importance = Importance(ALL_TRIALS, many(194), shares)
    rate, width, family = slices(importance, "accuracy", True)
    assert rate["layout"]["xaxis"]["type"] == "log" and rate["layout"]["xaxis"]["ticktext"][0] == "0.0001"
    pairs = sorted(zip(rate["data"][0]["x"], rate["data"][0]["y"], strict=True))
    assert pairs == sorted((trial.params["training.rate"], trial.value) for trial in importance.trials)
    wide = {"rate": FloatDistribution(1, 100, log=True)}
    narrow = [create_trial(value=0.5, params={"rate": x}, distributions=wide) for x in (64.0, 100.0)]
    (narrow_slice,) = slices(Importance(ALL_TRIALS, tuple(narrow), {"rate": 1.0}), "accuracy", True)
    assert narrow_slice["layout"]["xaxis"]["ticktext"] == ["64", "80", "100"]
    assert width["layout"]["xaxis"]["title"]["text"] == "width"
    assert family["layout"]["xaxis"]["ticktext"] == ["&lt;b&gt;cnn&lt;/b&gt;", "rnn"]
    map_ = contour(importance, "accuracy", True)
    assert map_ is not None
    shades, dots = map_["data"]
    best = max(range(24), key=lambda place: sum(row[place] for row in shades["z"]))
    assert 10 ** (-2.6 - 0.5) < shades["x"][best] < 10 ** (-2.6 + 0.5)  # trial 48 of each 97 is the best: 10**-2.52
    assert len(dots["x"]) == 194
    assert contour(Importance(ALL_TRIALS, many(19), shares), "accuracy", True) is None
    lines = parallel_coordinates(importance, "accuracy", True)["data"]
    assert [trace["name"] for trace in lines] == ["the others", "the best 20"]
    assert min(lines[1]["y"][3::5]) >= max(lines[0]["y"][3::5])  # heights on the last axis: what was reached


def test_a_large_run_makes_no_large_figures(record: RunRecord) -> None:
    trials = [a_trial(number, 9, "completed", score=0.5 + (number == 7_001) / 10) for number in range(10_000)]
    run = with_trials(record, *trials)
    assert sum(trace["mode"] == "lines" for trace in learning_curves(run)["data"]) == MOST_CURVES
    dots, best = optimisation_history(run)["data"]
    assert len(dots["x"]) <= MOST_POINTS + 3 and 7_001 in dots["x"]
    assert list(zip(best["x"], best["y"], strict=True)) == [(0, 0.5), (7_001, 0.6), (9_999, 0.6)]
    importance = Importance(ALL_TRIALS, many(10_000), {"training.rate": 1.0})
    assert len(slices(importance, "accuracy", True)[0]["data"][0]["x"]) <= MOST_TRIALS


def test_of_many_trials_the_page_has_the_best(finished: RunDirectory, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    record_trials(run, trials=12, epochs=3, reasons={5: "ValueError: no"})
    table = leaderboard_table(read_run(run))
    titles = [column.title for column in table.columns]
    assert titles[:4] == ["rank", "trial", "family", "validation"] and titles[-1] == "status"
    assert "GPU time" not in titles and "other seeds" not in titles  # nothing would stand there
    assert [line.cells[0].shown for line in table.lines] == [*map(str, range(1, 12)), "", ""]
    assert [line.status for line in table.lines[-2:]] == ["failed", "floor"]
    assert "learning_rate 0." in table.lines[0].settings and table.left_out == 0
    assert MOST_ROWS >= 300


def test_the_data_in_words(record: RunRecord) -> None:
    profile = {
        "rows": {"train": 1000, "test": 100},
        "classes": {"train": {f"c{n}": 1000 // (n + 1) for n in range(40)}, "test": {"c0": 60, "c39": 40}},
        "duplicates": {"train": 7, "test": 3},
        "bad_rows": {},
        "shape": [8, 8, 1],
        "mean": [4.88],
        "deviation": [6.02],
    }
    found = data_profile(profile)
    assert found.splits == {"train": 1000, "test": 100}
    assert len(found.classes) == 30 and found.classes_left_out == 10
    assert found.classes[0].rows == (1000, 60) and found.classes[0].share == 1
    facts = dict(found.facts)
    assert facts["Shape of a row"] == "8 x 8 x 1" and facts["Repeated"].startswith("7 train rows")
    assert "Length in tokens" in dict(data_profile(record.manifest["data"]["profile"]).facts)
