"""Updating the rows of a batch alone arrives where the optimiser would have arrived with all rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from automl.data import prepare
from automl.models import FAMILIES
from automl.space import parse, sample_configs
from automl.training import row_updates
from automl.training.checkpoint import load_checkpoint, save_checkpoint
from automl.training.fit import train_epoch
from automl.training.optimization import build_optimizer
from automl.training.row_updates import RowTable
from automl.training.start import Training, start

WORDS, SIZE = 60, 4
OPTIMIZERS: dict[str, dict[str, float]] = {
    "adamw": {"learning_rate": 0.02, "weight_decay": 0.1},
    "adam": {"learning_rate": 0.02, "weight_decay": 0.0},
    "sgd": {"learning_rate": 0.3, "momentum": 0.9, "weight_decay": 0.0},
    "rmsprop": {"learning_rate": 0.01, "smoothing": 0.9, "momentum": 0.5, "weight_decay": 0.0},
    "adagrad": {"learning_rate": 0.1, "weight_decay": 0.0},
}
PLAIN = {"sgd": {**OPTIMIZERS["sgd"], "momentum": 0.0}, "rmsprop": {**OPTIMIZERS["rmsprop"], "momentum": 0.0}}


@pytest.mark.parametrize(("name", "values"), [*OPTIMIZERS.items(), *PLAIN.items()])
@settings(max_examples=3)
@given(seed=st.integers(0, 1000), settled_every=st.sampled_from([1, 7, 1000]))
def test_rows_arrive_where_the_whole_table_would(
    name: str, values: dict[str, float], seed: int, settled_every: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    whole, parts = (nn.Embedding(WORDS, SIZE, padding_idx=0, sparse=sparse) for sparse in (False, True))
    parts.load_state_dict(whole.state_dict())
    table = RowTable(parts.weight)
    optimizers = [build_optimizer({name: values}, whole), build_optimizer({name: values}, parts, tables=[table])]
    goal = torch.randn(WORDS, SIZE, generator=generator)
    for step in range(40):
        tokens = (torch.rand(2, 3, generator=generator) ** 3 * WORDS).long()  # some often, most hardly ever
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = values["learning_rate"] * (1 - step / 40)
            optimizer.zero_grad()
        table.take(tokens, optimizers[1])
        losses = [(embedding(tokens) - goal[tokens]).square().sum() for embedding in (whole, parts)]
        assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-3)
        whole.zero_grad(), parts.zero_grad()
        sum(losses).backward()  # type: ignore[union-attr]
        table.hand_over(optimizers[1])
        for optimizer in optimizers:
            optimizer.step()
        table.put_back(optimizers[1])
        if step % settled_every == 0:
            table.settle(optimizers[1])
    table.settle(optimizers[1])
    torch.testing.assert_close(parts.weight, whole.weight, rtol=2e-3, atol=2e-4)
    states = optimizers[1].state[table.rows]
    for state, value in optimizers[0].state[whole.weight].items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(states[state], value, rtol=1e-2, atol=1e-4)


@pytest.fixture
def config(small_data: Path) -> dict[str, Any]:
    text = f"""
name: x
data: {{train: {small_data}/train.jsonl, validation: {small_data}/validation.jsonl}}
model: {{cnn: {{embedding: 8, channels: 8, kernel_sizes: [2], dropout: 0.1, token_dropout: 0.1}}}}
training: {{optimizer: {{adamw: {{learning_rate: 0.02}}}}, batch_size: 8, accumulation: 2, precision: float32}}
"""
    return sample_configs(parse(text, FAMILIES), 1, seed=0)[0]


def begin(config: dict[str, Any], cache: Path, monkeypatch: pytest.MonkeyPatch, *, by_row: bool) -> Training:
    monkeypatch.setattr(row_updates, "LARGE", 0.0 if by_row else 1e9)
    prepared = prepare(config["data"], seed=0, cache=cache)
    training = start(config, prepared, max_epochs=3, seed=0, device=torch.device("cpu"))
    assert len(training.tables) == int(by_row)
    return training


def test_a_trial_by_rows_is_the_trial_and_can_be_resumed(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts, resumed = (begin(config, tmp_path, monkeypatch, by_row=by_row) for by_row in (False, True, True))
    lines = [train_epoch(whole) for _ in range(3)]
    others = []
    for epoch in range(3):
        if epoch == 2:
            save_checkpoint(parts, tmp_path / "checkpoint.pt")
        others.append(train_epoch(parts))
    for line, other in zip(lines, others, strict=True):
        assert line and other and other["train_loss"] == pytest.approx(line["train_loss"], rel=1e-3)
        assert other["loss"] == pytest.approx(line["loss"], rel=1e-3)
    load_checkpoint(resumed, tmp_path / "checkpoint.pt")
    last = train_epoch(resumed)
    assert last and others[2] and last["train_loss"] == others[2]["train_loss"] and last["loss"] == others[2]["loss"]
    for name, value in parts.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], value)


def test_averages_need_all_rows(config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_updates, "LARGE", 0.0)
    config["training"] |= {"ema": 0.9}
    prepared = prepare(config["data"], seed=0, cache=tmp_path)
    assert not start(config, prepared, max_epochs=1, seed=0, device=torch.device("cpu")).tables
