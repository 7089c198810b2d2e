"""Several runs: their trials in one table, and their best models side by side."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

import automl
from automl.cli import app
from automl.results.chance import Difference, differences, holm
from automl.results.comparison import names_of
from automl.results.leaderboard import COLUMNS
from automl.results.predictions import read_predictions, write_predictions
from automl.results.study import read_run
from automl.space import UserError
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.conftest import copy_run
from tests.results.conftest import record_trials
from tests.space.test_printable import hidden

pytestmark = pytest.mark.ray
ESCAPES = "\x1b[2J\u202e"


def said(*arguments: object) -> str:
    found = CliRunner().invoke(app, ["leaderboard", *map(str, arguments)], env={"COLUMNS": "80"})
    if found.exception:
        raise found.exception
    return found.stdout


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, finished: RunDirectory) -> Iterator[list[RunDirectory]]:
    """The finished run, one of other trials, and a copy whose best model is wrong about half of the rows."""
    folder = tmp_path_factory.mktemp("three")
    other = copy_run(finished, folder / "other")
    record_trials(other, trials=5, epochs=4, reasons={1: "it broke"})
    worse = copy_run(finished, folder / "worse")
    kept = read_predictions(finished)
    turned = {
        split: {name: each[:, ::-1].copy() if name != "linear" else each for name, each in by_model.items()}
        for split, by_model in kept.said.items()
    }
    write_predictions(worse, replace(kept, said=turned))
    figures = read_json(worse.finalists)
    for each in figures["trials"].values():
        each["validation"]["accuracy"] = 1 - each["validation"]["accuracy"]
        each["test"]["accuracy"] = 1 - each["test"]["accuracy"]
    write_json(worse.finalists, figures)
    yield [finished, other, worse]


def test_the_trials_of_several_runs_stand_in_one_order(three: list[RunDirectory]) -> None:
    finished, other, _ = three
    found = json.loads(said(finished.path, other.path, "--format", "json"))
    alone = {run.name: {row["trial"]: row for row in automl.leaderboard(run.path)} for run in (finished, other)}
    ranked = [row for row in found["trials"] if row["rank"] is not None]
    assert [row["rank"] for row in ranked] == [*range(1, len(ranked) + 1)]
    assert [row["score"] for row in ranked] == sorted((row["score"] for row in ranked), reverse=True)
    assert {row["run"] for row in ranked} == {"run", "other"}
    for row in found["trials"]:
        same = alone[row["run"]][row["trial"]]
        for name in ("score", "family", "status", "config", "test_score", "error", "parameters"):
            assert row[name] == same[name]
        assert row["level"] is None and row["recommended"] is None  # of its own run only
    assert found["trials"][-1]["status"] == "failed" and found["trials"][-1]["rank"] is None
    assert [each["run"] for each in found["runs"]] == ["run", "other"]
    rows = list(csv.DictReader(io.StringIO(said(finished.path, other.path, "--format", "csv"))))
    assert list(rows[0]) == ["run", *COLUMNS]
    assert [(row["run"], int(row["trial"])) for row in rows] == [(row["run"], row["trial"]) for row in found["trials"]]
    table = said(finished.path, other.path, "--top", 3).splitlines()
    assert max(map(cell_len, table)) <= 80 and table[0].split()[:4] == ["rank", "run", "trial", "family"]
    assert [line.split()[:3] for line in table[1:4]] == [
        [str(row["rank"]), row["run"], str(row["trial"])] for row in ranked[:3]
    ]
    assert f"{len(found['trials']) - 3} more: --top" in "\n".join(table) and "may be chance" in " ".join(table)
    markdown = said(finished.path, other.path, "--format", "md").splitlines()
    assert len([line for line in markdown if line.startswith("|")]) == 2 + len(found["trials"])


def test_trials_of_several_runs_are_chosen_by_run_and_setting(three: list[RunDirectory]) -> None:
    finished, other, _ = three
    words = (finished.path, other.path, "--format", "json")
    assert {row["run"] for row in json.loads(said(*words, "--where", 'run == "other"'))["trials"]} == {"other"}
    found = json.loads(said(*words, "--columns", "run,rank,learning_rate", "--sort", "run"))["trials"]
    assert [list(row) for row in found] == [["run", "rank", "learning_rate"]] * len(found)
    assert [row["run"] for row in found] == sorted(row["run"] for row in found)
    table = said(finished.path, other.path, "--columns", "run,validation", "--top", 2).splitlines()
    assert table[0].split() == ["run", "validation"]
    assert "learning_rate" in said(finished.path, other.path, "--wide").splitlines()[0]


def test_runs_of_one_name_are_told_apart_and_other_data_is_said(finished: RunDirectory, tmp_path: Path) -> None:
    copied = copy_run(finished, tmp_path / "run")
    found = json.loads(said(finished.path, copied.path, "--format", "json"))
    assert {row["run"] for row in found["trials"]} == {str(finished.path.resolve()), str(copied.path.resolve())}
    assert "data" not in said(finished.path, copied.path)
    manifest = read_json(copied.manifest)
    for changes, words in (
        ({"fingerprint": "0"}, "prepared or split the data differently"),
        ({"fingerprint": "0", "files": "1"}, "have different data"),
    ):
        write_json(copied.manifest, {**manifest, "data": {**manifest["data"], **changes}})
        assert words in " ".join(said(finished.path, copied.path).split())
        assert "do not have the same data" in " ".join(said("--compare", finished.path, copied.path).split())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "loss", "mode": "min", "objectives": ["loss"]}, "run looked for accuracy and copied for loss"),
        ({"mode": "min"}, "do not agree whether more accuracy is better"),
    ],
)
def test_runs_with_other_goals_are_refused(
    finished: RunDirectory, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    copied = copy_run(finished, tmp_path / "copied")
    write_json(copied.manifest, {**read_json(copied.manifest), **changes})
    for arguments in ((finished.path, copied.path), ("--compare", finished.path, finished.path, copied.path)):
        with pytest.raises(UserError, match=words):
            said(*arguments)


def test_any_number_of_runs_is_compared_row_by_row(three: list[RunDirectory], tmp_path: Path) -> None:
    finished, _, worse = three
    same = copy_run(finished, tmp_path / "same")
    runs = [worse, finished, same]
    found = json.loads(said("--compare", *(run.path for run in runs), "--format", "json"))
    assert [side["run"] for side in found["sides"]] == ["worse", "run", "same"]
    assert found["same_rows"] == {"validation": True, "test": True} and found["same_data"] is True
    assert found["best"] == {"validation": "run", "test": "run"} and found["differences"] == {}
    kept = read_predictions(finished)
    member = str(read_run(finished).best_trial.number)
    for split in ("validation", "test"):
        mine = kept.said[split][member]
        pairs = differences("accuracy", [mine[:, ::-1], mine, mine], kept.labels[split])
        p = holm({pair: each.p for pair, each in pairs.items()})
        if not read_run(finished).ensemble:
            assert found["ahead"][split]["worse"]["value"] == pytest.approx(-pairs[0, 1].value)
            assert found["ahead"][split]["worse"]["p"] == pytest.approx(p[0, 1])
        assert found["ahead"][split]["same"]["value"] == 0
    table = said("--compare", *(run.path for run in runs))
    words = " ".join(table.split())
    assert max(map(cell_len, table.splitlines())) <= 80
    assert "On the same test rows run is ahead of worse by" in words and "more than chance" in words
    assert "On the same test rows run and same are equal" in words and "All files ask for the same" in words
    rows = list(csv.DictReader(io.StringIO(said("--compare", *(run.path for run in runs), "--format", "csv"))))
    assert [row["run"] for row in rows] == ["worse", "run", "same"]
    assert float(rows[0]["test_best_ahead"]) == found["ahead"]["test"]["worse"]["value"]
    assert rows[1]["test_best_ahead"] == ""
    markdown = said("--compare", *(run.path for run in runs), "--format", "md")
    assert markdown.startswith("|  | worse | run | same |") and "ahead of worse" in markdown


def test_runs_without_the_same_rows_are_not_ahead(finished: RunDirectory, tmp_path: Path) -> None:
    one, two = (copy_run(finished, tmp_path / name) for name in ("one", "two"))
    kept = read_predictions(one)
    write_predictions(one, replace(kept, rows={**kept.rows, "test": "0"}))
    two.predictions.unlink()
    found = automl.compare(finished.path, one.path, two.path)
    assert found.same_rows == {"validation": None, "test": False} and found.ahead["test"] == {}
    words = " ".join(said("--compare", finished.path, one.path, two.path).split())
    assert "The test figures of run cannot be compared by row with those of one, two" in words
    assert "On the same validation rows run and one are equal" in words


def test_settings_that_differ_are_shown_with_the_runs_that_ask_for_them(finished: RunDirectory, tmp_path: Path) -> None:
    others = [copy_run(finished, tmp_path / name) for name in ("b", "c", "d", "e")]
    for number, run in enumerate(others):
        manifest = read_json(run.manifest)
        asked = f"training.batch_size={64 if number else 16}"
        write_json(run.manifest, {**manifest, "overrides": [*manifest["overrides"], asked]})
    found = automl.compare(finished.path, *(run.path for run in others))
    assert found.settings == {"training.batch_size": ("32", "16", "64", "64", "64")}
    lines = said("--compare", finished.path, *(run.path for run in others)).splitlines()
    assert max(map(cell_len, lines)) <= 80
    table = [line.split() for line in lines]
    assert ["training.batch_size", "32", "run"] in table and ["64", "c,", "d,", "e"] in table


def test_strange_names_only_show(hostile_run: RunDirectory, finished: RunDirectory, tmp_path: Path) -> None:
    strange = copy_run(finished, tmp_path / f"=1{ESCAPES}")
    for kind in ("table", "csv", "json", "md"):
        for arguments in ((finished.path, strange.path), ("--compare", finished.path, strange.path, finished.path)):
            assert hidden(said(*arguments, "--format", kind)) == set()
    assert "\n=1" not in said(finished.path, strange.path, "--format", "csv")


def test_a_difference_has_both_directions() -> None:
    from automl.results.comparison import _turned

    assert _turned(Difference(0.25, -0.125, 0.5, 0.3)) == Difference(-0.25, -0.5, 0.125, 0.3)


def test_runs_of_one_name_in_stores_go_by_their_urls_without_the_passwords(three: list[RunDirectory]) -> None:
    urls = [f"s3://user:secret@{bucket}/runs/run" for bucket in ("one", "two")]
    records = [replace(read_run(three[0]), directory=replace(three[0], url=url)) for url in urls]
    assert [name.partition("@")[2] for name in names_of(records)] == ["one/runs/run", "two/runs/run"]
    assert "secret" not in "".join(names_of(records))
