"""Validation rows set aside by group and by time."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.data import prepare
from automl.data.splits import read_keys, set_aside, validation_rows
from automl.space import UserError
from tests.data.settings import settings_for


def write(folder: Path, **column: list[Any]) -> Path:
    ((name, values),) = column.items()
    labels = ["ab"[number % 2] for number in range(len(values))]
    table = pa.table({"text": [f"row {number}" for number in range(len(values))], "label": labels, name: values})
    pq.write_table(table, folder / "t.parquet")
    return folder / "t.parquet"


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=60),
    st.floats(0.05, 0.9),
    st.integers(0, 3),
    st.sampled_from(["group", "time"]),
)
def test_a_group_and_a_time_are_on_one_side(values: list[int], fraction: float, seed: int, by: str) -> None:
    keys = np.array(values, dtype=np.float64)
    data = {"validation": fraction, by: "column"}
    usable = np.arange(len(keys)) % 5 != 0
    chosen = validation_rows(data, np.zeros(len(keys), dtype=np.int32), keys, usable, seed)
    assert not chosen[~usable].any()
    inside, outside = set(keys[usable & chosen]), set(keys[usable & ~chosen])
    assert not inside & outside
    if len(set(keys[usable])) > 1:
        assert inside and outside
        if by == "time":
            assert min(inside) > max(outside)


@given(
    st.lists(st.integers(0, 9), min_size=3, max_size=80),
    st.floats(0.05, 0.4),
    st.floats(0.05, 0.4),
    st.sampled_from(["group", "time", "label"]),
)
@settings(max_examples=30)
def test_test_rows_are_set_aside_as_validation_rows_are(values: list[int], test: float, part: float, by: str) -> None:
    keys, usable = np.array(values, dtype=np.float64), np.arange(len(values)) % 5 != 0
    labels = np.array(values, dtype=np.int32)
    data = {"validation": part, "test": test, by: "column"}
    found = set_aside(data, labels, keys, usable, 0)
    again = set_aside(data, labels, keys, usable, 0)
    assert all(np.array_equal(found[split], again[split]) for split in found)
    parts = {**found, "train": usable & ~found["validation"] & ~found["test"]}
    assert not (found["validation"] & found["test"]).any() and not found["test"][~usable].any()
    of = {split: set(keys[mask]) for split, mask in parts.items()}
    if by == "label":
        for name, rows in zip(*np.unique(keys[usable], return_counts=True), strict=True):
            assert [name in of[split] for split in ("train", "validation", "test")] == [True, rows > 1, rows > 2]
    else:
        assert not of["train"] & of["validation"] | of["train"] & of["test"] | of["validation"] & of["test"]
        many = len(set(keys[usable]))
        assert [bool(of[split]) for split in ("train", "validation", "test")] == [True, many > 1, many > 2]
        if by == "time" and many > 2:
            assert max(of["train"]) < min(of["validation"]) <= max(of["validation"]) < min(of["test"])


def test_one_table_gives_train_validation_and_test(tmp_path: Path) -> None:
    path = write(tmp_path, day=[number // 10 for number in range(1000)])
    prepared = prepare(settings_for(path, validation=0.1, test=0.2), seed=0, cache=tmp_path / "cache")
    assert prepared.profile["rows"] == {"train": 700, "validation": 100, "test": 200}
    texts = [set(prepared.texts(split) or []) for split in ("train", "validation", "test")]
    assert sum(map(len, texts)) == len(set().union(*texts)) == 1000
    again = prepare(settings_for(path, validation=0.1, test=0.2), seed=0, cache=tmp_path / "other")
    assert again.texts("test") == prepared.texts("test") and again.fingerprint == prepared.fingerprint
    other = prepare(settings_for(path, validation=0.1, test=0.2), seed=1, cache=tmp_path / "cache")
    assert other.texts("test") != prepared.texts("test")
    late = prepare(settings_for(path, validation=0.1, test=0.2, time="day"), seed=0, cache=tmp_path / "cache")
    assert sorted(late.texts("test") or []) == sorted(f"row {number}" for number in range(800, 1000))
    assert sorted(late.texts("validation") or []) == sorted(f"row {number}" for number in range(700, 800))


def test_repeats_are_not_in_two_parts_where_they_are_removed(tmp_path: Path) -> None:
    table = pa.table({"text": [f"row {number % 50}" for number in range(400)], "label": ["a", "b"] * 200})
    pq.write_table(table, tmp_path / "t.parquet")
    kept = prepare(settings_for(tmp_path / "t.parquet", test=0.2), seed=0, cache=tmp_path / "cache")
    assert kept.profile["duplicates"]["test"] > 0
    data = settings_for(tmp_path / "t.parquet", test=0.2, duplicates="remove")
    removed = prepare(data, seed=0, cache=tmp_path / "cache").profile
    assert removed["duplicates"]["test"] == 0 and sum(removed["rows"].values()) == 50


def test_what_is_too_little_for_three_parts_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, day=[number % 2 for number in range(10)])
    for by in ("group", "time"):
        with pytest.raises(UserError, match=f"test data has no usable row: less than three {by}s are in column 'day'"):
            prepare(settings_for(path, test=0.2, **{by: "day"}), seed=0, cache=tmp_path / "cache")
    validation = {"validation": [str(path)], "test": 0.2, "time": "day"}
    rows = prepare(settings_for(path, **validation), seed=0, cache=tmp_path / "cache").profile["rows"]
    assert rows == {"train": 5, "validation": 10, "test": 5}


def test_groups_make_up_about_the_fraction(tmp_path: Path) -> None:
    path = write(tmp_path, author=[f"author {number % 100}" for number in range(1000)])
    prepared = prepare(settings_for(path, group="author"), seed=0, cache=tmp_path / "cache")
    assert prepared.profile["rows"] == {"train": 750, "validation": 250}
    other = prepare(settings_for(path, group="author"), seed=1, cache=tmp_path / "cache")
    assert other.texts("validation") != prepared.texts("validation")


@given(
    st.lists(st.integers(1, 100), min_size=2, max_size=12),
    st.floats(0.05, 0.9),
    st.integers(0, 3),
    st.sampled_from(["group", "time"]),
)
def test_the_fraction_is_missed_by_no_more_than_half_of_a_group(
    sizes: list[int], fraction: float, seed: int, by: str
) -> None:
    keys = np.repeat(np.arange(len(sizes), dtype=np.float64), sizes)
    usable = np.ones(len(keys), dtype=bool)
    chosen = validation_rows({"validation": fraction, by: "c"}, np.zeros(len(keys), np.int32), keys, usable, seed).sum()
    wanted = fraction * len(keys)
    if by == "time":
        possible = [sum(sizes[first:]) for first in range(1, len(sizes))]
        assert abs(chosen - wanted) == min(abs(rows - wanted) for rows in possible)
    else:
        assert abs(chosen - wanted) <= max(abs(min(sizes) - wanted), max(sizes))
        assert chosen <= max(2 * wanted, min(sizes))


@pytest.mark.parametrize("by", ["group", "time"])
@pytest.mark.parametrize("seed", range(5))
def test_a_group_of_most_rows_stays_in_train(by: str, seed: int) -> None:
    keys = np.concatenate([np.zeros(900), np.arange(1, 101)])
    chosen = validation_rows(
        {"validation": 0.1, by: "c"}, np.zeros(1000, np.int32), keys, np.ones(1000, dtype=bool), seed
    )
    assert 50 <= chosen.sum() <= 100 and not chosen[:900].any()


def test_the_latest_rows_are_for_validation(tmp_path: Path) -> None:
    days = [date(2026, 1, 1 + (number * 9) % 28).isoformat() for number in range(28)]
    prepared = prepare(settings_for(write(tmp_path, day=days), time="day"), seed=0, cache=tmp_path / "cache")
    validation = [days[int(text.split()[1])] for text in prepared.texts("validation") or []]
    assert sorted(validation) == [f"2026-01-{day}" for day in range(22, 29)]


def test_rows_without_group_or_time_are_bad_rows(tmp_path: Path) -> None:
    days = ["2026-01-01", "2026-01-02", None, "soon", "2026-01-03", "2026-01-04"]
    data = settings_for(write(tmp_path, day=days), time="day")
    with pytest.raises(UserError, match=r"2 with no time \(rows 3, 4\)"):
        prepare(data, seed=0, cache=tmp_path / "cache")
    prepared = prepare({**data, "on_bad_rows": "report"}, seed=0, cache=tmp_path / "cache")
    assert sum(prepared.profile["rows"].values()) == 4


def test_one_time_alone_cannot_be_split(tmp_path: Path) -> None:
    for by in ("group", "time"):
        with pytest.raises(UserError, match=f"the validation data has no usable row: all rows have one {by} in column"):
            prepare(settings_for(write(tmp_path, day=[1] * 10), **{by: "day"}), seed=0, cache=tmp_path / "cache")


@pytest.mark.parametrize(
    "column",
    [
        pa.array([3, 1, 2]),
        pa.array([3.5, 1.5, 2.5]),
        pa.array(["2026-03-01", "2026-01-01T12:00:00Z", "2026-02-01 10:00"]),
        pa.array(["30", "1", "2e0"]),
        pa.array([date(2026, 3, 1), date(2026, 1, 1), date(2026, 2, 1)]),
        pa.array([datetime(2026, month, 1, tzinfo=UTC) for month in (3, 1, 2)]),
        pa.array([3_000_000_001, 1_000_000_001, 2_000_000_001], pa.timestamp("ns")),
        pa.array([2**62, 1, 2**61], pa.timestamp("s")),
        pa.array([2**62, 1, 2**61], pa.timestamp("ns", "Europe/Berlin")),
        pa.array([86_400_000 * 3, 86_400_000, 86_400_000 * 2], pa.date64()),
        pa.array(["2026-03-01T00:00:00.123456789", "2026-01-01", "2026-02-01"]),
    ],
)
def test_times_of_any_kind_are_in_order(column: pa.Array) -> None:
    keys, missing = read_keys(column, {"time": "t"}, "t")
    assert np.argsort(keys.to_numpy()).tolist() == [1, 2, 0] and not missing.any()
    keys, missing = read_keys(pa.concat_arrays([column, pa.nulls(1, column.type)]), {"time": "t"}, "t")
    assert missing.tolist() == [False, False, False, True]


NANOSECONDS = 1_767_225_600_123_456_789  # 2026-01-01 00:00:00.123456789


def test_times_of_every_unit_are_seconds_so_that_files_agree() -> None:
    columns = [
        pa.array([NANOSECONDS], pa.timestamp("ns")),
        pa.array([NANOSECONDS // 10**3], pa.timestamp("us")),
        pa.array([NANOSECONDS // 10**6], pa.timestamp("ms", "UTC")),
        pa.array([NANOSECONDS // 10**9], pa.timestamp("s")),
        pa.array([20454], pa.date32()),
        pa.array([20454 * 86_400_000], pa.date64()),
        pa.array(["2026-01-01T00:00:00.123456789"]),
        pa.array(["2026-01-01"]),
    ]
    keys = [read_keys(column, {"time": "t"}, "t")[0][0].as_py() for column in columns]
    assert keys == pytest.approx([NANOSECONDS // 10**9] * len(keys), abs=0.2)


@pytest.mark.parametrize("by", ["group", "time"])
def test_times_of_nanoseconds_split_rows_and_can_be_shown(tmp_path: Path, by: str) -> None:
    times = pa.array([NANOSECONDS + row // 2 * 1000 for row in range(40)] + [None, 2**62], pa.timestamp("ns"))
    labels = [*(["a", "b"] * 20), "a", ""]
    table = pa.table({"text": [f"row {row}" for row in range(42)], "label": labels, "at": times})
    pq.write_table(table, tmp_path / "t.parquet")
    settings = {**settings_for(tmp_path / "t.parquet", **{by: "at"}), "on_bad_rows": "report"}
    prepared = prepare(settings, seed=0, cache=tmp_path / "cache")
    assert sum(prepared.profile["rows"].values()) == 40
    (noted,) = prepared.profile["bad_rows"].values()
    assert noted["counts"] == {f"no {by}": 1, "no label": 1}


def test_groups_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'author' holds list<.*>, expected groups: text or numbers"):
        prepare(settings_for(write(tmp_path, author=[[1], [2]] * 10), group="author"), seed=0, cache=tmp_path / "cache")
