"""Where prepared rows came from: the line that an editor shows, whatever the file looks like."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from automl.data import prepare
from automl.data.origins import find_origins, row_places
from automl.data.prepared import Prepared
from tests.data.settings import IMAGES, settings_for

CELLS = st.text(st.sampled_from('ab ,"\n\t'), min_size=1, max_size=6).filter(lambda text: text.strip(' \n\t"') != "")


def places(prepared: Prepared, split: str) -> list[str]:
    found = find_origins(prepared.source, split, range(len(prepared.inputs(split) or [])))
    assert found is not None
    return found


@given(texts=st.lists(CELLS, min_size=1, max_size=8), blank=st.sets(st.integers(0, 8)), data=st.data())
def test_the_line_of_a_csv_row_is_where_its_text_begins(
    texts: list[str], blank: set[int], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ending = data.draw(st.sampled_from(["\n", "\r\n"]))
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    content, lines = "text,label" + ending, []
    for row, text in enumerate(texts):
        content += ending if row in blank else ""
        lines.append(content.count("\n") + 1)
        written = io.StringIO()
        csv.writer(written, lineterminator=ending).writerow([text, "yes"])
        content += written.getvalue()
    path.write_bytes(content.encode())
    assert row_places(path, range(len(texts))) == {row: f"line {line}" for row, line in enumerate(lines)}


@pytest.mark.parametrize("mode", ["fail", "report"])
@given(data=st.data())
def test_the_line_of_a_json_row_is_the_same_for_every_reader(
    mode: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, lines = tmp_path_factory.mktemp("json"), []
    blank = st.sampled_from(["", " ", "\t", "\x0c", "\x1c", "\xa0", "\u2003"])
    for number in range(12):
        lines += data.draw(st.lists(blank, max_size=2))
        lines.append(json.dumps({"text": f"number {number}", "label": "ab"[number % 2]}))
    mark, ending = (data.draw(st.sampled_from(each)) for each in (["", "\ufeff"], ["\n", "\r\n", "\r"]))
    (folder / "t.jsonl").write_bytes((mark + ending.join(lines) + ending).encode())
    prepared = prepare(settings_for(folder / "t.jsonl", on_bad_rows=mode), seed=0, cache=folder / "cache")
    found = {}
    for split in ("train", "validation"):
        found |= dict(zip(prepared.texts(split) or [], places(prepared, split), strict=True))
    assert len(found) == 12
    for text, place in found.items():
        assert text in lines[int(place.rpartition(" ")[2]) - 1]


@pytest.mark.parametrize("header", [b"label,text", b"\n\nlabel,text", b"\xef\xbb\xbf\n\nlabel,text"])
def test_a_byte_order_mark_and_empty_lines_before_the_header_of_a_damaged_file(tmp_path: Path, header: bytes) -> None:
    rows = [b"%c,number %d" % (b"ab"[number % 2], number) for number in range(20)]
    (tmp_path / "t.csv").write_bytes(b"\n".join([header, b"a,caf\xe9", *rows]))
    prepared = prepare(settings_for(tmp_path / "t.csv", on_bad_rows="report"), seed=0, cache=tmp_path / "cache")
    lines = (tmp_path / "t.csv").read_bytes().split(b"\n")
    for text, place in zip(prepared.texts("train") or [], places(prepared, "train"), strict=True):
        assert lines[int(place.rpartition(" ")[2]) - 1].endswith(text.encode())


def test_rows_of_several_files_and_splits_are_found_again(tmp_path: Path) -> None:
    rows = [
        (f"text\nnumber {number}" if number % 3 else f"text number {number}", "ab"[number % 2]) for number in range(40)
    ]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows[:20]])
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as packed:
        packed.write("\n" + "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows[20:30]))
    named = {"text": [text for text, _ in rows[30:]], "label": [label for _, label in rows[30:]]}
    pa.parquet.write_table(pa.table(named), tmp_path / "c.parquet")
    train = [str(tmp_path / name) for name in ("a.csv", "b.jsonl.gz", "c.parquet")]
    settings = {**settings_for(tmp_path / "a.csv"), "train": train, "validation": 0.25, "test": 0.1}
    prepared = prepare(settings, seed=0, cache=tmp_path / "cache")
    seen = {}
    for split in ("train", "validation", "test"):
        for text, place in zip(prepared.texts(split) or [], places(prepared, split), strict=True):
            seen[place] = text
    assert len(seen) == 40
    lines = (tmp_path / "a.csv").read_text().splitlines()
    for place, text in seen.items():
        file, _, where = place.rpartition(", ")
        word, _, number = where.partition(" ")
        if file.endswith(".csv"):
            assert word == "line" and lines[int(number) - 1].strip('"').startswith(text.splitlines()[0])
        elif file.endswith(".parquet"):
            assert word == "row" and named["text"][int(number) - 1] == text
        else:
            assert word == "line" and rows[20 + int(number) - 2][0] == text


def test_a_row_of_a_folder_of_images_is_its_file(tmp_path: Path) -> None:
    for number in range(12):
        path = tmp_path / "pets" / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), 20 * number, np.uint8)).save(path)
    settings = settings_for(tmp_path / "pets", IMAGES, validation=0.3)
    prepared = prepare(settings, seed=0, cache=tmp_path / "cache")
    for split in ("train", "validation"):
        for content, place in zip(prepared.inputs(split) or [], places(prepared, split), strict=True):
            assert Path(place).read_bytes() == content


def test_data_that_was_prepared_before_or_has_gone_has_no_origins(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"text {n},{n % 2}\n" for n in range(20)))
    prepared = prepare(settings_for(tmp_path / "t.csv"), seed=0, cache=tmp_path / "cache")
    assert find_origins(prepared.source, "train", [0]) is not None
    (tmp_path / "t.csv").write_text("\n" + (tmp_path / "t.csv").read_text())
    assert find_origins(prepared.source, "train", [0]) is None
    (tmp_path / "t.csv").unlink()
    assert find_origins(prepared.source, "train", [0]) is None
    for path in prepared.source.glob("origins-*"):
        path.unlink()
    assert find_origins(prepared.source, "train", [0]) is None
