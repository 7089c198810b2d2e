"""A resumed trial equals the uninterrupted one step for step, whatever it trains and however."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from automl.data import Prepared, prepare
from automl.models import FAMILIES, count_parameters
from automl.search.feasibility import Costs
from automl.space import parse, sample_configs
from automl.space.spec import tasks_of
from automl.training.checkpoint import load_checkpoint, save_checkpoint
from automl.training.fit import train_epoch
from automl.training.start import Training, start
from tests.conftest import make_texts
from tests.models.backbones import torchvision_replaced

CPU = torch.device("cpu")
ROWS, EPOCHS = 42, 3
SMALL = {"embedding": 8, "channels": 8, "hidden": 8, "width": 8, "recurrent_dropout": "{choice: [0.0, 0.2]}"}
AUGMENT = {
    "text_classification": "swap: 0.2, mixup: {choice: [0.0, 0.3]}",
    "image_classification": "flip: 0.5, shift: 0.2, mixup: {choice: [0.0, 0.3]}, cutmix: {choice: [0.0, 0.3]}",
    "sequence_classification": "noise: 0.1, warp: 0.2, crop: 0.2, mixup: {choice: [0.0, 0.3]}",
}
CASES = [(task, family) for family, section in FAMILIES.items() for task in tasks_of(section)]
SPACE = """
name: x
task: {task}
data: {{train: {folder}/{task}.parquet, validation: 0.2}}
model: {{{family}: {{{settings}}}}}
training:
  optimizer: {{adamw: {{}}, sgd: {{}}, adam: {{}}, rmsprop: {{momentum: {{choice: [0.0, 0.5]}}}}, adagrad: {{}}}}
  schedule: {{constant: {{}}, linear: {{}}, cosine: {{}}, one_cycle: {{}}, plateau: {{patience: 0}}}}
  ema: {{choice: [null, 0.9]}}
  accumulation: {{choice: [1, 3]}}
  batch_size: {{choice: [4, 16]}}         # with 4 the rows of a table of words are updated alone
  rows_per_epoch: {rows_per_epoch}
  augment: {augment}
"""


@pytest.fixture(scope="module", autouse=True)
def torchvision() -> Iterator[None]:
    with torchvision_replaced():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    labels = [("no", "yes", "maybe")[number % 3] for number in range(ROWS)]
    inputs = {
        "text": [f"{row['text']} a{number} b{number} c{number}" for number, row in enumerate(make_texts(ROWS, 0))],
        "image": generator.integers(0, 256, (ROWS, 9, 9, 3)).tolist(),
        "series": [generator.normal(size=(generator.integers(5, 12), 2)).tolist() for _ in range(ROWS)],
    }
    tasks = ("text_classification", "image_classification", "sequence_classification")
    for task, (column, values) in zip(tasks, inputs.items(), strict=True):
        pq.write_table(pa.table({column: values, "label": labels}), found / f"{task}.parquet")
    return found


def drawn(folder: Path, task: str, family: str, seed: int) -> tuple[dict[str, Any], Prepared]:
    """A configuration at random: of the family's default space but for sizes, and of most ways to train."""
    settings = ", ".join(f"{name}: {value}" for name, value in SMALL.items() if name in FAMILIES[family].model_fields)
    augment = f"{{{AUGMENT[task]}}}" if seed % 2 else "null"
    rows_per_epoch = "30" if seed % 3 == 1 else "null"
    space = SPACE.format_map(locals())
    config = sample_configs(parse(space, FAMILIES), 1, seed=seed)[0]
    return config, prepare(config["data"], seed=0, cache=folder / "cache")


def begin(config: dict[str, Any], prepared: Prepared) -> Training:
    return start(config, prepared, max_epochs=EPOCHS, seed=3, device=CPU)


def figures(training: Training) -> dict[str, Any]:
    line = train_epoch(training)
    assert line is not None
    return {name: value for name, value in line.items() if name not in ("seconds", "started")}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("task", "family"), CASES)
def test_a_resumed_trial_equals_the_uninterrupted_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, family: str, seed: int
) -> None:
    monkeypatch.setattr("automl.training.inference._cpu_computes_bfloat16", lambda: seed % 3 == 0)
    config, prepared = drawn(folder, task, family, seed)
    whole, lines = begin(config, prepared), []
    for epoch in range(EPOCHS):
        if epoch == 1:
            save_checkpoint(whole, tmp_path / "checkpoint.pt")
        lines.append(figures(whole))
    resumed = begin(config, prepared)
    load_checkpoint(resumed, tmp_path / "checkpoint.pt")
    assert [figures(resumed) for _ in lines[1:]] == lines[1:]
    for ours, theirs in ((resumed.module, whole.module), (resumed.measured, whole.measured)):
        for name, value in theirs.state_dict().items():
            assert torch.equal(value, ours.state_dict()[name]), name
    assert lines[0] != lines[1] and np.isfinite([line["loss"] for line in lines]).all()


@pytest.mark.parametrize(("task", "family"), CASES)
def test_a_trial_has_the_parameters_that_were_estimated_for_its_data(folder: Path, task: str, family: str) -> None:
    config, prepared = drawn(folder, task, family, 0)
    cost = Costs(prepared, config["data"]).of(config)
    assert cost.parameters == count_parameters(begin(config, prepared).module)
