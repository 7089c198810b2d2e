"""Conditions on a leaderboard's rows, and their order."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

import automl
from automl.cli import main
from automl.results.leaderboard import COLUMNS
from automl.results.selection import Selection, select
from automl.space import UserError
from automl.training.run_directory import RunDirectory


def row(trial: int, family: str, score: float | None, **cells: Any) -> dict[str, Any]:
    settings = {"hidden": 32 * trial, "sizes": [trial, 2]} if family == "rnn" else {"channels": 8, "norm": trial > 3}
    config = {"model": {family: settings}, "training": {"optimizer": {"adamw": {"rate": 0.1**trial}}, "batch_size": 32}}
    named = {"trial": trial, "family": family, "score": score, "status": "stopped", "config": config, **cells}
    return {**dict.fromkeys(COLUMNS), **named}


ROWS = [
    row(2, "rnn", 0.9, status="completed", latency_p50_ms=2.0, group=1, recommended=False),
    row(4, "cnn", 0.85, latency_p50_ms=0.5, group=1, recommended=True, objectives={"latency_ms": 0.5}),
    row(1, "rnn", 0.8),
    row(5, "cnn", 0.7, error="x"),
    row(3, "rnn", None, status="failed"),
]


@pytest.mark.parametrize(
    ("where", "trials"),
    [
        ('family == "cnn"', [4, 5]),
        ('model == "rnn" and score >= 0.8', [2, 1]),
        ("model.rnn.hidden < 96", [2, 1]),
        ("not model.rnn.hidden < 96", [3]),
        ("model.rnn.hidden < 64 or family == 'cnn'", [4, 1, 5]),
        ("model.rnn.sizes[0] == 3", [3]),
        ("max(model.rnn.sizes) > 2", [3]),
        ("recommended", [4]),
        ("group == 1 and latency_p50_ms * 2 < 2", [4]),
        ("0.75 < score < 0.88", [4, 1]),
        ("score == null", [3]),
        ("training.optimizer.adamw.rate > 0.005", [2, 1]),
        ("latency_ms < 1", [4]),
        ("1 / (trial - 1) > 0.9", [2]),
        ("model.cnn.norm", [4, 5]),
    ],
)
def test_a_condition_leaves_the_rows_that_meet_it_in_their_order(where: str, trials: list[int]) -> None:
    assert [row["trial"] for row in select(ROWS, Selection(where=where), maximize=True)] == trials


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ('famly == "cnn"', "there is no column or setting 'famly'; did you mean 'family'?"),
        ("hidden < 3", "there is no column or setting 'hidden'; did you mean 'model.rnn.hidden'?"),
        ('family == "cn"', "family is never 'cn'; did you mean 'cnn'?"),
        ('status == "stoped"', "did you mean 'stopped'?"),
        ("score", "expected true or false; score is a number"),
        ("score < ", "expected a setting or a number"),
        ("family < 3", "expected a number; family is text"),
        ("score = 1", "write =="),
        ("__import__('os')", "unknown function"),
        ("score.__class__ == 1", "there is no column or setting"),
    ],
)
def test_a_condition_that_cannot_be_is_refused_at_its_place(where: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        select(ROWS, Selection(where=where), maximize=True)
    first, shown, mark = str(caught.value).splitlines()
    assert message in first and shown.strip() == where.strip() and mark.strip() == "^"


@pytest.mark.parametrize(
    ("sort", "maximize", "trials"),
    [
        ("score", True, [2, 4, 1, 5, 3]),
        ("score", False, [5, 1, 4, 2, 3]),
        ("-score", True, [5, 1, 4, 2, 3]),
        ("latency_p50_ms", True, [4, 2, 1, 5, 3]),
        ("-latency_p50_ms", True, [2, 4, 1, 5, 3]),
        ("trial", True, [1, 2, 3, 4, 5]),
        ("model.rnn.hidden", True, [1, 2, 3, 4, 5]),
        ("family", True, [4, 5, 2, 1, 3]),
    ],
)
def test_rows_are_sorted_best_or_least_first_and_what_has_no_value_last(
    sort: str, maximize: bool, trials: list[int]
) -> None:
    assert [row["trial"] for row in select(ROWS, Selection(sort=sort), maximize=maximize)] == trials


def test_a_column_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"^--sort: there is no column or setting 'latency_p50'; .* 'latency_p50_ms'"):
        select(ROWS, Selection(sort="latency_p50"), maximize=True)


@pytest.mark.ray
@pytest.mark.parametrize("name", ["sizes[x]", "sizes[-1]", "sizes[", "sizes[1", "sizes[1]]", "sizes[²]"])
def test_a_place_in_a_list_is_a_number(name: str) -> None:
    with pytest.raises(UserError, match=r"^--sort: .* has no such place; write a number from 0, such as sizes\[0\]$"):
        select(ROWS, Selection(sort=name), maximize=True)
    assert [each["trial"] for each in select(ROWS, Selection(sort="sizes[0]"), maximize=True)] == [1, 2, 3, 4, 5]


def test_every_format_shows_the_same_selection(capsys: pytest.CaptureFixture[str], finished: RunDirectory) -> None:
    def printed(*more: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(["leaderboard", str(finished.path), *asked, *more])
        assert not end.value.code
        return capsys.readouterr().out

    asked = ("--where", 'family == "rnn"', "--sort", "-parameters")
    rows = [row for row in automl.leaderboard(finished.path) if row["family"] == "rnn"]
    expected = [row["trial"] for row in sorted(rows, key=lambda row: -row["parameters"])]
    assert 1 < len(expected) < 10
    said = json.loads(printed("--format", "json"))
    assert [row["trial"] for row in said["trials"]] == expected and said["floor"] is not None
    found = csv.DictReader(io.StringIO(printed("--format", "csv")))
    assert [row["trial"] for row in found] == [*map(str, expected), ""]
    table = printed().splitlines()
    assert [int(line.split()[1]) for line in table[1 : len(expected) + 1]] == expected
    assert f"{len(expected)} of 10 trials" in " ".join(table)
    assert automl.leaderboard(finished.path, where=asked[1], sort=asked[3])[0]["trial"] == expected[0]
    with pytest.raises(SystemExit) as end:
        main(["leaderboard", str(finished.path), "--sort", "acuracy"])
    failed = capsys.readouterr()
    assert end.value.code == 2 and "there is no column or setting 'acuracy'" in failed.err and not failed.out
