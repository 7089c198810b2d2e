"""Series as they come: lists of numbers, of one or several channels, of any length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from automl.data import DenseRows, batches, load_encoder, prepare
from automl.data.sequences import SequenceEncoder, pack, read_series, unpack
from automl.space import UserError
from tests.data.settings import SERIES, settings_for


def table(path: Path, series: list[Any]) -> Path:
    labels = [("up", "down")[number % 2] for number in range(len(series))]
    if path.suffix == ".jsonl":
        rows = [{"series": each, "label": label} for each, label in zip(series, labels, strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.table({"series": series, "label": labels}), path)
    return path


def random_series(count: int, channels: int) -> list[Any]:
    generator = np.random.default_rng(0)
    made = [generator.normal(3, 2, (5 + number % 4, channels)).astype(np.float32) for number in range(count)]
    return [(each if channels > 1 else each[:, 0]).tolist() for each in made]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_numbers_come_back_as_they_were(tmp_path: Path, channels: int, ending: str) -> None:
    series = random_series(24, channels)
    prepared = prepare(settings_for(table(tmp_path / f"t.{ending}", series), SERIES), seed=0, cache=tmp_path / "cache")
    assert prepared.profile["shape"] == [8, channels]
    rows, originals = prepared.rows("train"), prepared.inputs("train")
    assert isinstance(rows, DenseRows) and originals is not None and rows.values.dtype == np.float32
    whole = []
    for values, length, content in zip(rows.values, rows.lengths, originals, strict=True):
        steps = unpack(content)
        assert steps.squeeze().tolist() in series
        assert (values[:length] == steps).all() and np.isnan(values[length:]).all()
        whole.append(steps)
    steps = np.concatenate(whole)
    assert prepared.profile["mean"] == pytest.approx(steps.mean(axis=0).tolist(), rel=1e-5)
    assert prepared.profile["deviation"] == pytest.approx(steps.std(axis=0).tolist(), rel=1e-4)
    for batch in batches(rows, 4, shuffle=np.random.default_rng(0)):
        assert batch.tokens.shape[1] == batch.lengths.max()
        assert (~batch.tokens[..., 0].isnan()).sum(dim=1).equal(batch.lengths)


def test_long_series_are_cut_and_the_encoder_is_kept(tmp_path: Path) -> None:
    train = table(tmp_path / "t.parquet", random_series(24, 1))
    prepared = prepare(settings_for(train, SERIES, max_length=6), seed=0, cache=tmp_path / "cache")
    rows = prepared.rows("train")
    assert isinstance(rows, DenseRows) and rows.values.shape[1] == 6 and rows.lengths.max() == 6
    encoder = load_encoder(prepared.path)
    assert encoder == SequenceEncoder(6, 1)
    again = encoder.encode(prepared.inputs("train") or [])
    assert isinstance(again, DenseRows)
    np.testing.assert_array_equal(again.values, rows.values)


def test_rows_that_are_no_series_are_counted(tmp_path: Path) -> None:
    series = random_series(12, 1)
    series[2], series[5], series[6] = [1.0, float("nan")], None, []
    train = table(tmp_path / "t.parquet", series)
    with pytest.raises(UserError, match=r"1 with a series that is not made of finite numbers in column 'series'"):
        prepare(settings_for(train, SERIES), seed=0, cache=tmp_path / "cache")
    prepared = prepare(settings_for(train, SERIES, on_bad_rows="report"), seed=0, cache=tmp_path / "cache")
    (counted,) = prepared.profile["bad_rows"].values()
    assert counted["counts"] == {"no series": 2, "a series that is not made of finite numbers": 1}
    assert sum(prepared.profile["rows"].values()) == 9


def test_what_a_column_may_hold() -> None:
    texts = pa.array(["[1, 2.5]", "[[1, 2], [3, 4]]", "[[1], [2, 3]]", "hello", "", '["a"]', "[1e400]"])
    found, unusable = read_series(texts, "t")
    assert unusable["no series"].tolist() == [False] * 4 + [True] + [False] * 2
    wrong = unusable["a series that is not made of finite numbers"]
    assert wrong.tolist() == [False, False, True, True, False, True, True]
    assert unpack(found[1].as_py()).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(UserError, match="t: column 'x' holds double, expected series"):
        read_series(pa.array([1.5]), "t: column 'x'")


def test_lists_beside_lists_written_as_text(tmp_path: Path) -> None:
    series = [json.dumps(each) if number % 3 else each for number, each in enumerate(random_series(12, 2))]
    prepared = prepare(settings_for(table(tmp_path / "t.jsonl", series), SERIES), seed=0, cache=tmp_path / "cache")
    assert sum(prepared.profile["rows"].values()) == 12 and prepared.profile["shape"] == [8, 2]


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(UserError, match="expected series of 2 channels, as the first of train is; found one of 1"):
        SequenceEncoder(4, 2).encode([pack(np.ones((3, 2), np.float32)), [1.0, 2.0]])
