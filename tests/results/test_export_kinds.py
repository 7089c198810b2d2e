"""Exports of every family of every modality, and of averages: one graph that says what the model says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import automl
from automl.results.export import export
from automl.results.package import Model, load_model
from automl.results.ports import preparations_of
from automl.training.run_directory import read_json
from tests.conftest import make_texts
from tests.results.packages import CNN, RNN, a_picture, config_of, of_images, of_texts, write_package

TEXTS = [row["text"] for row in make_texts(70, 3)] + ["x", "a", "good " * 50]
PICTURES = [a_picture(seed) for seed in range(9)]
GENERATOR = np.random.default_rng(0)
SERIES = [GENERATOR.normal(size=(length, 2)).astype(np.float32) for length in (1, 2, 3, 12, 12, 30, 7)]
IMAGE_FAMILIES = [
    "{image_cnn: {width: 4, depth: 1, stages: 3, normalisation: batch, residual: true}}",
    "{image_cnn: {width: 8, depth: 2, stages: 2, normalisation: group, separable: true, squeeze_excitation: true}}",
]
SERIES_FAMILIES = [
    "{sequence_cnn: {channels: 4, kernel_sizes: [3, 5], blocks: 2, normalisation: batch, halving: true}}",
    "{sequence_cnn: {channels: 4, kernel_sizes: [3], blocks: 2, normalisation: layer, pooling: attention}}",
    "{rnn: {hidden: 4, layers: 2, cell: lstm, bidirectional: true}}",
    "{tcn: {channels: 6, blocks: 2, layer_norm: true}}",
    "{cnn_rnn: {channels: 4, hidden: 4, kernel_sizes: [2, 3], stride: 3, cell: gru}}",
]


def of_pictures(folder: Path, model: str, size: int = 8) -> Any:
    rows = {"image": PICTURES * 6, "label": ["a", "b", "c"] * 18}
    pq.write_table(pa.table(rows), folder / "images.parquet")
    data = f"{{train: {folder}/images.parquet, size: {size}}}"
    return config_of(f"name: x\ntask: image_classification\ndata: {data}\nmodel: {model}\n", folder)


def of_numbers(folder: Path, model: str, missing: str = "drop", length: str = "auto") -> Any:
    rows = {"series": [each.tolist() for each in SERIES] * 8, "label": (["a", "b", "c"] * 19)[:56]}
    pq.write_table(pa.table(rows), folder / "series.parquet")
    data = f"{{train: {folder}/series.parquet, missing: {missing}, max_length: {length}}}"
    return config_of(f"name: x\ntask: sequence_classification\ndata: {data}\nmodel: {model}\n", folder)


def exported(folder: Path, model: Model, inputs: Sequence[Any], formats: Sequence[str] = ("onnx", "torch")) -> Path:
    """Compare the exports row by row and together; gives the folder of the first."""
    wanted = model.predict_probabilities(inputs)
    for format in formats:
        found = export(model, format, folder / format, list(inputs))
        says_the_same(folder / format, model, inputs, wanted)
        assert found.largest_difference < 1e-5 and found.rows == len(inputs)
        preparations, _ = preparations_of(model)
        config = read_json(folder / format / "config.json")
        assert list(config["inputs"]) == [name for each in preparations for name in each.names]
        for some in ([*range(len(inputs))], [0], [len(inputs) - 1], [1, 0]):
            arrays = {
                name: array
                for each in preparations
                for name, array in zip(each.names, each.arrays([inputs[row] for row in some]), strict=True)
            }
            if format == "onnx":
                session = onnxruntime.InferenceSession(str(folder / format / "model.onnx"))
                (said,) = session.run(None, arrays)
            else:
                program = torch.export.load(folder / format / "model.pt2").module()
                said = program(*map(torch.from_numpy, arrays.values())).numpy()
            np.testing.assert_allclose(said, wanted[some], atol=1e-5)
    return folder / formats[0]


def says_the_same(folder: Path, model: Model, inputs: Sequence[Any], wanted: Any) -> None:
    """The example in an exported folder prints what the model says."""
    given = list(inputs)
    if model.modality.name == "image":
        given = [folder / f"{number}.png" for number in range(len(inputs))]
        for path, content in zip(given, inputs, strict=True):
            path.write_bytes(content)
    elif model.modality.name == "series":
        given = [json.dumps(np.asarray(each).tolist()) for each in inputs]
    command = [sys.executable, str(folder / "example.py"), *map(str, given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    found = [[row["probabilities"][name] for name in model.classes] for row in said]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_images(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    package = write_package(tmp_path / "model", [of_pictures(tmp_path, family)])
    exported(tmp_path, load_model(package), PICTURES, ["onnx"] if family == IMAGE_FAMILIES[0] else ["torch"])


@pytest.mark.parametrize(
    ("missing", "family"),
    [
        ("drop", SERIES_FAMILIES[0]),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in product(["drop", "mask"], SERIES_FAMILIES)),
    ],
)
def test_series(missing: str, family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    package = write_package(tmp_path / "model", [of_numbers(tmp_path, family, missing)])
    exported(tmp_path, load_model(package), SERIES, ["onnx"] if missing == "drop" else ["torch"])


def test_an_average_of_texts_and_the_linear_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts = [of_texts(tmp_path), of_texts(tmp_path, RNN)]
    folder = exported(tmp_path, load_model(write_package(tmp_path / "one", parts, linear=True)), TEXTS, ["onnx"])
    config = read_json(folder / "config.json")
    assert list(config["inputs"]) == ["tokens", "lengths", "terms", "weights"] and config["networks"] == 2
    (tmp_path / "two").mkdir()
    parts = [of_texts(tmp_path, CNN, "char"), of_texts(tmp_path, RNN), of_texts(tmp_path, CNN, "char")]
    folder = exported(tmp_path / "two", load_model(write_package(tmp_path / "two" / "model", parts)), TEXTS, ["onnx"])
    config = read_json(folder / "config.json")
    assert list(config["inputs"]) == ["tokens_1", "lengths_1", "tokens_2", "lengths_2"] and config["networks"] == 3
    assert (folder / "inputs" / "2" / "tokenizer.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "series"])
def test_an_average_of_images_or_series_and_the_linear_model(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    if kind == "image":
        parts = [of_pictures(tmp_path, IMAGE_FAMILIES[0], 20), of_pictures(tmp_path, IMAGE_FAMILIES[1], 7)]
    else:
        parts = [
            of_numbers(tmp_path, SERIES_FAMILIES[0], "mask"),
            of_numbers(tmp_path, SERIES_FAMILIES[2], "zero", "5"),
        ]
    inputs = PICTURES if kind == "image" else SERIES
    folder = exported(tmp_path, load_model(write_package(tmp_path / "model", parts, linear=True)), inputs, ["onnx"])
    names = list(read_json(folder / "config.json")["inputs"])
    assert names == (
        ["pixels_1", "pixels_2"] if kind == "image" else ["series_1", "lengths_1", "series_2", "lengths_2"]
    )


def test_the_command_exports_images_and_averages(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    package = write_package(tmp_path / "model", [of_images(tmp_path), of_images(tmp_path)], linear=True)
    (tmp_path / "photos").mkdir()
    for seed in range(3):
        (tmp_path / "photos" / f"{seed}.png").write_bytes(a_picture(seed))
    capfd.readouterr()
    found = automl.export(package, data=tmp_path / "photos")
    assert capfd.readouterr() == ("", "")
    assert found.rows == 3 and Path(found.path) == package / "exported" / "onnx"
    with pytest.raises(automl.UserError, match="--data"):
        automl.export(package)
