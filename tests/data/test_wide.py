"""Series across the columns of a table, read alike from every kind of file, for preparing and for predicting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from automl.data import DenseRows, prepare
from automl.data.modalities import MODALITIES
from automl.data.sequences import unpack
from automl.data.tables import write_table
from automl.data.wide import join_cells
from automl.results.input_rows import open_rows
from automl.space import UserError, parse
from automl.space.families import FAMILIES
from tests.data.settings import settings_for

STEPS = 6


def table(rows: int = 24) -> pa.Table:
    """Rows of 3 to 6 steps; x0, x1, ... with an identifier among them and the label named like a step."""
    series = [[float(row + step) if step < 3 + row % 4 else None for step in range(STEPS)] for row in range(rows)]
    columns: dict[str, Any] = {"id": [f"r{row}" for row in range(rows)]}
    columns |= {f"x{step}": [each[step] for each in series] for step in range(STEPS)}
    return pa.table({**columns, "xlabel": [row % 2 for row in range(rows)]})


def settings(path: Path, **changes: Any) -> dict[str, Any]:
    data = settings_for(path, series="x*", label="xlabel", **changes)
    del data["text"]
    return data


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl", "t.csv.zst"])
def test_a_wide_table_is_series_of_its_columns(name: str, tmp_path: Path) -> None:
    write_table(table(), tmp_path / name)
    prepared = prepare(settings(tmp_path / name), seed=0, cache=tmp_path / "cache")
    train = prepared.rows("train")
    assert isinstance(train, DenseRows) and prepared.profile["shape"] == [STEPS, 1]
    assert sorted(set(train.lengths.tolist())) == [3, 4, 5, 6]
    for values, length in zip(train.values[:, :, 0], train.lengths, strict=True):
        assert np.array_equal(values[:length], values[0] + np.arange(length)) and np.isnan(values[length:]).all()


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
def test_the_rows_of_a_wide_table_are_predicted(name: str, tmp_path: Path) -> None:
    write_table(table().drop_columns(["xlabel"]), tmp_path / name)
    _, windows = open_rows(tmp_path / name, "x*", MODALITIES["series"])
    found = [each for window in windows for each in window.inputs]
    assert [unpack(each)[:, 0].tolist() for each in found[:2]] == [[0, 1, 2], [1, 2, 3, 4]] and len(found) == 24


def pairs(rows: int = 24) -> pa.Table:
    """Rows of 2 to 4 steps of two channels, x0, x1, ... and y0, y1, ..., the second ten times the first."""
    columns: dict[str, Any] = {}
    for name, times in (("x", 1.0), ("y", 10.0)):
        for step in range(4):
            columns[f"{name}{step}"] = [times * (row + step) if step < 2 + row % 3 else None for row in range(rows)]
    return pa.table({**columns, "xlabel": [row % 2 for row in range(rows)]})


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
def test_a_list_of_patterns_is_a_channel_of_each(name: str, tmp_path: Path) -> None:
    write_table(pairs(), tmp_path / name)
    data = {**settings(tmp_path / name), "series": ["x*", "y*"]}
    prepared = prepare(data, seed=0, cache=tmp_path / "cache")
    train = prepared.rows("train")
    assert isinstance(train, DenseRows) and prepared.profile["shape"] == [4, 2]
    for values, length in zip(train.values, train.lengths, strict=True):
        assert np.array_equal(values[:length, 0], values[0, 0] + np.arange(length))
        assert np.array_equal(values[:length, 1], 10 * values[:length, 0]) and np.isnan(values[length:]).all()
    write_table(pairs().drop_columns(["xlabel"]), tmp_path / name)
    _, windows = open_rows(tmp_path / name, ["x*", "y*"], MODALITIES["series"])
    found = [unpack(each).tolist() for window in windows for each in window.inputs]
    assert len(found) == 24 and found[1] == [[1, 10], [2, 20], [3, 30]]


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (["x*", "y[01]"], r"has columns 4 that fit 'x\*', 2 that fit 'y\[01\]'; expected a column of each channel"),
        (["x*", "x?"], r"the column 'x0' fits several of 'x\*', 'x\?'"),
        (["x*", "z*"], r"has no column that fits 'z\*'"),
    ],
)
def test_channels_that_do_not_go_together(patterns: list[str], words: str, tmp_path: Path) -> None:
    write_table(pairs(), tmp_path / "t.csv")
    with pytest.raises(UserError, match=words):
        prepare({**settings(tmp_path / "t.csv"), "series": patterns}, seed=0, cache=tmp_path / "cache")


@pytest.mark.parametrize("series", ['["x*", y1]', "[]", "5"])
def test_what_series_may_be(series: str) -> None:
    text = f"name: a\ntask: sequence_classification\ndata: {{train: t.csv, series: {series}}}\nmodel: {{tcn: {{}}}}\n"
    with pytest.raises(UserError, match="expected a column, a pattern for several, or a list of patterns"):
        parse(text, FAMILIES)


def test_a_json_row_that_lacks_a_step_of_one_channel_has_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"x0": 1, "x1": 2, "y0": 3, "y1": 4}\n{"x0": 1, "x1": 2, "y0": 3}\n')
    _, windows = open_rows(tmp_path / "t.jsonl", ["x*", "y*"], MODALITIES["series"])
    (window,) = windows
    assert window.errors == [None, "its channels have different numbers of steps"]


def test_a_gap_or_a_word_in_a_series_is_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("xlabel,x0,x1,x2\n" + "a,1,2,3\nb,1,2,\n" * 4 + "a,1,,3\na,1,two,3\nb,,,\n")
    prepared = prepare(settings(tmp_path / "t.csv", on_bad_rows="report"), seed=0, cache=tmp_path / "cache")
    file = prepared.profile["files"][str(tmp_path / "t.csv")]
    assert file["counts"] == {"no series": 1, "a series that is not made of finite numbers": 2}


def test_a_pattern_that_fits_nothing(tmp_path: Path) -> None:
    write_table(table(), tmp_path / "t.csv")
    with pytest.raises(UserError, match=r"has no column that fits 'y\*' \(it has 'id', 'x0'"):
        prepare({**settings(tmp_path / "t.csv"), "series": "y*"}, seed=0, cache=tmp_path / "cache")


def test_cells_of_a_row() -> None:
    assert join_cells(["1", " 2.5 ", "", None]) == [1.0, 2.5]
    assert join_cells([None, 2, "x"]) == [None, 2.0, None]
    assert join_cells(["1", "2", "", "3", "x", ""], channels=2) == [[1.0, 3.0], [2.0, None]]
    assert join_cells(["", None, "", None], channels=2) is None
    assert join_cells(["", None]) is None and json.dumps(join_cells([1])) == "[1.0]"
