"""What is said about a network's cost before it exists is what the network then costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from automl.models import FAMILIES, build, count_parameters
from automl.models.cost import estimate_cost
from automl.space import parse, sample_configs

VOCABULARY, CLASSES, LENGTH = 300, 4, 37
FILE = """\
name: x
data: {train: t.csv}
model:
  cnn: {kernel_sizes: {per: {int: [1, 3]}, int: [1, 5]}, head: {choice: [0, 16]}}
  rnn: {layers: {int: [1, 3]}, hidden: {per: layers, int: [8, 64]}}
  cnn_rnn: {stride: {choice: [1, 4]}}
training: {batch_size: {choice: [8, 16]}}
"""


def config_of(seed: int) -> dict[str, Any]:
    return sample_configs(parse(FILE, FAMILIES), 1, seed=seed)[0]


def measured(config: dict[str, Any]) -> tuple[int, float, float]:
    """Parameters, bytes kept for the backward pass of a batch, operations for one text: of the real network."""
    module = build(config["model"], vocabulary=VOCABULARY, classes=CLASSES)
    rows = config["training"]["batch_size"]
    weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}
    held = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    tokens = torch.ones(rows, LENGTH, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(tokens, torch.full((rows,), LENGTH))
    with FlopCounterMode(display=False) as counter:
        module(tokens, torch.full((rows,), LENGTH))
    return count_parameters(module), sum(kept.values()), counter.get_total_flops() / rows


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_estimate_is_what_the_network_costs(seed: int) -> None:
    config = config_of(seed)
    cost = estimate_cost(config, vocabulary=VOCABULARY, classes=CLASSES, length=LENGTH)
    parameters, kept, flops = measured(config)
    assert cost.parameters == parameters
    assert cost.bytes == 4 * parameters
    assert cost.training_memory == 16 * parameters + cost.activation_memory
    if "cnn" in config["model"]:
        assert cost.activation_memory == pytest.approx(kept, rel=0.05)
        assert cost.flops == pytest.approx(flops, rel=0.02)
    else:
        assert cost.activation_memory == pytest.approx(kept, rel=0.25)
        # PyTorch's counter does not see all fused recurrent layers, so the real figure is at least what it counts.
        assert cost.flops > flops * 0.92  # a stride rounds a text's length up


def test_recurrent_operations_are_those_of_their_matrices() -> None:
    config = config_of(0)
    settings = {**config_of(0)["model"].get("rnn", {})}
    settings |= {"embedding": 10, "token_dropout": 0.0, "dropout": 0.0, "activation": "relu", "head": 0}
    settings |= {"cell": "lstm", "layers": 2, "hidden": [20, 30], "bidirectional": False, "pooling": "last"}
    config = {**config, "model": {"rnn": settings}}
    cost = estimate_cost(config, vocabulary=VOCABULARY, classes=CLASSES, length=LENGTH)
    layers = 4 * 20 * (10 + 20) + 4 * 30 * (20 + 30)
    assert cost.flops == pytest.approx(2 * (layers * LENGTH + 30 * CLASSES), rel=0.01)


def test_weights_alone_are_counted_where_no_more_is_asked() -> None:
    config = config_of(3)
    full = estimate_cost(config, vocabulary=VOCABULARY, classes=CLASSES, length=LENGTH)
    weights = estimate_cost(config, vocabulary=VOCABULARY, classes=CLASSES, length=LENGTH, measure=False)
    assert (weights.parameters, weights.bytes) == (full.parameters, full.bytes)
    assert weights.flops == weights.activation_memory == 0 < full.flops
