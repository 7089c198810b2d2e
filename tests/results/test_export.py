"""Exports of a real run: compared on all test rows, usable without automl, refused where they cannot be right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import automl
from automl import cli
from automl.data import batches, load_encoder
from automl.results import package
from automl.results.export import ExportError, export
from automl.results.package import Model
from automl.training.inference import predict_probabilities
from automl.training.run_directory import RunDirectory, read_json
from tests.conftest import copy_run

pytestmark = pytest.mark.ray


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_an_export_says_what_the_model_says(
    finished: RunDirectory, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    run = copy_run(finished, tmp_path / "run")
    cli.app(["export", str(run.path), "--format", format, "--json"], standalone_mode=False)
    said = json.loads(capsys.readouterr().out)
    folder = run.path / "exported" / format
    assert said["path"] == str(folder) and said["rows"] == 120 and said["largest_difference"] < 1e-5
    texts = [json.loads(line)["text"] for line in (small_data / "test.jsonl").read_text().splitlines()]
    (batch,) = batches(load_encoder(folder).encode(texts), 200, shuffle=None)
    if format == "onnx":
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
        (found,) = session.run(None, {"tokens": batch.tokens.numpy(), "lengths": batch.lengths.numpy()})
    else:
        found = torch.export.load(folder / "model.pt2").module()(batch.tokens, batch.lengths).numpy()
    wanted = automl.load_model(run.path).predict_probabilities(texts)
    np.testing.assert_allclose(found, wanted[batch.index.numpy()], atol=1e-5)
    described = read_json(folder / "config.json")
    assert described["classes"] == ["negative", "positive"] and described["compared"]["rows"] == 120


def test_an_export_is_compared_in_float32_where_the_machine_predicts_in_bfloat16(
    finished: RunDirectory, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [json.loads(line)["text"] for line in (small_data / "test.jsonl").read_text().splitlines()]
    model = automl.load_model(finished.best_model)
    exact = model.predict_probabilities(texts)

    def in_bfloat16(*arguments: Any, **options: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return predict_probabilities(*arguments, **options)

    monkeypatch.setattr(package, "predict_probabilities", in_bfloat16)
    assert np.abs(model.predict_probabilities(texts) - exact).max() > 1e-4  # more than an export may differ
    assert export(model, "torch", tmp_path / "out", texts).largest_difference < 1e-5


def test_a_model_without_its_run_needs_rows(finished: RunDirectory, small_data: Path, tmp_path: Path) -> None:
    with pytest.raises(automl.UserError, match="--data"):
        automl.export(finished.best_model, output=tmp_path / "out")
    found = automl.export(
        finished.best_model, format="torch", output=tmp_path / "out", data=small_data / "validation.jsonl"
    )
    assert found.rows == 120 and (tmp_path / "out" / "model.pt2").is_file()


def test_an_export_that_says_something_else_is_not_written(finished: RunDirectory, tmp_path: Path) -> None:
    class Restless(nn.Module):
        """Counts the positions of padding, too: its answers depend on the batch."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            share = (tokens == 0).float().mean(dim=1, keepdim=True) * self.weight
            return torch.cat([share, 0.5 - share], dim=1)

    loaded = automl.load_model(finished.path)
    ((encoder, _),) = loaded.members
    model = Model(loaded.classes, "text", "label", ((encoder, Restless().eval()),))
    texts = ["good"] * 64 + ["a much longer text than the other " * 3] * 16
    with pytest.raises(ExportError, match="does not agree"):
        export(model, "torch", tmp_path / "out", texts)
    assert not (tmp_path / "out").exists()
