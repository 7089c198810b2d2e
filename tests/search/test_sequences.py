"""A search over networks for series, the whole way: file, folder of the run, predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import automl

SPACE = """\
name: waves
task: sequence_classification
data: {{train: {data}/train.parquet, validation: 0.2, test: {data}/test.parquet}}
model: {{sequence_cnn: {{channels: 16, blocks: 2, kernel_sizes: [5]}}}}
training: {{optimizer: {{adamw: {{learning_rate: 0.01}}}}, batch_size: 32}}
search: {{trials: 2, sampler: random, early_stopping: {{none: {{max_epochs: 4}}}}, ensemble: {{}}}}
resources: {{max_concurrent: 1}}
"""


def write_waves(path: Path, rows: int, seed: int) -> None:
    """Slow and fast waves of any phase and length: no linear model tells them apart."""
    generator = np.random.default_rng(seed)
    series, labels = [], []
    for number in range(rows):
        steps = np.arange(generator.integers(20, 40))
        speed = (0.5, 1.2)[number % 2]
        wave = np.sin(steps * speed + generator.uniform(0, 2 * np.pi)) + generator.normal(0, 0.2, len(steps))
        series.append(wave.tolist())
        labels.append(("slow", "fast")[number % 2])
    pq.write_table(pa.table({"series": series, "label": labels}), path)


@pytest.mark.slow
@pytest.mark.ray
def test_waves_are_searched_packed_and_predicted(tmp_path: Path) -> None:
    write_waves(tmp_path / "train.parquet", 400, 0)
    write_waves(tmp_path / "test.parquet", 100, 1)
    space = tmp_path / "space.yaml"
    space.write_text(SPACE.format(data=tmp_path))
    run = automl.run(space, output=tmp_path / "run", quiet=True)
    best = next(row for row in automl.leaderboard(run.path) if row["trial"] is not None)
    assert best["test_score"] > 0.9
    floor = json.loads((run.path / "floor.json").read_text())
    assert floor["name"] == "logistic regression on steps" and floor["test"]["accuracy"] < 0.8
    assert "Series are cut after" in (run.path / "best_model" / "README.md").read_text()

    model = automl.load_model(run.path)
    test = pq.read_table(tmp_path / "test.parquet")
    said = model.predict(test["series"].to_pylist())
    right = np.mean([each.label == label for each, label in zip(said, test["label"].to_pylist(), strict=True)])
    figures = automl.evaluate(run.path, str(tmp_path / "test.parquet"))
    assert figures["metrics"]["accuracy"] == pytest.approx(right)

    (tmp_path / "rows.jsonl").write_text(json.dumps({"series": test["series"][0].as_py()}) + '\n{"series": [1, "x"]}\n')
    automl.predict(run.path, tmp_path / "rows.jsonl", output=tmp_path / "said.jsonl")
    first, second = (json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines())
    assert first["predicted_label"] == said[0].label
    assert second["prediction_error"] == "a series that is not made of finite numbers"
    assert automl.export(run.path, trial=best["trial"], output=tmp_path / "onnx").rows == 100
    original, *smaller = automl.compress(run.path, epochs=2)
    assert [each.name for each in smaller] == ["int8", "pruned", "half", "quarter"]
    assert all(each.bytes < original.bytes and each.validation > 0.6 for each in smaller)
    for each in smaller:
        assert each.path is not None
        assert automl.evaluate(each.path, tmp_path / "test.parquet")["metrics"]["accuracy"] == pytest.approx(each.test)
