"""Tables: every kind of file reads and writes alike, in order, and whatever is wrong with one is said in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.data.columns import label_column, text_column
from automl.data.tables import read_batches, require_columns, write_table
from automl.space import UserError

KINDS = ["t.parquet", "t.csv", "t.csv.gz", "t.csv.zst", "t.tsv", "t.jsonl", "t.jsonl.gz", "t.jsonl.zst", "t.arrow"]
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=30)


def read(path: Path) -> list[dict[str, Any]]:
    return [row for batch in read_batches(path) for row in batch.to_pylist()]


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=25, deadline=None)
@given(texts=st.lists(TEXT, min_size=1, max_size=20))
def test_what_is_written_is_read_in_the_same_order(
    name: str, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("tables") / name
    content = [{"number": str(number), "text": text} for number, text in enumerate(texts)]
    write_table(pa.Table.from_pylist(content), path)
    assert read(path) == content
    assert [entry.name for entry in path.parent.iterdir()] == [name]


@pytest.mark.parametrize("name", KINDS)
def test_many_batches_keep_the_order(name: str, tmp_path: Path) -> None:
    numbers = [str(number) for number in range(40_000)]
    write_table(pa.table({"text": numbers}), tmp_path / name)
    assert [row["text"] for row in read(tmp_path / name)] == numbers


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown kind of file"):
        write_table(pa.table({"text": ["a"]}), tmp_path / "t.xlsx")


@pytest.mark.parametrize("content", ["text,label\n1,0\n007,10\n2.50,1e3\n", "\n\ntext,label\n1,0\n007,10\n2.50,1e3\n"])
def test_csv_columns_are_text_as_they_stand(content: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content)
    assert read(tmp_path / "t.csv") == [
        {"text": "1", "label": "0"},
        {"text": "007", "label": "10"},
        {"text": "2.50", "label": "1e3"},
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "t.csv",
            "text,label\nok,x\né,x\n".encode("latin-1"),
            r"line 3 is not UTF-8 text \(byte 0xe9\).*iconv -f latin1",
        ),
        ("t.csv", "text,label\na,x\n".encode("utf-16"), "it is UTF-16 text"),
        ("t.csv", b"text;label\na;x\n", "separated by semicolons"),
        ("t.csv", b"text,text,label\na,b,x\n", "2 columns 'text'"),
        ("t.csv.gz", b"text,label\na,x\n", "cannot read"),
        ("t.jsonl", '{"text": "é"}\n'.encode("latin-1"), "line 1 is not UTF-8"),
        ("t.jsonl", b'{"text": "a"}\n{"text": \n', r"t\.jsonl:2: not a JSON object"),
        ("t.jsonl", b'{"text": "a"}\n[1]\n', r"t\.jsonl:2: expected a JSON object"),
        ("t.jsonl", b"[" * 100_000, "not a JSON object"),
        ("t.jsonl", b'{"text": ' + b"1" * 5000 + b"}", "not a JSON object"),
    ],
)
def test_text_files_that_cannot_be_read(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        require_columns([tmp_path / name], ["text", "label"])
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_json_values_that_arrow_cannot_hold_become_text(tmp_path: Path) -> None:
    lines = [r'{"text": "cut \ud83d", "label": 1}', f'{{"text": "b", "label": {10**30}}}', '{"text": 5, "other": [1]}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    assert read(tmp_path / "t.jsonl") == [
        {"text": "cut \ufffd", "label": "1", "other": None},
        {"text": "b", "label": str(10**30), "other": None},
        {"text": "5", "label": None, "other": [1]},
    ]


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_text_of_any_type_is_text(kind: pa.DataType) -> None:
    column = pa.array(["a", None, "b"]).cast(kind)
    for found in (text_column(column, "t"), label_column(column, "t")):
        assert found.type == pa.large_string() and found.to_pylist() == ["a", None, "b"]


@pytest.mark.parametrize(
    ("column", "names"),
    [
        (pa.array([3, None, -1]), ["3", None, "-1"]),
        (pa.array([True, None, False]), ["true", None, "false"]),
        (pa.array([1.0, None, float("nan"), 2.0]), ["1", None, None, "2"]),
        (pa.array(np.array([1, 2], np.float16)), ["1", "2"]),
        (pa.array([7, None, 7]).dictionary_encode(), ["7", None, "7"]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_labels_are_the_names_of_classes(column: pa.Array, names: list[str | None]) -> None:
    assert label_column(column, "t").to_pylist() == names


@pytest.mark.parametrize("column", [[0.5], [float("inf")], [1e300], [[1]], [{"a": 1}], [b"x"]])
def test_other_columns_are_no_labels(column: list[Any]) -> None:
    with pytest.raises(UserError, match=r"t holds .*, expected labels"):
        label_column(pa.array(column), "t")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None)
@given(rows=st.lists(st.dictionaries(st.sampled_from(["text", "label", "é"]), JSON, max_size=3), max_size=8))
def test_any_json_values_are_read(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("json") / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        assert len(read(path)) == (len(rows) if any(rows) else 0)
    except UserError as error:
        assert str(error)


@settings(max_examples=80, deadline=None)
@given(
    cells=st.lists(st.lists(st.text('a",\n\r\té\0 ', max_size=6), max_size=4), max_size=8),
    encoding=st.sampled_from(["utf-8", "latin-1", "utf-16", "utf-8-sig"]),
)
def test_any_csv_is_read_or_refused(
    cells: list[list[str]], encoding: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes("\n".join(["text,label", *(",".join(row) for row in cells)]).encode(encoding))
    try:
        read(path)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_damaged_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    table = pa.table({"text": ["a b", "c d", None] * 20, "label": ["x", "y", "x"] * 20})
    path = tmp_path / name
    if name == "t.arrow":
        pa.feather.write_feather(table, path, compression="uncompressed")
    else:
        pq.write_table(table, path)
    sound, generator, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        damaged = bytearray(sound)
        for place in generator.integers(len(sound), size=3):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            read(path)
        except UserError as error:
            refused += "\n" not in str(error)
    assert refused > 100
