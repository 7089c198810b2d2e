"""`=`: every trial in reach is compared with the best on the validation rows, or its row says that it was not."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import binomtest

import automl
from automl.results import finish, read_run
from automl.results.chance import holm
from automl.results.predictions import read_predictions
from automl.results.recommendation import level
from automl.results.selection import WHOLE
from automl.results.table import render_table
from automl.search.phases import _weight_keeper
from automl.training.answers import MOST_NUMBERS, read_answers, write_answers
from automl.training.identity import Identity
from automl.training.run_directory import RunDirectory, read_json
from tests.conftest import copy_run

OURS = Identity(run="ours", config="c", data="d")


@pytest.fixture
def run(finished: RunDirectory, tmp_path: Path) -> RunDirectory:
    return copy_run(finished, tmp_path / "run")


def shown(run: RunDirectory) -> str:
    console = Console(width=80, file=io.StringIO(), highlight=False)
    console.print(render_table(read_run(run), WHOLE))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def mid_p(one: Any, other: Any) -> float:
    """McNemar's test by another way: the exact one less half of what the observed split itself has."""
    wins, both = int((one & ~other).sum()), int((one != other).sum())
    return 1.0 if not both else min(1.0, sum(binomtest(w, both).pvalue for w in _splits(wins, both)) / 2)


def _splits(wins: int, both: int) -> list[int]:
    """The exact p of a split and of the next one further out are, taken together, twice the mid-p."""
    fewer = min(wins, both - wins)
    return [fewer, fewer - 1] if fewer else [0]


def test_all_trials_of_a_search_are_compared_by_what_they_said_at_their_best_epoch(finished: RunDirectory) -> None:
    record = read_run(finished)
    labels = read_predictions(finished).labels["validation"]
    right = {}
    for trial in record.ranked:
        said = read_answers(
            finished.trial(trial.number).answers, run=record.run_id, epoch=trial.best_epoch, shape=(len(labels), 2)
        )
        assert said is not None
        right[trial.number] = said.argmax(axis=1) == labels
        assert right[trial.number].mean() == pytest.approx(trial.score, abs=1e-6)
    chance = read_json(finished.finalists)["chance"]
    finalists, others = list(map(int, chance["groups"])), list(map(int, chance["others"]))
    assert len(finalists) + len(others) == len(record.ranked) == 10
    best = record.best_trial.number
    raw = {
        (one, other): mid_p(right[one], right[other])
        for place, one in enumerate(finalists)
        for other in finalists[place + 1 :]
    }
    raw |= {(best, number): mid_p(right[best], right[number]) for number in others}
    wanted = holm(raw)
    for number in others:
        assert chance["others"][str(number)]["p"] == pytest.approx(wanted[best, number], abs=2e-3)
    rows = {row["trial"]: row for row in automl.leaderboard(finished.path) if row["trial"] is not None}
    as_good = level(record)
    assert {number: row["level"] for number, row in rows.items()} == as_good and len(as_good) == 10
    lines = shown(finished)
    for number, row in rows.items():
        assert (f"= {row['score']:.4f}" in lines) or not (as_good[number] and row["rank"] != 1)
    assert "?" not in lines.split("best_model/")[0].replace("RUN", "")


def test_a_trial_that_was_not_compared_says_so(run: RunDirectory) -> None:
    chance = read_json(run.finalists)["chance"]
    lost, wrong = map(int, list(chance["others"])[:2])
    run.trial(lost).answers.unlink()
    run.trial(wrong).answers.write_bytes(run.trial(wrong).answers.read_bytes()[:-1])
    record = finish(run)
    assert {number for number in (lost, wrong) if number in level(record)} == set()
    lines = shown(run)
    scores = {trial.number: trial.score for trial in record.ranked}
    assert f"? {scores[lost]:.4f}" in lines and f"? {scores[wrong]:.4f}" in lines
    assert "? not compared with the best, as its answers to the validation rows are not kept" in " ".join(lines.split())
    with run.leaderboard("csv").open() as file:
        cells = {row["trial"]: row["level"] for row in csv.DictReader(file)}
    assert cells[str(lost)] == cells[str(wrong)] == "" and set(cells.values()) <= {"", "True", "False"}
    page = run.report.read_text()
    assert page.count("not compared; ") == 2 and "“not compared” those" in page
    assert "`?` not compared with the best" in run.leaderboard("md").read_text()


def test_trials_out_of_reach_are_not_compared(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automl.results.finalists.COMPARED", 2)
    record = finish(run)
    finalists = (record.finalists or {})["trials"]
    reach = {trial.number for trial in record.ranked[: len(finalists) + 2]} | set(map(int, finalists))
    assert set(level(record)) == reach and len(reach) < 10


def test_what_was_kept_is_of_this_run_epoch_and_shape_or_is_not_used(tmp_path: Path) -> None:
    path, said = tmp_path / "validation.safetensors", np.full((6, 2), 0.5, dtype=np.float32)
    asked: dict[str, Any] = {"run": "ours", "epoch": 3, "shape": (6, 2)}
    assert read_answers(path, **asked) is None
    assert write_answers(path, said, 3, OURS)
    np.testing.assert_array_equal(read_answers(path, **asked), said)
    for other in ({"run": "theirs"}, {"epoch": 2}, {"epoch": None}, {"shape": (6, 3)}, {"shape": (5, 2)}):
        assert read_answers(path, **{**asked, **other}) is None
    for wrong in (np.full((6, 2), np.nan), np.full((6, 2), -1.0), np.full((6, 2), 2.0)):
        assert write_answers(path, wrong.astype(np.float32), 3, OURS) and read_answers(path, **asked) is None
    assert write_answers(path, said, 3, None) and read_answers(path, **{**asked, "run": ""}) is not None
    content = path.read_bytes()
    for cut in (0, 7, 40, len(content) - 1):
        path.write_bytes(content[:cut])
        assert read_answers(path, **{**asked, "run": ""}) is None
    path.unlink()
    os.mkfifo(path)
    assert read_answers(path, **asked) is None
    many = np.broadcast_to(np.float32(0.5), (MOST_NUMBERS // 2 + 1, 2))
    assert not write_answers(tmp_path / "many", many, 1, OURS) and not (tmp_path / "many").exists()
    assert read_answers(tmp_path / "many", run="ours", epoch=1, shape=(2**40, 2**20)) is None


def test_answers_out_of_reach_are_removed_as_trials_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automl.search.phases.COMPARED", 3)
    run, ended = RunDirectory(tmp_path), [list(range(6))]
    for number in range(7):
        run.trial(number).path.mkdir(parents=True)
        for file in (run.trial(number).answers, run.trial(number).weights):
            file.touch()
    ledger = SimpleNamespace(
        unfinished=lambda: [6],
        take_ended=lambda: ended.pop() if ended else [],
        finalists=lambda: [4, 0],
        leaders=lambda count: [4, 3, 2, 1][:count],
    )

    def discard(folder: Any, *files: Path) -> None:
        for file in files:
            file.unlink(missing_ok=True)

    drive: Any = SimpleNamespace(run=run, ledger=ledger, publisher=SimpleNamespace(discard=discard))
    _weight_keeper(drive)(0)
    assert run.with_weights() == {0, 4, 6} and run.with_answers() == {0, 2, 3, 4, 6}
