"""Calibrated probabilities: the least log loss on validation, the same order of classes, the package's own figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import automl
from automl.results import finish
from automl.results.calibration import calibrate, calibrate_out_of_fold, calibrated_figures, fit_temperature
from automl.training.metrics import compute_metrics
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.conftest import copy_run


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.3, 1.7, 4.0])
def test_the_temperature_that_spoilt_probabilities_is_found(temperature: float) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(scale=1.5, size=(40_000, 3))
    honest = softmax(logits)
    labels = np.array([generator.choice(3, p=row.astype(float) / row.sum(dtype=float)) for row in honest])
    spoilt = softmax(logits * temperature)
    found = fit_temperature(spoilt, labels)
    assert found == pytest.approx(temperature, rel=0.04)
    mended = calibrate(spoilt, found)
    np.testing.assert_allclose(mended, softmax(logits * temperature / found), atol=1e-5)
    assert (mended.argmax(axis=1) == spoilt.argmax(axis=1)).all()
    before, after = compute_metrics(spoilt, labels), compute_metrics(mended, labels)
    assert after["calibration_error"] < 0.01 < before["calibration_error"] and after["loss"] < before["loss"]


def test_what_cannot_be_calibrated_stays() -> None:
    sure = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    assert np.isfinite(calibrate(sure, fit_temperature(sure, np.array([0, 1])))).all()
    assert fit_temperature(np.full((2, 2), np.nan, dtype=np.float32), np.array([0, 1])) == 1.0
    assert calibrate(np.zeros((0, 2), dtype=np.float32), 2.0).shape == (0, 2)


def test_figures_out_of_fold_are_those_of_rows_that_had_no_part_in_the_temperature() -> None:
    """The means over 60 small samples: in sample the loss is too good, out of fold it is that of new rows."""
    generator = np.random.default_rng(0)
    fitted, honest, fresh = [], [], []
    for _ in range(60):
        logits = generator.normal(scale=2, size=(40, 3))
        labels = np.array([generator.choice(3, p=row.astype(float) / row.sum(dtype=float)) for row in softmax(logits)])
        spoilt = softmax(logits * 2.5)
        temperature = fit_temperature(spoilt, labels)
        figures, in_sample = calibrated_figures(spoilt, labels, temperature)
        fitted.append(in_sample["loss"])
        honest.append(figures["loss"])
        true = softmax(logits).astype(float)
        said = calibrate(spoilt, temperature).astype(float)
        fresh.append(float(-(true * np.log(said)).sum(axis=1).mean()))  # of labels drawn anew, on average
        assert figures["accuracy"] == compute_metrics(spoilt, labels)["accuracy"]
    assert np.mean(fitted) < min(np.mean(fresh), np.mean(honest)) - 0.005
    assert np.mean(honest) == pytest.approx(np.mean(fresh), abs=0.03)


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_few_rows_can_be_calibrated_out_of_fold(rows: int) -> None:
    said = softmax(np.random.default_rng(0).normal(size=(rows, 2)))
    found = calibrate_out_of_fold(said, np.arange(rows) % 2)
    assert found.shape == said.shape and np.isfinite(found).all()
    assert rows > 1 or (found == said).all()


@pytest.mark.ray
@pytest.mark.parametrize("averaged", [False, True])
def test_the_package_is_calibrated_on_validation_and_says_so(
    finished: RunDirectory, small_data: Path, tmp_path: Path, averaged: bool
) -> None:
    run = copy_run(finished, tmp_path / "run")
    if averaged:
        write_json(run.manifest, {**read_json(run.manifest), "ensemble": {"top": 3, "linear": False}})
        finish(run)
        content = read_json(run.finalists)
        content["ensemble"]["validation"]["accuracy"] = 1.5
        write_json(run.finalists, content)
        finish(run)
    config, figures = read_json(run.best_model / "config.json"), read_json(run.best_model / "metrics.json")
    assert len(config["members"]) == (3 if averaged else 1) and config["temperature"] != 1.0
    before, card = figures["before_calibration"], (run.best_model / "README.md").read_text()
    assert figures["validation"]["loss"] < before["validation"]["loss"]
    content = read_json(run.finalists)
    raw_figures = content["ensemble"] if averaged else content["trials"][str(config["members"][0]["trial"])]
    assert figures["test"]["accuracy"] == raw_figures["test"]["accuracy"]
    assert before["test"]["loss"] == raw_figures["test"]["loss"]
    for split in ("validation", "test"):
        said = figures[split] | (figures["calibrated_in_sample"] if split == "validation" else {})
        assert automl.evaluate(run.path, small_data / f"{split}.jsonl")["metrics"] == pytest.approx(said, abs=1e-5)
        shown = (
            f"{figures[split]['calibration_error']:.4f} on {split} ({before[split]['calibration_error']:.4f} before)"
        )
        assert shown in card
    texts = [json.loads(line)["text"] for line in (small_data / "test.jsonl").read_text().splitlines()]
    said = automl.load_model(run.path).predict_probabilities(texts)
    write_json(run.best_model / "config.json", {**config, "temperature": 1.0})
    raw = automl.load_model(run.path).predict_probabilities(texts)
    np.testing.assert_array_equal(said.argmax(axis=1), raw.argmax(axis=1))
    np.testing.assert_allclose(said, calibrate(raw, config["temperature"]), atol=1e-6)
