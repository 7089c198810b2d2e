"""The best model row by row: its calibration, its hardest rows against the packaged model, every kind of row."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from automl.data import prepare
from automl.results import read_run
from automl.results.examination import HARDEST, confused, examine, hardest, read_examination, reliability
from automl.results.package import load_model
from automl.training.metrics import compute_metrics
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.conftest import copy_run


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 200))
def test_the_bins_are_those_of_the_calibration_error(seed: int, classes: int, rows: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(classes, 0.5), rows).astype(np.float32)
    labels = generator.integers(classes, size=rows)
    bins = reliability(probabilities, labels)
    assert sum(each["rows"] for each in bins) == rows
    error = sum(each["rows"] / rows * abs(each["confidence"] - each["right"]) for each in bins)
    assert error == pytest.approx(compute_metrics(probabilities, labels)["calibration_error"], abs=2e-3)
    assert all(each["low"] <= each["right"] <= each["high"] for each in bins)


@pytest.mark.ray
def test_the_hardest_rows_are_those_of_the_packaged_model(finished: RunDirectory, small_data: Path) -> None:
    rows = [json.loads(line) for line in (small_data / "test.jsonl").read_text().splitlines()]
    model = load_model(finished.path)
    said = model.predict_probabilities([row["text"] for row in rows])
    truth = np.array([said[place, model.classes.index(row["label"])] for place, row in enumerate(rows)])
    found = read_examination(read_run(finished))
    assert found is not None and found["split"] == "test"
    assert [each["row"] for each in found["hardest"]] == list(np.argsort(truth, kind="stable")[: len(found["hardest"])])
    assert 1 < len(found["hardest"]) <= HARDEST
    for each in found["hardest"]:
        row = rows[each["row"]]
        assert (each["text"], each["truth"]) == (row["text"], row["label"]) and each["said"] != row["label"]
        assert each["probability_truth"] == pytest.approx(truth[each["row"]], abs=1e-3)
    assert sum(each["rows"] for each in found["reliability"]) == len(rows)


@pytest.mark.ray
def test_of_another_model_nothing_stays(finished: RunDirectory, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    finalists = read_json(run.finalists)
    write_json(run.finalists, {**finalists, "confusion_of": finalists["confusion_of"] + 1000})
    assert read_examination(read_run(run)) is None
    examine(read_run(run))
    assert not run.examination.exists()


def test_images_and_series_are_shown(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    generator = np.random.default_rng(0)
    labels = ["dark", "bright"] * 20
    images = [(generator.integers(0, 60, (8, 8)) + 190 * (label == "bright")).tolist() for label in labels]
    series = [[float(step * (1 + (label == "bright"))) for step in range(500)] for label in labels]
    pq.write_table(pa.table({"image": images, "series": series, "label": labels}), tmp_path / "rows.parquet")
    wrong = np.array([[0.9, 0.1], [0.2, 0.8]] * 2, dtype=np.float32)  # bright 0, dark 1
    for kind, settings in (("image", {"size": "auto", "colour": "auto"}), ("series", {"max_length": "auto"})):
        files = [str(tmp_path / "rows.parquet")]
        shared = {"train": files, "validation": files, "test": None, "label": "label", "on_bad_rows": "fail"}
        data = {**shared, kind: kind, **settings}
        prepared = prepare(data, seed=0, cache=tmp_path / "cache")
        some = np.vstack([wrong, np.eye(2, dtype=np.float32)[prepared.labels("validation")[4:]]])
        found = hardest(prepared, data, "validation", some, prepared.labels("validation"))
        expected = [row for row in range(4) if some[row].argmax() != prepared.labels("validation")[row]]
        assert sorted(each["row"] for each in found) == expected and expected
        for each in found:
            if kind == "image":
                head, content = each["image"].split(",")
                assert head == "data:image/png;base64"
                pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
                assert pixels.tolist() == images[each["row"]]
            else:
                (line,) = each["series"]
                assert len(line) <= 200 and line[0] == 0 and line == sorted(line) and max(line) > 0.99


def test_the_classes_that_are_confused_most() -> None:
    matrix = [[5, 3, 0], [1, 9, 0], [0, 4, 0]]
    assert confused(matrix, ["a", "b", "c"], 2) == [("c", "b", 4, 1.0), ("a", "b", 3, 3 / 8)]
