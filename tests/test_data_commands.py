"""`automl data` and `automl prepare` as their user sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from automl.cli import app

SPACE = """
name: dirty
data:
  train: train.csv
  test: test.csv
  on_bad_rows: report
  clean: {lowercase: {choice: [true, false]}}
  tokenizer: {word: {vocabulary: 50, min_count: 1}, char: {vocabulary: {choice: [30, 40, 50]}}}
model: {cnn: {}}
search: {trials: 1}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dirty data set and its file, in the current directory, on a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("AUTOML_CACHE", str(tmp_path / "cache"))
    lines = [f"text number {number},{'yes' if number % 4 else 'no'}" for number in range(200)]
    lines += ["text number 3,no", "Text  number 5,yes", ",no", "a,b,c", "x,No"]
    Path("train.csv").write_text("\n".join(["text,label", *lines]))
    Path("test.csv").write_text("text,label\ntext number 5,yes\ntext number 7,yes\ntext number 9,yes\nodd,maybe\n")
    Path("space.yaml").write_text(SPACE)
    return tmp_path


def run(*arguments: str) -> tuple[str, str]:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


def test_the_profile_says_what_is_wrong_with_the_data(folder: Path) -> None:
    out, _ = run("data", "space.yaml")
    assert max(map(len, out.splitlines())) <= 80
    words = " ".join(out.split())
    for said in (
        "a line that cannot be read line 205: a,b,c",
        "train.csv: 1 with no text line 204: {'text': '', 'label': 'no'}",
        "text number 3: yes (train.csv, line 5) and no (train.csv, line 202)",
        " test texts are also in the training data",
        "classes that look alike: 'No', 'no'",
        "a label that the training data does not have",
    ):
        assert said in words, words


def test_the_profile_for_programs(folder: Path) -> None:
    content = json.loads(run("data", "space.yaml", "--format", "json")[0])
    assert content["rows"] == {"train": 183, "validation": 20, "test": 3}
    train = content["files"]["train.csv"]
    assert train["rows"] == 205 and sum(train["counts"].values()) == 2
    assert content["conflicts"]["inputs"] == 1 and content["lengths"]["p50"] == 3
    assert content["imbalance"] > 100


def test_the_profile_shows_what_the_file_would_leave_out(folder: Path) -> None:
    changes = ("--set", "data.on_bad_rows=fail", "--set", "data.duplicates=remove")
    content = json.loads(run("data", "space.yaml", *changes, "--format", "json")[0])
    assert sum(content["repeated"].values()) + content["duplicates"]["validation"] >= 2
    assert content["bad_rows"]["train.csv"]["counts"] == {"no text": 1, "a line that cannot be read": 1}


def test_every_variant_is_prepared_once(folder: Path) -> None:
    out, err = run("prepare", "space.yaml")
    paths = [line for line in out.splitlines() if "tokens-" in line]
    assert len(paths) == len(set(paths)) == 8 and err == ""  # two ways of cleaning, four tokenizers
    assert all((Path(path) / "prepared.json").exists() for path in paths)
    assert "train 183" in out and "seconds" in out
    found = json.loads(run("prepare", "space.yaml", "--format", "json")[0])
    assert [each["path"] for each in found] == paths
    _, err = run("prepare", "space.yaml", "--most", "3")
    assert "5 more variants" in err


def test_suspicious_labels_are_named(folder: Path) -> None:
    for labels, said in (
        ([f"id{number // 2}" for number in range(100)], "is the label column one of identifiers or of free text?"),
        ([number % 40 for number in range(240)], "the 40 labels are all numbers: is this a quantity?"),
        (["a"] * 98 + ["b"] * 2, "98.9% of the train rows are 'a'"),
    ):
        table = pa.table({"text": [f"text {number}" for number in range(len(labels))], "label": labels})
        pq.write_table(table, "labels.parquet")
        out, _ = run("data", "space.yaml", "--set", "data.train=labels.parquet", "--set", "data.test=null")
        assert said in " ".join(out.split())
