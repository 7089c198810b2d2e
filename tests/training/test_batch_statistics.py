"""Batch normalisation where the length of a row goes with its class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from automl.data import prepare
from automl.models import FAMILIES, uses_batch_statistics
from automl.space import load, sample_configs
from automl.training.fit import train_epoch
from automl.training.start import start

SPACE = """\
name: lengths
task: sequence_classification
data: {{train: {train}, validation: 0.3}}
model: {{sequence_cnn: {{channels: 8, blocks: 2, kernel_sizes: [3], normalisation: batch}}}}
training: {{optimizer: {{adamw: {{learning_rate: 0.01}}}}, batch_size: 32}}
"""


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """Short rows about 0 are of one class, long rows about 1 of the other."""
    generator, series = np.random.default_rng(0), []
    for row in range(1500):
        steps = int(generator.integers(5, 12) if row % 2 else generator.integers(40, 60))
        series.append(generator.normal(row % 2, 1.0, steps).tolist())
    labels = [("long", "short")[row % 2] for row in range(len(series))]
    pq.write_table(pa.table({"series": series, "label": labels}), tmp_path / "train.parquet")
    (tmp_path / "space.yaml").write_text(SPACE.format(train=tmp_path / "train.parquet"))
    found: dict[str, Any] = sample_configs(load(tmp_path / "space.yaml", FAMILIES), 1, seed=0)[0]
    return found


def test_each_epoch_of_batch_normalisation_is_right_on_validation(config: dict[str, Any], tmp_path: Path) -> None:
    prepared = prepare(config["data"], seed=0, cache=tmp_path / "cache")
    training = start(config, prepared, max_epochs=4, seed=0, device=torch.device("cpu"))
    reached = [line["accuracy"] for _ in range(4) if (line := train_epoch(training))]
    assert min(reached) > 0.95, reached


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.SyncBatchNorm(2), nn.LayerNorm(2)])
def test_batch_statistics_of_any_network_are_found(layer: nn.Module) -> None:
    assert uses_batch_statistics(nn.Sequential(nn.Linear(2, 2), nn.Sequential(layer))) != isinstance(
        layer, nn.LayerNorm
    )
