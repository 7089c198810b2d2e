"""Labels of any type and in any mixture: one class has one name, in every block and in every format."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.data import prepare
from automl.data.columns import label_column, mixed_column, no_label
from automl.data.text_tables import BATCH_ROWS
from automl.space import UserError
from tests.data.settings import settings_for


def write_lines(path: Path, labels: list[Any]) -> Path:
    rows = [{"text": f"row {number}", "label": label} for number, label in enumerate(labels)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_number_is_one_class_however_its_block_is_mixed(tmp_path: Path) -> None:
    whole = [1.0, 2.0] * (BATCH_ROWS // 2)
    path = write_lines(tmp_path / "t.jsonl", [*whole, *[1, 2.0, "1", "x", 2] * 40, *[1, 2] * 40])
    prepared = prepare(settings_for(path), seed=0, cache=tmp_path / "cache")
    assert prepared.classes == ("1", "2", "x")


@pytest.mark.parametrize("mixed", [False, True])
def test_nan_is_no_label(tmp_path: Path, mixed: bool) -> None:
    path = write_lines(tmp_path / "t.jsonl", [*([1.0, 2.0, math.nan] * 20), *(["x"] * 20 if mixed else [])])
    with pytest.raises(UserError, match="20 with no label"):
        prepare(settings_for(path), seed=0, cache=tmp_path / "cache")
    prepared = prepare({**settings_for(path), "on_bad_rows": "report"}, seed=0, cache=tmp_path / "cache")
    assert prepared.classes == (("1", "2", "x") if mixed else ("1", "2"))


@pytest.mark.parametrize("label", [1.5, -0.25, 1e-7, math.inf, -math.inf, [1], {"a": 1}, 1e300])
def test_what_is_no_class_is_a_bad_row_in_a_mixed_column(label: Any) -> None:
    column = mixed_column(["a", 1, label, True, 10**40])
    assert no_label(column).tolist() == [False, False, True, False, False]
    assert label_column(column, "x").to_pylist() == ["a", "1", None, "true", str(10**40)]


@given(st.lists(st.one_of(st.integers(-(10**6), 10**6), st.booleans(), st.just(math.nan), st.none()), min_size=1))
def test_a_mixed_column_names_numbers_as_a_plain_one_does(values: list[Any]) -> None:
    numbers = [value for value in values if not isinstance(value, bool)]
    plain = label_column(pa.array([None if value is None else float(value) for value in numbers], pa.float64()), "x")
    mixed = label_column(mixed_column(numbers), "x")
    assert mixed.to_pylist() == plain.to_pylist()
    floats = [float(value) if isinstance(value, int) else value for value in numbers]
    assert label_column(mixed_column(floats), "x").to_pylist() == plain.to_pylist()


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.string()])
def test_a_class_has_one_name_in_every_type_of_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    labels = pa.array([1, 2] * 20, pa.int64()).cast(pa.float32() if kind == pa.float16() else kind)
    if kind == pa.float16():
        labels = labels.cast(kind)
    pq.write_table(pa.table({"text": [f"row {row}" for row in range(40)], "label": labels}), tmp_path / "t.parquet")
    prepared = prepare(settings_for(tmp_path / "t.parquet"), seed=0, cache=tmp_path / "cache")
    assert prepared.classes == ("1", "2")
