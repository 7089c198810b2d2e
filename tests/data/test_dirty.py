"""Dirty files: what cannot be used is counted and shown, or said in a sentence; no row is lost in silence."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automl.data import prepare
from automl.data.prepared import Prepared
from automl.space import UserError
from tests.data.settings import rows, settings_for

SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
GOOD = [f"good{number} text,{'ab'[number % 2]}".encode() for number in range(8)]
UNREADABLE = [b"one cell", b"three,cells,x", b"caf\xe9", b"caf\xe9,a,b", b"caf\xe9,a", b"x,b\xff"]
ODD = [
    b",a",
    b"text,",
    b'"quoted, cell",a',
    b'"two\nlines",b',
    b"x" * 100_000 + b",a",
    "naïve 好,b".encode(),
    b"nul\0l,b",
]
LINES = st.sampled_from([*UNREADABLE, *ODD])
UNREADABLE_JSON = [b"{", b"[1]", b'"text"', b"\xff", b"nan", b"\0", b'{"text": "caf\xe9", "label": "a"}']
ODD_JSON = [b"{}", b'{"text": "a"}', b'{"text": null, "label": "a"}', b'{"text": "ok", "label": "a", "more": [1]}']
JSON_LINES = st.sampled_from([*UNREADABLE_JSON, *ODD_JSON])


def report(path: Path, tmp_path: Path, **changes: Any) -> Prepared:
    return prepare(settings_for(path, on_bad_rows="report", **changes), seed=0, cache=tmp_path / "cache")


def add_up(prepared: Prepared, path: Path, expected: int, split: str = "train") -> None:
    """All rows of a file are in a split, or counted as bad or removed."""
    file = prepared.profile["files"][str(path)]
    assert file["rows"] == expected
    used = prepared.profile["rows"][split] + (prepared.profile["rows"]["validation"] if split == "train" else 0)
    assert used + prepared.profile["removed"][split] + sum(file["counts"].values()) == expected
    for reason, count in file["counts"].items():
        assert len(file["first_rows"][reason]) == len(file["examples"][reason]) == min(count, 5)


@SLOW
@given(dirty=st.lists(LINES, max_size=12), ending=st.sampled_from([b"\n", b"\r\n"]), mark=st.booleans())
def test_every_row_of_a_dirty_csv_is_used_or_counted(
    dirty: list[bytes], ending: bytes, mark: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("dirty")
    lines = [*GOOD[:4], *dirty, *GOOD[4:]]
    head = (b"\xef\xbb\xbf" if mark else b"") + b"text,label"
    (folder / "t.csv").write_bytes(ending.join([head, *lines, b""]))
    prepared = report(folder / "t.csv", folder)
    add_up(prepared, folder / "t.csv", len(lines))
    texts = Counter([*(prepared.texts("train") or []), *(prepared.texts("validation") or [])])
    assert texts == Counter(_usable_texts(lines))


def _usable_texts(lines: list[bytes]) -> list[str]:
    """As Python's own reader has them."""
    found = []
    csv.field_size_limit(1_000_000)
    for line in lines:
        try:
            (cells,) = csv.reader(io.StringIO(line.decode(), newline=""))
        except UnicodeDecodeError:
            continue
        if len(cells) == 2 and all(cell.strip() for cell in cells):
            found.append(cells[0])
    return found


@SLOW
@given(dirty=st.lists(JSON_LINES, max_size=12))
def test_every_row_of_dirty_json_lines_is_used_or_counted(
    dirty: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("dirty")
    good = [json.dumps({"text": f"good {number}", "label": "ab"[number % 2]}).encode() for number in range(8)]
    (folder / "t.jsonl").write_bytes(b"\n\n".join([*good[:4], *dirty, *good[4:]]))
    prepared = report(folder / "t.jsonl", folder)
    add_up(prepared, folder / "t.jsonl", 8 + len(dirty))
    assert sum(prepared.profile["rows"].values()) == 8 + sum(b'"ok"' in line for line in dirty)


def write_json(path: Path, content: list[tuple[Any, Any]]) -> Path:
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in content))
    return path


@pytest.mark.parametrize("batch_rows", [3, 100])  # what is wrong may fill a batch of its own
def test_what_is_no_text_is_counted_and_not_learned_from(
    batch_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automl.data.text_tables.BATCH_ROWS", batch_rows)
    monkeypatch.setattr("automl.data.damaged.BATCH_ROWS", batch_rows)
    good = [(f"good {number}", "ab"[number % 2]) for number in range(9)]
    wrong = [(["a", "list"], "a"), ({"a": 1}, "b"), (7, "a"), (None, "b"), ("x", ["a"]), ("y", {"b": 1})]
    path = write_json(tmp_path / "t.jsonl", [*good, *wrong])
    prepared = report(path, tmp_path)
    file = prepared.profile["files"][str(path)]
    assert file["counts"] == {"something else than text": 3, "no text": 1, "something else than a label": 2}
    assert file["first_rows"]["something else than text"] == [10, 11, 12]
    assert '["a", "list"]' in file["examples"]["something else than text"][0]
    assert prepared.classes == ("a", "b") and sum(prepared.profile["rows"].values()) == 9
    with pytest.raises(UserError, match=r"3 with something else than text in column 'text' \(lines 10, 11, 12\)"):
        prepare(settings_for(path), seed=0, cache=tmp_path / "cache")


def test_labels_may_be_text_and_numbers(tmp_path: Path) -> None:
    content = [(f"text {number}", (3, "3", True, "no")[number % 4]) for number in range(40)]
    prepared = prepare(
        settings_for(write_json(tmp_path / "t.jsonl", content), group="text"), seed=0, cache=tmp_path / "cache"
    )
    assert prepared.classes == ("3", "no", "true")


CELLS = st.one_of(st.none(), st.text(max_size=8), st.sampled_from(["", " ", "\0", "x" * 200_000]))


@SLOW
@given(dirty=st.lists(st.tuples(CELLS, st.one_of(st.none(), st.sampled_from(["a", "b", "maybe", " "]))), max_size=30))
def test_every_row_of_parquet_with_nulls_is_used_or_counted(
    dirty: list[tuple[str | None, str | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("dirty")
    content = [*dirty, *((f"good {number}", "ab"[number % 2]) for number in range(8))]
    columns = {"text": [text for text, _ in content], "label": [label for _, label in content]}
    pq.write_table(
        pa.table(columns, schema=pa.schema([("text", pa.string()), ("label", pa.string())])), folder / "t.parquet"
    )
    for changes in ({}, {"duplicates": "remove"}):
        add_up(report(folder / "t.parquet", folder, **changes), folder / "t.parquet", len(content))


def test_bad_rows_are_shown_with_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(
        b"text,label\n" + b"\n".join([*GOOD[:2], b"a,b,c", b"caf\xe9,a", *GOOD[2:], b" ,a"])
    )
    file = report(tmp_path / "t.csv", tmp_path).profile["files"][str(tmp_path / "t.csv")]
    assert file["counts"] == {"a line that cannot be read": 1, "text that is not UTF-8": 1, "no text": 1}
    assert file["first_rows"] == {"a line that cannot be read": [3], "text that is not UTF-8": [4], "no text": [11]}
    assert file["examples"]["a line that cannot be read"] == ["a,b,c"]
    assert file["examples"]["text that is not UTF-8"] == ["caf\ufffd"]


def test_more_bad_rows_than_allowed_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"text,label\n" + b"\n".join([*GOOD, b",a", b",b"]))
    report(tmp_path / "t.csv", tmp_path, bad_rows_limit=0.2)
    with pytest.raises(UserError, match=r"2 with no text .* that is more than bad_rows_limit, 19.00% of its rows"):
        report(tmp_path / "t.csv", tmp_path, bad_rows_limit=0.19)


def test_an_empty_shard_is_no_error_where_others_have_rows(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(rows(40)), tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_pylist(rows(40)).slice(0, 0), tmp_path / "b.parquet")
    prepared = report(tmp_path / "*.parquet", tmp_path)
    assert [prepared.profile["files"][str(tmp_path / name)]["rows"] for name in ("a.parquet", "b.parquet")] == [40, 0]


def test_repeated_rows_are_counted_and_removed_on_request(tmp_path: Path) -> None:
    def write(name: str, texts: list[str]) -> Path:
        table = pa.table({"text": texts, "label": ["ab"[len(text) % 2] for text in texts]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        return tmp_path / f"{name}.parquet"

    train = write("train", ["one", "two", "ONE ", "three", "seven", "eight", "one"])
    changes = {
        "validation": [str(write("validation", ["three", "four", "FIVE", "four", "seven"]))],
        "test": [str(write("test", ["five", "six", "two", "six"]))],
    }
    kept = report(train, tmp_path, **changes)
    assert kept.profile["repeated"] == {"train": 2, "validation": 1, "test": 1}
    assert kept.profile["duplicates"] == {"train": 2, "validation": 2, "test": 1}
    assert kept.profile["conflicts"]["inputs"] == 1 and kept.profile["conflicts"]["rows"] == 3
    assert kept.profile["conflicts"]["examples"] == [
        {"input": "one", "labels": ["b", "a"], "places": [f"{train}, row 1", f"{train}, row 3"]}
    ]
    removed = report(train, tmp_path, **changes, duplicates="remove")
    assert removed.texts("train") == ["one", "eight"]
    assert removed.texts("validation") == ["three", "four", "seven"]
    assert removed.texts("test") == ["five", "six", "two"]
    assert removed.profile["removed"] == {"train": 5, "validation": 2, "test": 1}
    assert removed.profile["duplicates"] == {"train": 0, "validation": 0, "test": 0}
