"""Whatever else a table has, and in whatever order: a model reads the columns that it was trained on."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from automl.data.tables import write_table
from automl.results.package import load_model
from automl.results.predict import evaluate_file, predict_file
from tests.results.packages import CNN, a_picture, config_of, write_package

ROWS = 24
MODELS = {
    "text": CNN,
    "image": "{image_cnn: {width: 4, depth: 1, stages: 2, normalisation: none}}",
    "series": "{sequence_cnn: {channels: 4, kernel_sizes: [3], blocks: 1, normalisation: none}}",
}
TASKS = {"text": "text", "image": "image", "series": "sequence"}
FORMATS = ("parquet", "csv", "jsonl", "arrow", "tsv")
INPUTS = {"list": "series", "all": '"*"', "begin": '"x*"', "channels": '["x*", "y*"]', "text": "text", "image": "image"}


def columns_of(kind: str, ending: str, folder: Path) -> dict[str, list[Any]]:
    """Inputs, the label first, and what rows are split by in the middle: numbers, as series are."""
    made = np.random.default_rng(0).normal(size=(ROWS, 8)).round(3)
    label = {"label": [row % 2 for row in range(ROWS)]}
    split = {"batch": [row % 6 for row in range(ROWS)]}
    if kind == "text":
        return {**label, **split, "text": [f"word{row % 5} and word{row % 3}" for row in range(ROWS)]}
    if kind == "image":
        pictures: list[Any] = [a_picture(row) for row in range(ROWS)]
        if ending not in ("parquet", "arrow"):
            for row in range(ROWS):
                Image.fromarray(np.full((8, 8, 3), row * 9, np.uint8)).save(folder / f"{row}.png")
            pictures = [str(folder / f"{row}.png") for row in range(ROWS)]
        return {**label, **split, "image": pictures}
    if kind == "list":
        return {**label, **split, "series": [json.dumps(row) for row in made.tolist()]}
    first, second = ("x", "y" if kind == "channels" else "x")
    wide = {f"{first if step < 4 else second}{step}": made[:, step].tolist() for step in range(8)}
    names = list(wide)
    return {**label, **{name: wide[name] for name in names[:3]}, **split, **{name: wide[name] for name in names[3:]}}


def predicted(package: Path, rows: Path) -> list[list[str]]:
    output = rows.with_name(f"said-{rows.name}")
    assert predict_file(load_model(package), rows, output) == 0
    if rows.suffix in (".csv", ".tsv"):
        with output.open(newline="") as file:
            found = list(csv.DictReader(file, delimiter="\t" if rows.suffix == ".tsv" else ","))
    elif rows.suffix == ".jsonl":
        found = [json.loads(line) for line in output.read_text().splitlines()]
    else:
        opened = pa.memory_map(str(output))
        table = pa.ipc.open_file(opened).read_all() if rows.suffix == ".arrow" else pa.parquet.read_table(output)
        found = table.to_pylist()
    return [[f"{float(each['probability_0']):.5f}", str(each["predicted_label"])] for each in found]


def orders(names: Sequence[str]) -> list[list[str]]:
    shuffled = [str(name) for name in np.random.default_rng(1).permutation(list(names))]
    without = [name for name in names if name not in ("label", "batch")]
    return [list(names)[::-1], shuffled, without, [*without, "label"], ["batch", *without], shuffled[::-1]]


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("kind", list(INPUTS))
def test_columns_in_any_order_give_the_same_predictions(kind: str, ending: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    columns = columns_of(kind, ending, tmp_path)
    train = tmp_path / f"train.{ending}"
    write_table(pa.table(columns), train)
    modality = kind if kind in ("text", "image") else "series"
    data = f"{{train: {train}, validation: 0.3, group: batch, {modality}: {INPUTS[kind]}}}"
    text = f"name: x\ntask: {TASKS[modality]}_classification\ndata: {data}\nmodel: {MODELS[modality]}\n"
    package = write_package(tmp_path / "package", [config_of(text, tmp_path)])
    expected = predicted(package, train)
    assert len({each[0] for each in expected}) > 1
    for number, names in enumerate(orders(list(columns))):
        rows = tmp_path / f"rows{number}.{ending}"
        write_table(pa.table({name: columns[name] for name in names}), rows)
        assert predicted(package, rows) == expected, names
        if "label" in names:
            assert evaluate_file(load_model(package), str(rows))["metrics"] == pytest.approx(
                evaluate_file(load_model(package), str(train))["metrics"]
            )


def test_columns_that_training_did_not_have_are_no_steps(tmp_path: Path) -> None:
    torch.manual_seed(0)
    columns = columns_of("all", "csv", tmp_path)
    write_table(pa.table(columns), tmp_path / "train.csv")
    data = f'{{train: {tmp_path}/train.csv, group: batch, series: "*"}}'
    text = f"name: x\ntask: sequence_classification\ndata: {data}\nmodel: {MODELS['series']}\n"
    package = write_package(tmp_path / "package", [config_of(text, tmp_path)])
    expected = predicted(package, tmp_path / "train.csv")
    write_table(pa.table({"id": [f"r{row}" for row in range(ROWS)], **columns}), tmp_path / "more.csv")
    assert predicted(package, tmp_path / "more.csv") == expected
    described = json.loads((package / "config.json").read_text())
    assert described["left_out"] == ["batch"] and described["steps"] == [[f"x{step}" for step in range(8)]]
    del described["left_out"], described["steps"]  # as earlier versions wrote it
    (package / "config.json").write_text(json.dumps(described))
    assert predicted(package, tmp_path / "train.csv") == expected


def test_the_splits_of_a_training_may_have_their_columns_in_any_order(tmp_path: Path) -> None:
    columns = columns_of("all", "csv", tmp_path)
    write_table(pa.table(columns), tmp_path / "train.csv")
    write_table(pa.table({name: columns[name] for name in list(columns)[::-1]}), tmp_path / "test.csv")
    data = f'{{train: {tmp_path}/train.csv, test: {tmp_path}/test.csv, group: batch, series: "*"}}'
    text = f"name: x\ntask: sequence_classification\ndata: {data}\nmodel: {MODELS['series']}\n"
    _, prepared = config_of(text, tmp_path)
    test = prepared.inputs("test") or []
    assert set(prepared.inputs("train") or []) <= set(test) and len(test) == ROWS
