"""What `automl predict` and `evaluate` take: image files, stdin, files with labels, whatever a path is called."""

from __future__ import annotations

import csv
import gzip
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import automl
from automl import cli
from automl.data.tables import find_files, read_batches, write_table
from automl.results.package import load_model
from tests.results.packages import a_picture, config_of, of_images, of_series, of_texts, write_package

NAMES = [
    "a b",
    "a#b",
    "a?b",
    "a%20b",
    "a[1]",
    "ä ü €",
    "-x",
    "a*b",
    "s3:b",
    "file:b",
    "a'b\"",
    "a\nb",
    "{a}",
    "~a",
    "$HOME",
]
NAMES += ["a\\b", os.fsdecode(b"no\xffutf8"), "a;b", "a:b@c"]
ENDINGS = [".csv", ".csv.gz", ".tsv", ".jsonl", ".jsonl.zst", ".parquet", ".arrow"]
ROWS = pa.table({"text": ["a lovely flight", "an awful bag"], "label": ["positive", "negative"]})


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packages")
    parts = {"text": of_texts(folder), "image": of_images(folder), "series": of_series(folder)}
    return {name: write_package(folder / name, [part]) for name, part in parts.items()}


class Stdin:
    """A stdin with these bytes."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_paths_are_what_they_are_called(
    name: str, packages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, other in enumerate(("axb.csv", "a1.csv", "other.parquet")):
        write_table(ROWS.slice(0, number % 2), Path(other))
    for ending in ENDINGS:
        path = Path(f"{name}{ending}")
        write_table(ROWS, path)
        assert find_files([f"./{path}"]) == [path] and find_files([str(tmp_path / path)]) == [tmp_path / path]
        assert sum(batch.num_rows for batch in read_batches(path)) == 2
    folder = tmp_path / name
    folder.mkdir()
    write_table(ROWS, folder / "in.csv")
    assert find_files([f"./{name}/*.csv"]) == find_files([f"./{name}"]) == [Path(name) / "in.csv"]
    model = str(packages["text"])
    cli.app(["predict", model, f"./{name}.csv", "--output", f"./out {name}.csv"], standalone_mode=False)
    assert [row["label"] for row in rows_of(Path(f"out {name}.csv").read_text())] == ["positive", "negative"]
    cli.app(["predict", model, f"./{name}.jsonl.zst", "--output", f"./out {name}.jsonl.zst"], standalone_mode=False)
    cli.app(["evaluate", model, f"./{name}.parquet"], standalone_mode=False)
    assert "accuracy" in capfd.readouterr().out
    data = f"name: x\ndata: {{train: {str(folder / '*.csv')!a}, validation: {str(folder)!a}}}\nmodel: {{cnn: {{}}}}\n"
    if ascii(name) == repr(name) and name.isprintable() and "'" not in name and "\\" not in name:
        (tmp_path / "space.yaml").write_text(data)
        assert automl.check(tmp_path / "space.yaml").as_json()


def test_a_pattern_is_one_where_no_file_has_its_name(tmp_path: Path) -> None:
    for name in ("a1.csv", "a2.csv", "b1.csv"):
        write_table(ROWS, tmp_path / name)
    assert find_files([str(tmp_path / "a[12].csv")]) == [tmp_path / "a1.csv", tmp_path / "a2.csv"]
    assert find_files([str(tmp_path / "?1.csv")]) == [tmp_path / "a1.csv", tmp_path / "b1.csv"]
    assert find_files([str(tmp_path / "**" / "b*")]) == [tmp_path / "b1.csv"]
    with pytest.raises(automl.UserError, match="no file matches"):
        find_files([str(tmp_path / "c*")])


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_stdin_is_read_by_what_it_holds(
    verb: str, ending: str, packages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    write_table(ROWS, tmp_path / f"in{ending}")
    content = (tmp_path / f"in{ending}").read_bytes()
    monkeypatch.setattr(sys, "stdin", Stdin(content))
    if verb == "evaluate":
        assert automl.evaluate(packages["text"], "-")["rows"] == 2
        return
    cli.app(["predict", str(packages["text"]), "-"], standalone_mode=False)
    said = capfdbinary.readouterr().out
    automl.predict(packages["text"], tmp_path / f"in{ending}", output=tmp_path / f"out{ending}")
    if ending.endswith((".gz", ".zst")):
        packed = pa.input_stream(str(tmp_path / f"out{ending}"), compression="detect").read()
        assert said == packed and b"predicted_label" in said
    else:
        assert said == (tmp_path / f"out{ending}").read_bytes()


def test_stdin_that_is_no_table(packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for content, reason in (
        (b"", "stdin is empty"),
        (b"what a morning\n", "^stdin has no column 'text'.*its first line is the names of the columns"),
        (gzip.compress(b"what a morning\n"), "^stdin has no column 'text'"),
        (gzip.compress(b"text\nx\n")[:-9], "^cannot read stdin"),
        (b"PAR1 and nothing", "^cannot read stdin"),
        (a_picture(0), "cannot read stdin"),
    ):
        monkeypatch.setattr(sys, "stdin", Stdin(content))
        with pytest.raises(automl.UserError, match=reason) as raised:
            automl.predict(packages["text"], "-", output=tmp_path / "out.csv")
        assert "/tmp" not in str(raised.value) and "automl-" not in str(raised.value)
    (tmp_path / "-").write_text("text\ngood\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(automl.UserError, match="unknown kind of file"):  # a file of that name is no stdin
        automl.predict(packages["text"], "./-")


def test_image_files_are_labelled(
    packages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    names = ["cat #1.png", "dog[2].PNG", ".hidden.png"]
    for seed, name in enumerate(names):
        Path("photos", name).write_bytes(a_picture(seed))
    Path("photos", "bad.jpg").write_bytes(b"no image")
    model = packages["image"]
    wanted = load_model(model).predict([a_picture(seed) for seed in range(3)])
    for name, one in zip(names, wanted, strict=True):
        cli.app(["predict", str(model), f"photos/{name}"], standalone_mode=False)
        (row,) = rows_of(capfd.readouterr().out)
        assert row["file"] == f"photos/{name}" and row["predicted_label"] == one.label
        assert float(row["probability_a"]) == pytest.approx(one.probabilities["a"], abs=1e-5)
    assert automl.predict(model, "photos/*.[jp]*g", output="out.csv") == 1
    assert [row["file"] for row in rows_of(Path("out.csv").read_text())][-2:] == ["photos/bad.jpg", "photos/cat #1.png"]
    monkeypatch.setattr(sys, "stdin", Stdin(a_picture(0)))
    cli.app(["predict", str(model), "-"], standalone_mode=False)
    (row,) = rows_of(capfd.readouterr().out)
    assert row["predicted_label"] == wanted[0].label and row["file"] == "stdin"
    with pytest.raises(automl.UserError, match="it is an image, the model is for texts"):
        automl.predict(packages["text"], "photos/cat #1.png")
    with pytest.raises(automl.UserError, match=r"did you mean photos/bad\.jpg"):
        automl.predict(model, "photos/bda.jpg")


def test_a_folder_says_what_it_skipped(packages: dict[str, Path], tmp_path: Path, capfd: Any) -> None:
    folder = tmp_path / "photos"
    (folder / "empty").mkdir(parents=True)
    for name in ("one.png", "two.jpg", "notes.txt", "a.heic", "b.heic", ".DS_Store"):
        (folder / name).write_bytes(a_picture(0))
    cli.app(["predict", str(packages["image"]), str(folder)], standalone_mode=False)
    said = capfd.readouterr()
    assert [row["file"] for row in rows_of(said.out)] == ["one.png", "two.jpg"]
    said_of_it = said.err.replace("\n", " ")
    assert "skipped" in said_of_it and "2 an ending that is not read (.heic) (a.heic, b.heic)" in said_of_it
    assert "(notes.txt)" in said_of_it and "1 hidden or a system's own (.DS_Store)" in said_of_it
    assert "no class" not in said_of_it
    tables = tmp_path / "tables"
    tables.mkdir()
    write_table(ROWS, tables / "in.csv")
    (tables / "readme.md").write_text("x")
    heard: list[str] = []
    automl.predict(packages["text"], tables, output=tmp_path / "out.csv", tell=heard.append)
    assert heard == [f"{tables}: skipped 1 an ending that is not read (.md) (readme.md)"]
    (tables / "readme.md").unlink()
    automl.predict(packages["text"], tables, output=tmp_path / "out.csv", tell=heard.append)
    assert len(heard) == 1


@pytest.mark.parametrize("kind", ["text", "image", "series", "wide"])
def test_the_label_column_counts_for_nothing(kind: str, packages: dict[str, Path], tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(40, 6))
    if kind == "wide":
        columns = {f"x{step}": values[:, step] for step in range(6)}
        pq.write_table(pa.table({"xlabel": ["1", "2"] * 20, **columns}), tmp_path / "t.parquet")
        text = f"name: x\ntask: sequence_classification\ndata: {{train: {tmp_path}/t.parquet, label: xlabel, "
        package = write_package(tmp_path / "m", [config_of(f'{text}series: "x*"}}\nmodel: {{rnn: {{}}}}\n', tmp_path)])
        table, label = pa.table({name: column[:2] for name, column in columns.items()}), "xlabel"
    else:
        package, label = packages[kind], "label"
        column = {"text": ROWS["text"].to_pylist(), "image": [a_picture(0), a_picture(1)]}
        table = pa.table({kind: column.get(kind, values[:2].tolist())})
    found = []
    for labels in (None, ["1", "2"], ["2", None], [float("nan"), 5.0], [[1], [2]]):
        rows = table if labels is None else table.append_column(label, pa.array(labels))
        pq.write_table(rows, tmp_path / "in.parquet")
        assert automl.predict(package, tmp_path / "in.parquet", output=tmp_path / "out.parquet") == 0
        said = pq.read_table(tmp_path / "out.parquet")
        assert (label in said.column_names) is (labels is not None)
        found.append([said[name].to_pylist() for name in said.column_names if name.startswith("p")])
    assert all(each == found[0] for each in found)


def test_a_pipe_of_a_shell(packages: dict[str, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "automl", "predict", str(packages["text"]), "-"]
    done = subprocess.run(command, input="text\nwhat a lovely morning\n", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("text,predicted_label,") and "\nwhat a lovely morning," in done.stdout
