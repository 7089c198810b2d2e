"""A quote that is not closed makes lines that follow part of its cell: they are counted, and said."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.checking import check_space
from automl.data import prepare
from automl.data.csv_rows import LONG_ROW, OPEN_QUOTE, SWALLOWED, look_at_csv, rows_of
from automl.data.modalities import MODALITIES
from automl.data.text_tables import BLOCK_BYTES
from automl.models import FAMILIES
from automl.profiling import profile_data
from automl.results.input_rows import open_rows
from automl.space import UserError, parse
from tests.data.settings import settings_for

LABELS = ("no", "yes")


def lines(count: int = 60, *, quoted: bool = False) -> list[str]:
    mark = '"' if quoted else ""
    return [f"{mark}word{row % 7} and word{row}{mark},{LABELS[row % 2]}" for row in range(count)]


def write(path: Path, rows: list[str], header: str = "text,label") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def with_open_quote(kind: str) -> tuple[list[str], int, int]:
    """Lines, the one (from 1) where a quote is left open, and how many lines become part of its cell."""
    rows = lines(quoted=kind in ("next", "doubled"))
    rows[9] = f'"{rows[9].strip()}'.replace('""', '"').replace('",', ",")
    if kind == "end":
        return rows, 11, 50
    if kind == "next":
        return rows, 11, 1
    if kind == "doubled":
        rows[10:40] = [f'"",{LABELS[0]}' for _ in range(30)]
        return rows, 11, 31
    rows[29] = f'word5",{LABELS[1]}'  # closes as a cell should
    return rows, 11, 20


@pytest.mark.parametrize("mode", ["report", "fail"])
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".csv.gz"])
@pytest.mark.parametrize("kind", ["end", "next", "doubled", "closed"])
def test_what_an_open_quote_swallows_is_counted(kind: str, ending: str, mode: str, tmp_path: Path) -> None:
    rows, line, swallowed = with_open_quote(kind)
    content = "\n".join(["text,label", *rows]) + "\n"
    path = tmp_path / f"t{ending}"
    content = content.replace(",", "\t") if ending == ".tsv" else content
    if ending.endswith("gz"):
        import gzip

        path.write_bytes(gzip.compress(content.encode()))
    else:
        path.write_text(content)
    data = settings_for(path, on_bad_rows=mode)
    if mode == "fail":
        with pytest.raises(UserError, match=f"the quote that opens in line {line} is not closed: {swallowed} line"):
            prepare(data, seed=0, cache=tmp_path / "cache")
        return
    prepared = prepare(data, seed=0, cache=tmp_path / "cache")
    (file,) = prepared.profile["files"].values()
    assert file["counts"] == {OPEN_QUOTE: 1, SWALLOWED: swallowed} and file["rows"] == 60
    assert sum(prepared.profile["rows"].values()) == 60 - 1 - swallowed
    assert any(f"{swallowed} with {SWALLOWED}" in warning for warning in prepared.profile["warnings"])


def test_the_limit_of_bad_rows_sees_swallowed_lines(tmp_path: Path) -> None:
    rows, _, _ = with_open_quote("end")
    data = settings_for(write(tmp_path / "t.csv", rows), on_bad_rows="report", bad_rows_limit=0.5)
    with pytest.raises(UserError, match="more than bad_rows_limit"):
        prepare(data, seed=0, cache=tmp_path / "cache")


def test_data_and_check_say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_CACHE_DIR", str(tmp_path / "cache"))
    rows, _, _ = with_open_quote("end")
    train = write(tmp_path / "t.csv", rows)
    spec = parse(f"name: x\ndata: {{train: {train}}}\nmodel: {{cnn: {{}}}}\n", FAMILIES)
    with pytest.raises(UserError, match="opens in line 11 is not closed: 50 lines"):  # as a search would say
        check_space(spec, 1)
    assert any(f"50 with {SWALLOWED}" in each for each in profile_data(spec).content["warnings"])


def test_a_quote_in_the_header(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", lines(), header='"text,label')
    for mode in ("report", "fail"):
        with pytest.raises(UserError, match=r"the quote that opens in line 1 is not closed"):
            prepare(settings_for(path, on_bad_rows=mode), seed=0, cache=tmp_path / "cache")


PARAGRAPHS = st.lists(
    st.sampled_from(["I flew, and", "", 'they said "no"', '5" seats, yes', "yes", ",", "no,"]), max_size=9
)


@given(st.lists(PARAGRAPHS, min_size=3, max_size=12), st.booleans())
@settings(max_examples=30, deadline=None)
def test_texts_of_several_paragraphs_are_right(texts: list[list[str]], every: bool) -> None:
    sink = io.StringIO()
    writer = csv.writer(sink, quoting=csv.QUOTE_ALL if every else csv.QUOTE_MINIMAL)
    writer.writerow(["text", "label"])
    written = [["\n".join(["a", *text]), LABELS[number % 2]] for number, text in enumerate(texts)]
    writer.writerows(written)
    found = list(rows_of(io.StringIO(sink.getvalue(), newline=""), ","))
    assert all(row.quote is None for row in found)
    assert [next(csv.reader(row.lines)) for row in found[1:]] == written


@pytest.mark.parametrize("breaks", [3, 40])
def test_reviews_with_paragraphs_are_trained_on(breaks: int, tmp_path: Path) -> None:
    review = "\n".join(f'paragraph {number}, it said ""fine"", and more' for number in range(breaks))
    rows = [*lines(20), f'"{review}",yes', f'"{review}",no']
    prepared = prepare(settings_for(write(tmp_path / "t.csv", rows)), seed=0, cache=tmp_path / "cache")
    assert sum(prepared.profile["rows"].values()) == 22
    assert not [each for each in prepared.profile["warnings"] if "quote" in each]


def test_a_cell_far_above_the_habit_is_warned_about(tmp_path: Path) -> None:
    swallowed = "\n".join(f"plain line {number}" for number in range(200))
    rows = [*lines(20), '"one\ntwo",yes', f'"{swallowed}",no']
    prepared = prepare(settings_for(write(tmp_path / "t.csv", rows)), seed=0, cache=tmp_path / "cache")
    assert any("has 199 line breaks" in each and "a quote not closed?" in each for each in prepared.profile["warnings"])


def test_rows_of_does_not_hold_a_row_that_is_too_long() -> None:
    text = "a,b\n" + '"' + "x" * 50 + "\n" + 'y""z' * 30 + '\nz",1\nq,4\n' + "k" * 80 + ",3\r\nlast,5"
    found = list(rows_of(io.StringIO(text, newline=""), ",", 40))
    assert [(row.line, row.count, row.too_long) for row in found] == [
        (1, 1, False), (2, 3, True), (5, 1, False), (6, 1, True), (7, 1, False)
    ]  # fmt: skip


@pytest.mark.parametrize("most", [1, 2, 3, 5, 1000])
def test_parts_of_lines_are_put_together(most: int) -> None:
    text = 'a,b\n"x ""y"" z\n""",1\n"",2\n"""",3\n"q" ,4\n5" d,6\n'
    found = list(rows_of(io.StringIO(text, newline=""), ",", most))
    assert [(row.line, row.count, row.quote) for row in found] == [
        (1, 1, None), (2, 2, None), (4, 1, None), (5, 1, None), (6, 1, None), (7, 1, None)
    ]  # fmt: skip


def test_a_cell_of_nothing_but_quotes() -> None:
    found = list(rows_of(io.StringIO("a,b\n" + '"' * 100_001 + ",1\nz,2\n", newline=""), ",", 100))
    assert [(row.too_long, row.quote is None) for row in found] == [(False, True), (True, False)]


@pytest.mark.parametrize("several", [False, True])
def test_a_row_that_is_too_long_is_one_bad_row(several: bool, tmp_path: Path) -> None:
    piece = "word " * 200_000
    cell = "\n".join([piece] * 20) if several else piece * 20
    assert len(cell) > BLOCK_BYTES
    path = write(tmp_path / "t.csv", [*lines(20), f'"{cell}",yes', *lines(20)])
    prepared = prepare(settings_for(path, on_bad_rows="report"), seed=0, cache=tmp_path / "cache")
    (file,) = prepared.profile["files"].values()
    assert file["counts"] == {LONG_ROW: 1} and file["rows"] == 41 and file["first_rows"][LONG_ROW] == [21]
    with pytest.raises(UserError, match=f"{LONG_ROW} begins in line 22"):
        prepare(settings_for(path), seed=0, cache=tmp_path / "cache")
    _, windows = open_rows(path, "text", MODALITIES["text"])
    errors = [error for window in windows for error in window.errors]
    assert len(errors) == 41 and [number for number, error in enumerate(errors) if error] == [20]


def test_predictions_say_it_in_the_row(tmp_path: Path) -> None:
    rows, line, swallowed = with_open_quote("next")
    _, windows = open_rows(write(tmp_path / "t.csv", rows), "text", MODALITIES["text"])
    errors = [error for window in windows for error in window.errors]
    assert len(errors) == 59 and [each for each in errors if each] == [
        f"the quote that opens in line {line} is not closed; {swallowed} line after it would be part of its cell"
    ]


def test_text_without_quotes_is_not_looked_at_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automl.data.csv_rows.rows_of", lambda *_: pytest.fail("looked at"))
    assert look_at_csv(write(tmp_path / "t.csv", lines()), "label").quotes == {}


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet", "arrow"])
def test_a_table_of_too_many_columns(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    from automl.data.tables import write_table

    monkeypatch.setenv("AUTOML_MAX_COLUMNS", "50")
    table = pa.table(
        {"text": ["a", "b"] * 5, "label": ["a", "b"] * 5} | {f"c{number}": ["x"] * 10 for number in range(60)}
    )
    path = tmp_path / f"t.{ending}"
    write_table(table, path)
    for mode in ("report", "fail"):
        with pytest.raises(UserError, match=r"more than 50 columns; set AUTOML_MAX_COLUMNS to allow more"):
            prepare(settings_for(path, on_bad_rows=mode), seed=0, cache=tmp_path / "cache")
    with pytest.raises(UserError, match=r"more than 50 columns"):
        list(open_rows(path, "text", MODALITIES["text"])[1])
