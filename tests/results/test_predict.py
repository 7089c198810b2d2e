"""Predictions on files: every format, every row in its place, nothing of the user's own columns lost."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, log_loss, roc_auc_score
from sklearn.metrics import precision_recall_fscore_support as scores_of

import automl
from automl.results import input_rows
from automl.results.package import Model
from automl.training.run_directory import RunDirectory
from tests.conftest import make_texts, write_jsonl

pytestmark = pytest.mark.ray

SHARES = ["probability_negative", "probability_positive"]
ADDED = ["predicted_label", *SHARES, "prediction_error"]
TEXTS = ["a great flight", None, 'terrible, "awful"\nbad', "  ", "the gate was on monday", "good\rgreat"]


@pytest.fixture(scope="module")
def model(finished: RunDirectory) -> Model:
    return automl.load_model(finished.path)


def expected(model: Model) -> list[tuple[str | None, list[float] | None]]:
    """Label and probabilities of each of TEXTS, one text at a time."""
    found: list[tuple[str | None, list[float] | None]] = []
    for text in TEXTS:
        if text is None or not text.strip():
            found.append((None, None))
        else:
            (prediction,) = model.predict([text])
            found.append((prediction.label, list(prediction.probabilities.values())))
    return found


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz"])
def test_text_tables_keep_every_cell(model: Model, finished: RunDirectory, tmp_path: Path, ending: str) -> None:
    delimiter = "\t" if ending == "tsv" else ","
    rows = [["id", "text", "when, where", "n"]] + [
        [f"00{number}", text or "", value, "1.50"]
        for number, (text, value) in enumerate(
            zip(TEXTS, ["2024-01-02", "NA", 'say "hi"', "two\nlines", "lone\rreturn", "tab\there"], strict=True)
        )
    ]
    opener = gzip.open if ending.endswith("gz") else open
    source, target = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    with opener(source, "wt", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
    assert automl.predict(finished.path, source, output=target) == 2
    with opener(target, "rt", encoding="utf-8", newline="") as file:
        found = list(csv.reader(file, delimiter=delimiter))
    assert found[0] == [*rows[0], *ADDED]
    assert [row[:4] for row in found[1:]] == rows[1:]
    for row, (label, probabilities) in zip(found[1:], expected(model), strict=True):
        assert row[4] == (label or "")
        if probabilities is None:
            assert row[5:] == ["", "", "no text"]
        else:
            assert row[7] == ""
            assert [float(cell) for cell in row[5:7]] == pytest.approx(probabilities, abs=2e-6)


def test_json_lines_keep_every_character(model: Model, finished: RunDirectory, tmp_path: Path) -> None:
    extras = [
        '"n": 1, "big": 123456789012345678901234567890',
        '"n": 2.50, "x": 1e400',
        '"n": "three", "nested": {"b": [1, 2.0, null], "a": "\\ud800"}',
        '"n": null, "u": "\\u00e4ä"',
        '"other": true',
        '"n": [],  "spaced" :  0.10',
    ]
    lines = [f'{{"text": {json.dumps(text)}, {extra}}}' for text, extra in zip(TEXTS, extras, strict=True)]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n\n".join(lines), encoding="utf-8")
    assert automl.predict(finished.path, source, output=target) == 2
    found = target.read_text(encoding="utf-8").splitlines()
    for line, before, (label, probabilities) in zip(found, lines, expected(model), strict=True):
        assert line.startswith(before[:-1] + ', "predicted_label": ')
        row = json.loads(line)
        assert list(row)[-4:] == ADDED and (row["prediction_error"] == "no text") is (label is None)
        assert row["predicted_label"] == label
        shares = [row[name] for name in SHARES]
        assert shares == ([None, None] if probabilities is None else pytest.approx(probabilities, abs=2e-6))


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_columns_keep_their_types(model: Model, finished: RunDirectory, tmp_path: Path, ending: str) -> None:
    table = pa.table(
        {
            "id": pa.array(range(6), pa.int16()),
            "when": pa.array([date(2024, 1, day) if day != 3 else None for day in range(1, 7)], pa.date32()),
            "text": pa.array(TEXTS, pa.string()),
            "tags": pa.array([["a"], [], None, ["b", "c"], ["d"], ["e"]], pa.list_(pa.string())),
            "kind": pa.array(["x", "y", None, "x", "y", "x"]).dictionary_encode(),
            "raw": pa.array([b"\x00", b"\xff", None, b"", b"1", b"2"], pa.binary()),
        },
    ).replace_schema_metadata({"origin": "test"})
    source, target = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    if ending == "parquet":
        pq.write_table(table, source, row_group_size=4)
    else:
        with pa.ipc.new_file(source, table.schema) as writer:
            writer.write_table(table, max_chunksize=4)
    assert automl.predict(finished.path, source, output=target) == 2
    found = pq.read_table(target) if ending == "parquet" else pa.ipc.open_file(target).read_all()
    assert found.column_names == [*table.column_names, *ADDED]
    kept = found.select(table.column_names)
    assert kept.schema.equals(table.schema) and kept.to_pylist() == table.to_pylist()
    assert (found.schema.metadata or {}).get(b"origin") == b"test"
    for label, shares, (wanted, probabilities) in zip(
        found["predicted_label"].to_pylist(),
        zip(found[SHARES[0]].to_pylist(), found[SHARES[1]].to_pylist(), strict=True),
        expected(model),
        strict=True,
    ):
        assert label == wanted
        assert list(shares) == ([None, None] if probabilities is None else pytest.approx(probabilities, abs=2e-6))


def test_many_batches_keep_their_order(model: Model, finished: RunDirectory, tmp_path: Path) -> None:
    rows = [{**row, "id": str(number)} for number, row in enumerate(make_texts(16_600, seed=9))]
    for number in range(0, len(rows), 997):
        rows[number]["text"] = ""
    write_jsonl(tmp_path / "in.jsonl", rows)
    assert automl.predict(finished.path, tmp_path / "in.jsonl", output=tmp_path / "out.jsonl") == 17
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert [row["predicted_label"] is None for row in found] == [row["text"] == "" for row in rows]
    some = [row for row in found if row["text"]][::11]
    probabilities = model.predict_probabilities([row["text"] for row in some])
    kept = [[row[name] for name in SHARES] for row in some]
    assert np.array(kept) == pytest.approx(probabilities, abs=2e-5)


def test_a_bad_json_line_has_an_error_and_keeps_its_place(finished: RunDirectory, tmp_path: Path) -> None:
    lines = [
        b'{"text": "great", "n": 1}',
        b'{"text": 3}',
        b'{"text": "bad"',
        b"[1, 2]",
        b"{}",
        b'{"text": "caf\xe9"}',
        b'{"text": ["a"]}',
        b'{"text": "great", "n": 2}',
    ]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b"\n".join(lines))
    assert automl.predict(finished.path, source, output=target) == 6
    found = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [row["predicted_label"] for row in found] == ["positive", *[None] * 6, "positive"]
    errors = [row["prediction_error"] for row in found]
    assert errors[0] is None and errors[7] is None
    assert errors[1] == "expected text, found 3" and errors[6] == 'expected text, found ["a"]'
    assert errors[2].startswith("the line is not JSON: ") and errors[3] == "the line is not a JSON object"
    assert errors[4] == "no text" and errors[5] == "the line is not UTF-8"
    assert [row.get("line") for row in found[2:4]] == ['{"text": "bad"', "[1, 2]"] and found[7]["n"] == 2
    source.write_text("nothing\nof JSON\n")
    with pytest.raises(automl.UserError, match="is not JSON Lines"):
        automl.predict(finished.path, source, output=target)
    assert len(target.read_bytes().splitlines()) == len(lines)


def test_a_bad_csv_row_has_an_error_and_keeps_its_bytes(finished: RunDirectory, tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(b"text,n\ngreat,caf\xe9\ncaf\xe9,2\ngreat\ngreat,4,and,more\n\nawful,6\n")
    assert automl.predict(finished.path, source, output=target) == 3
    rows = [line.split(b",") for line in target.read_bytes().splitlines()]
    assert [row[0] for row in rows] == [b"text", b"great", b"caf\xe9", b"great", b"great", b"awful"]
    assert [row[1] for row in rows][:4] == [b"n", b"caf\xe9", b"2", b""] and b'"4,and,more"' in target.read_bytes()
    assert rows[1][2] == b"positive" and rows[5][2] == b"negative" and rows[2][-1] == b"the text is not UTF-8"
    assert b'"the row has 1 cells, expected 2"' in target.read_bytes()
    source.write_bytes("text,n\ngreat,1\n".encode("utf-16"))
    with pytest.raises(automl.UserError, match="not UTF-8"):
        automl.predict(finished.path, source, output=target)


def test_windows_are_bounded_by_characters_of_all_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_rows, "WINDOW_CHARACTERS", 1000)
    (tmp_path / "in.csv").write_text("text,other\n" + "".join(f"text {n},{'x' * 300}\n" for n in range(20)))
    write_jsonl(tmp_path / "in.jsonl", [{"text": f"text {n}", "other": "x" * 300} for n in range(20)])
    for name in ("in.csv", "in.jsonl"):
        _, windows = input_rows.open_rows(tmp_path / name, "text")
        texts = [window.texts for window in windows]
        assert [len(each) for each in texts] == [4] * 5 if name == "in.csv" else len(texts) >= 5
        assert [text for each in texts for text in each] == [f"text {n}" for n in range(20)]


def test_another_text_column_and_an_input_of_dictionary_type(finished: RunDirectory, tmp_path: Path) -> None:
    table = pa.table({"body": pa.array(["great", "awful", "great"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "in.parquet")
    automl.predict(finished.path, tmp_path / "in.parquet", output=tmp_path / "out.parquet", text="body")
    labels = pq.read_table(tmp_path / "out.parquet")["predicted_label"].to_pylist()
    assert labels == ["positive", "negative", "positive"]


def test_a_text_of_another_type_is_refused(finished: RunDirectory, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "in.parquet")
    with pytest.raises(automl.UserError, match="column 'text' holds int64, expected text"):
        automl.predict(finished.path, tmp_path / "in.parquet", output=tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_figures_are_those_of_scikit_learn(model: Model, finished: RunDirectory, tmp_path: Path) -> None:
    rows = make_texts(700, seed=5, noise=0.3)
    data = write_jsonl(tmp_path / "data.jsonl", [*rows, {"text": "", "label": "positive"}, {"text": "good"}])  # type: ignore[list-item]
    found = automl.evaluate(finished.path, data)
    probabilities = model.predict_probabilities([row["text"] for row in rows]).astype(float)
    truth = [row["label"] for row in rows]
    chosen = [model.classes[number] for number in probabilities.argmax(axis=1)]
    assert (found["rows"], found["skipped"], found["classes"]) == (700, 2, ["negative", "positive"])
    figures = {
        "accuracy": accuracy_score(truth, chosen),
        "balanced_accuracy": balanced_accuracy_score(truth, chosen),
        "macro_f1": f1_score(truth, chosen, average="macro"),
        "loss": log_loss(truth, probabilities / probabilities.sum(axis=1, keepdims=True), labels=list(model.classes)),
    }
    figures |= {"micro_f1": figures["accuracy"], "auroc": roc_auc_score(truth, probabilities[:, 1])}
    assert {name: found["metrics"][name] for name in figures} == pytest.approx(figures, abs=1e-5)
    assert found["confusion"] == confusion_matrix(truth, chosen).tolist()
    for name, *wanted in zip(model.classes, *scores_of(truth, chosen, labels=list(model.classes)), strict=True):
        assert list(found["per_class"][name].values()) == pytest.approx(wanted)


def test_labels_are_read_as_training_reads_them(tmp_path: Path, finished: RunDirectory) -> None:
    table = pa.table({"text": ["good", "bad"], "label": pa.array(["positive", "negative"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "data.parquet")
    assert automl.evaluate(finished.path, tmp_path / "data.parquet")["rows"] == 2
    (tmp_path / "data.csv").write_text("text,label\ngood,positive\nbad,negativ\n")
    with pytest.raises(automl.UserError, match=r"label 'negativ' is none of .*; did you mean 'negative'\?"):
        automl.evaluate(finished.path, tmp_path / "data.csv")
