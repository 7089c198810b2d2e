"""A search on a GPU that its trials share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import automl
from tests.conftest import write_space

pytestmark = [
    pytest.mark.ray,
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU with CUDA"),
]


@pytest.mark.parametrize("gpus", ["auto", "0.25"])
def test_trials_share_a_gpu(tmp_path: Path, small_data: Path, gpus: str) -> None:
    """With `auto` the first trials have a whole one, and say how many of them fit."""
    space = write_space(tmp_path / "space.yaml", small_data, trials=12)
    run = automl.run(space, overrides=[f"resources.per_trial.gpus={gpus}"], output=tmp_path / "run", quiet=True)
    rows = [row for row in automl.leaderboard(run.path) if row["trial"] is not None]
    assert {row["status"] for row in rows} <= {"completed", "stopped"}
    assert all(row["gpu_hours"] > 0 for row in rows)
    lines = [
        json.loads(line) for path in run.path.glob("trials/*/metrics.jsonl") for line in path.read_text().splitlines()
    ]
    shares = {line["gpus"] for line in lines}
    assert shares == {0.25} if gpus == "0.25" else 1.0 in shares and min(shares) < 1
    assert automl.load_model(run.path).predict(["lovely wonderful excellent"])[0].label
