"""The columns of a leaderboard: named by their headings, chosen, sorted by, and settings where there is room."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len

import automl
from automl.cli import main
from automl.results.columns import asked_columns
from automl.results.formats import format_leaderboard
from automl.results.leaderboard import COLUMNS, rows
from automl.results.report_table import leaderboard_table
from automl.results.selection import RowNames, Selection, select
from automl.results.several import render_several
from automl.results.study import RunRecord, read_run
from automl.results.table import render_table
from automl.space import UserError
from automl.space.printable import needed_width
from automl.training.run_directory import RunDirectory

pytestmark = pytest.mark.ray
FORMATS = ("table", "json", "csv", "md")
TREES = {"config", "objectives"}


@pytest.fixture(scope="module")
def record(finished: RunDirectory) -> RunRecord:
    return read_run(finished)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], finished: RunDirectory) -> Any:
    def run(*arguments: str, width: int = 80, code: int = 0, path: Any = finished.path) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        with pytest.raises(SystemExit) as end:
            main(["leaderboard", str(path), *arguments])
        said = capsys.readouterr()
        assert (end.value.code or 0) == code, said.err
        return said.err if code else said.out

    return run


def cells(line: str) -> list[str]:
    """The headings of a line of a table; two spaces or more lie between columns."""
    return re.split(r"\s{2,}", line.strip())


def headings(record: RunRecord) -> dict[str, str]:
    """Each heading that a person sees anywhere, and where."""
    table = render_table(record, Selection(top=20, wide=True), 80).renderables[0]
    markdown = next(line for line in format_leaderboard(record, "md").splitlines() if line.startswith("| "))
    found = {str(column.header): "terminal" for column in table.columns}
    found |= {name.strip().replace("\\", ""): "Markdown" for name in markdown.strip("| ").split(" | ")}
    return found | {column.title: "report" for column in leaderboard_table(record).columns}


def test_every_heading_that_a_person_sees_is_a_name_to_sort_by_and_to_choose(record: RunRecord) -> None:
    seen = headings(record)
    assert {"validation", "time", "CPU time", "ms for one", "95 % interval", "validation accuracy", "hidden"} <= {*seen}
    every = rows(record)
    for heading in seen.keys() - {"settings", "config"}:
        for sign in ("", "-"):
            found = select(every, Selection(sort=sign + heading), maximize=True, metric=record.metric)
            assert len(found) == len(every), heading
    for heading in seen:
        for kind in ("json", "csv", "md"):
            assert format_leaderboard(record, kind, Selection(columns=(heading,))), (heading, kind)
        table = render_table(record, Selection(columns=(heading,)), 80).renderables[0]
        assert [str(column.header) for column in table.columns] == [heading]


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_of_the_json_is_a_name_in_every_format(name: str, record: RunRecord, command: Any) -> None:
    expected = [row[name] for row in rows(record)]
    said = json.loads(command("--columns", f"trial,{name}", "--format", "json"))
    assert [row[name] for row in said["trials"]] == expected
    assert [row.keys() for row in said["trials"]] == [dict.fromkeys(["trial", name]).keys()] * len(expected)
    lines = list(csv.DictReader(io.StringIO(command("--columns", name, "--format", "csv"))))
    assert [*lines[0]] == [name] and len(lines) > len(expected)
    assert command("--columns", name, "--format", "md").splitlines()[2] == f"| {name} |"
    assert cells(command("--columns", name).splitlines()[0]) == [name]
    if name not in TREES:
        ordered = json.loads(command("--sort", name, "--format", "json"))["trials"]
        values = [row[name] for row in ordered if row[name] is not None]
        assert values == sorted(
            values, reverse=name in {"score", "confirmed_mean", "test_score", "test_low", "test_high"}
        )


@pytest.mark.parametrize("width", [80, 100, 120, 160, 240])
@pytest.mark.parametrize("sort", [None, "validation", "parameters", "hidden", "-CPU time", "training.batch_size"])
def test_the_column_that_is_sorted_by_is_shown_and_nothing_is_wider_than_the_terminal(
    width: int, sort: str | None, command: Any
) -> None:
    said = command(*(["--sort", sort] if sort else []), width=width).splitlines()
    assert max(map(cell_len, said)) <= width
    titles = cells(said[0])
    assert titles[:4] == ["rank", "trial", "family", "validation"] and titles[-1] == "status"
    if sort:
        name = sort.removeprefix("-")
        assert name in titles or name.rpartition(".")[2] in titles
    whole = not any("have no room" in line for line in said)
    assert whole if width == 240 else width > 80 or not whole


def test_a_column_is_written_alike_where_rows_are_sorted_by_it_and_where_it_is_chosen(record: RunRecord) -> None:
    def columns(asked: Selection, several: bool) -> dict[str, list[str]]:
        shown = render_several([record, record], asked, 200) if several else render_table(record, asked, 200)
        return {str(column.header): [str(each) for each in column.cells] for column in shown.renderables[0].columns}

    names = columns(Selection(wide=True), several=False).keys() - {"status"}
    assert {"CPU time", "parameters", "test, 95 %"} <= names
    for several in (False, True):
        for name in names - {"validation"} if several else names:  # whose marks are of one run
            asked = Selection(sort=name)
            chosen = columns(replace(asked, columns=(name,)), several)[name]
            assert columns(asked, several)[name] == chosen, name
            assert columns(replace(asked, columns=("trial",)), several)[name] == chosen, name


def test_a_heading_with_a_comma_is_one_name(command: Any) -> None:
    assert asked_columns("rank,test, 95 %,ms for 1, p50 and p95,time") == (
        "rank",
        "test, 95 %",
        "ms for 1, p50 and p95",
        "time",
    )
    assert asked_columns("test,time, 95 %") == ("test", "time", "95 %")
    said = command("--columns", "rank,test, 95 %,CPU time", width=120).splitlines()
    assert cells(said[0]) == ["rank", "test, 95 %", "CPU time"] and " to 0." in said[1]


def test_settings_that_differ_are_columns_and_those_that_are_the_same_are_not(record: RunRecord, command: Any) -> None:
    shown = cells(command(width=240).splitlines()[0])
    chosen = [trial.params for trial in record.study.get_trials(deepcopy=False)]
    searched = {name for params in chosen for name in params} - {"model"}
    for name in searched:
        values = {json.dumps(params[name]) for params in chosen if name in params}
        short = name.rpartition(".")[2]
        assert any(title.endswith(short) for title in shown) == (len(values) > 1), name


def test_wide_has_one_line_for_each_row_in_a_terminal_of_any_width(command: Any, record: RunRecord) -> None:
    lines = command("--wide", width=80).splitlines()
    count = len(rows(record)) + 1
    assert cells(lines[0])[-1] == "status" and {"CPU time", "parameters"} <= {*cells(lines[0])}
    assert [int(line.split()[0]) for line in lines[1:count]] == [*range(1, count)]
    assert command("--wide", width=200).splitlines()[:count] == lines[:count]


def test_names_that_there_are_not_are_refused_with_the_nearest(command: Any) -> None:
    for option in ("--columns", "--sort"):
        for wrong, right in [("validaton", "validation"), ("hiden", "hidden"), ("cpu_hour", "cpu_hours")]:
            said = command(option, wrong, code=2)
            assert f"{option}: there is no column or setting {wrong!r}" in said and right in said
    assert "names no column" in command("--columns", " , ", code=2)
    assert "--wide" in command("--wide", "--format", "csv", code=2)
    assert "one of them" in command("--sort", "settings", code=2)
    listed = " ".join(command("--sort", "zzzzzz", code=2).split())
    assert "there are rank, trial, status, family, epochs, validation," in listed and " time, " in listed


def test_what_is_said_below_a_table_is_of_the_columns_that_it_shows(command: Any) -> None:
    for columns, test, level in [("rank,time", False, False), ("rank,test", True, False), ("validation", False, True)]:
        said = command("--columns", columns)
        assert ("test is measured" in said) == test and ("= not behind" in said) == level, columns


def test_how_to_see_more_keeps_what_was_asked(command: Any) -> None:
    assert "more: automl leaderboard RUN --top" in command("--top", "1")
    said = command("--top", "1", "--where", "epochs >= 1")
    assert "more: --top" in said and "RUN --top" not in said


def test_names_of_columns_are_taken_once_and_in_their_order(command: Any) -> None:
    assert asked_columns("time, rank,,time , CPU time") == ("time", "rank", "CPU time")
    said = command("--columns", "time,rank,CPU time,batch_size,model.rnn.hidden", width=120).splitlines()
    assert cells(said[0]) == ["time", "rank", "CPU time", "batch_size", "model.rnn.hidden"]
    assert [line.split()[1] for line in said[1:4]] == ["1", "2", "3"]


def test_a_setting_of_several_families_is_one_column() -> None:
    def row(family: str, **settings: Any) -> dict[str, Any]:
        config = {"model": {family: settings}, "training": {"optimizer": {"adamw": {"rate": 0.1}}}}
        return {**dict.fromkeys(COLUMNS), "family": family, "config": config}

    both = [row("rnn", hidden=8), row("cnn", hidden=16), row("my.module:net", hidden=4)]
    names = RowNames(both)
    assert set(names.resolve("hidden", "")) == {"model.rnn.hidden", "model.cnn.hidden", "model.my.module:net.hidden"}
    ordered = select(both, Selection(sort="hidden"), maximize=True)
    assert [each["family"] for each in ordered] == ["my.module:net", "rnn", "cnn"]
    for wrong in ("", " ", ".", "hidden.", "[0]", "\x1b[31m"):
        with pytest.raises(UserError, match="there is no column or setting"):
            names.resolve(wrong, "--sort")


def test_words_of_strangers_are_shown_as_they_are_in_every_column(hostile_run: RunDirectory, command: Any) -> None:
    record = read_run(hostile_run)
    for kind in FORMATS:
        said = command("--columns", "error,status,config,model", "--format", kind, path=hostile_run.path)
        assert "\x1b" not in said
        assert kind == "json" or "<img" not in said or kind in ("table", "csv")
    wide = render_table(record, Selection(top=30, wide=True), 80).renderables[0]
    assert needed_width(wide) > 200
    assert max(map(cell_len, command(path=hostile_run.path).splitlines())) <= 80


def test_python_takes_the_same_names(finished: RunDirectory) -> None:
    trials = [row for row in automl.leaderboard(finished.path, sort="time") if row["trial"] is not None]
    assert [row["train_seconds"] for row in trials] == sorted(row["train_seconds"] for row in trials)


@pytest.mark.parametrize("kind", ["json", "csv", "md"])
def test_settings_have_names_where_no_row_is_left(record: RunRecord, kind: str) -> None:
    asked = Selection(where="score > 2", sort="training.batch_size", columns=("trial", "training.batch_size"))
    assert format_leaderboard(record, kind, asked)
