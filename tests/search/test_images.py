"""A search over networks for images, the whole way: file, folder of the run, predictions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import automl
from automl.data.examples import write_digits

SPACE = """\
name: digits
task: image_classification
data: {{train: {data}/train.parquet, validation: {data}/validation.parquet, test: {data}/test.parquet}}
model: {{image_cnn: {{width: 24, depth: 1, stages: 2, normalisation: batch}}}}
training: {{optimizer: {{adamw: {{learning_rate: 0.005}}}}}}
search: {{trials: 2, sampler: random, early_stopping: {{none: {{max_epochs: 4}}}}, ensemble: {{}}}}
resources: {{max_concurrent: 1}}
"""


@pytest.mark.slow
@pytest.mark.ray
def test_digits_are_searched_packed_and_predicted(tmp_path: Path) -> None:
    write_digits(tmp_path / "data")
    space = tmp_path / "space.yaml"
    space.write_text(SPACE.format(data=tmp_path / "data"))
    run = automl.run(space, output=tmp_path / "run", quiet=True)
    rows = automl.leaderboard(run.path)
    best = next(row for row in rows if row["trial"] is not None)
    assert best["test_score"] > 0.93
    floor = json.loads((run.path / "floor.json").read_text())
    assert floor["name"] == "logistic regression on pixels" and 0.93 < floor["test"]["accuracy"] < 1
    card = (run.path / "best_model" / "README.md").read_text()
    assert "8 by 8 pixels" in card and "text" not in card.replace("next", "")

    model = automl.load_model(run.path)
    test = pq.read_table(tmp_path / "data" / "test.parquet")
    said = model.predict(test["image"].to_pylist())
    right = np.mean([each.label == str(label) for each, label in zip(said, test["label"].to_pylist(), strict=True)])
    figures = automl.evaluate(run.path, str(tmp_path / "data" / "test.parquet"))
    packed = json.loads((run.path / "best_model" / "metrics.json").read_text())
    assert figures["metrics"]["accuracy"] == pytest.approx(right) == pytest.approx(packed["test"]["accuracy"])

    (tmp_path / "one.png").write_bytes(test["image"][0].as_py())
    (tmp_path / "rows.csv").write_text(f"image\n{tmp_path / 'one.png'}\n{tmp_path / 'none.png'}\n")
    automl.predict(run.path, tmp_path / "rows.csv", output=tmp_path / "said.csv")
    _, first, second = (tmp_path / "said.csv").read_text().splitlines()
    assert first.split(",")[1] == said[0].label
    assert second.endswith("a path to a file that is not there")
    (tmp_path / "photos").mkdir()
    shutil.copy(tmp_path / "one.png", tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "b.png").write_bytes(b"no image")
    assert automl.predict(run.path, tmp_path / "photos", output=tmp_path / "photos.csv") == 1
    header, first, second = (tmp_path / "photos.csv").read_text().splitlines()
    assert header.startswith("file,predicted_label,") and first.split(",")[:2] == ["a.png", said[0].label]
    assert second.startswith("b.png,,") and second.endswith("an image that cannot be decoded")
    assert automl.export(run.path, trial=best["trial"], output=tmp_path / "onnx").rows == test.num_rows
    original, *smaller = automl.compress(run.path, epochs=2)
    assert [each.name for each in smaller] == ["int8", "pruned", "half", "quarter"]
    assert all(each.bytes < original.bytes and each.validation > 0.6 for each in smaller)
    assert smaller[2].bytes < original.bytes / 3 and set(smaller[2].latency_ms) == {"1", "32"}
    assert smaller[2].path is not None
    exported = automl.export(smaller[2].path, data=tmp_path / "photos", output=tmp_path / "half")
    assert exported.rows == 1  # the other is no image
