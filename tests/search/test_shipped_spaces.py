"""Each file of search_spaces/ searched for two trials on little data."""

from __future__ import annotations

from pathlib import Path

import pytest

import automl
from automl.data.examples import write_digits, write_mnist1d
from automl.training.run_directory import read_json
from tests.conftest import make_texts, write_jsonl

FOLDER = Path(__file__).parents[2] / "search_spaces"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if not path.name.startswith("base_"))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_runs(path: Path, tmp_path: Path) -> None:
    if "task: image_classification" in path.read_text(encoding="utf-8"):
        write_digits(tmp_path)
        train = tmp_path / "validation.parquet"
    elif "task: sequence_classification" in path.read_text(encoding="utf-8"):
        write_mnist1d(tmp_path)
        train = tmp_path / "validation.parquet"
    else:
        train = write_jsonl(tmp_path / "train.jsonl", make_texts(300, 0))
    overrides = [
        f"data.train={train}",
        "data.validation=0.2",
        "data.test=null",
        "training.rows_per_epoch=null",
        "search.early_stopping={none: {max_epochs: 1}}",
        "search.time_budget=5m",
        "resources.max_concurrent=1",  # one process that loads PyTorch
    ]
    if path.stem.endswith("_vectors"):
        (tmp_path / "vectors.txt").write_text("good 0.5 0.1\nbad -0.5 0.1\n")
        overrides += [f"model.{name}.vectors.source={tmp_path}/vectors.txt" for name in ("cnn", "rnn", "rnn_cnn")]
    result = automl.run(path, output=tmp_path / "run", trials=2, overrides=overrides, quiet=True)
    assert result.status == "finished"
    rows = [row for row in automl.leaderboard(result.path) if row["trial"] is not None]
    assert [row["status"] for row in rows] == ["completed"] * 2
    limits = {"small_fast": 250_000}
    assert all(row["parameters"] <= limits.get(path.stem, 10**9) for row in rows)
    assert read_json(result.path / "manifest.json")["used"]["trials"] == 2
    assert "extends" not in (result.path / "space.yaml").read_text(encoding="utf-8").splitlines()[1]
