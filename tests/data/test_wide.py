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
from automl.space import UserError
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
    assert join_cells(["", None]) is None and json.dumps(join_cells([1])) == "[1.0]"
