"""Structured pruning: features whose weights are all zero can go without changing a single answer."""

from __future__ import annotations

import pytest
import torch

from automl.models import build, can_be_narrowed, narrow
from automl.models.pruning import _axes, _sizes
from tests.models.test_families import CLASSES, TEXT_FAMILIES, VOCABULARY, drawn_model, random_batch

PLAIN = {"tcn": "layer_norm: false", "rnn": "layer_norm: false, recurrent_dropout: 0"}
CASES = [
    ("cnn", "kernel_sizes: [1, 3, 4], pooling: max_mean, head: 6"),
    ("cnn", "pooling: attention, head: 0"),
    ("rnn", "cell: lstm, layers: 2, bidirectional: true, pooling: last"),
    ("rnn", "cell: gru, layers: 2, hidden: [12, 20], bidirectional: false, pooling: max_mean"),
    ("cnn_rnn", "cell: gru, bidirectional: true, stride: 2, pooling: attention, kernel_sizes: [2, 3]"),
    ("rnn_cnn", "cell: lstm, bidirectional: true, kernel_sizes: [2, 3]"),
    ("dpcnn", "blocks: 3"),
    ("tcn", "embedding: 24, channels: 24, pooling: last"),
    ("tcn", "embedding: 16, channels: 24, pooling: max"),
]


@pytest.mark.parametrize("keep", [0.5, 0.3])
@pytest.mark.parametrize(("family", "more"), CASES)
def test_features_without_weights_go_unnoticed(family: str, more: str, keep: float) -> None:
    torch.manual_seed(0)
    more = ", ".join(part for part in (more, PLAIN.get(family)) if part)
    if "embedding" not in more:
        more += ", embedding: 20"
    model = drawn_model(family, 1, f"{{{more}}}")
    module = build(model, vocabulary=VOCABULARY, classes=CLASSES).eval()
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    settings = model[family]
    sizes = _sizes(settings)
    left = {group: torch.randperm(size)[: max(4, round(size * keep)) - (keep < 0.5)] for group, size in sizes.items()}
    for name, axes in _axes(family, settings).items():
        for dimension, axis in enumerate(axes):
            if axis is None or name not in weights:
                continue
            alive = torch.cat([torch.isin(torch.arange(sizes[group]), left[group]) for group in axis])
            shape = [1] * weights[name].ndim
            shape[dimension] = -1
            weights[name] *= alive.reshape(shape)
    module.load_state_dict(weights)
    smaller, fewer = narrow(model, weights, keep)
    narrowed = build(smaller, vocabulary=VOCABULARY, classes=CLASSES).eval()
    narrowed.load_state_dict(fewer)
    tokens, lengths, _ = random_batch(3)
    with torch.inference_mode():
        torch.testing.assert_close(narrowed(tokens, lengths), module(tokens, lengths), atol=1e-5, rtol=1e-4)
    assert sum(map(torch.numel, fewer.values())) < (keep + 0.15) * sum(map(torch.numel, weights.values()))


@pytest.mark.parametrize("family", sorted(TEXT_FAMILIES))
@pytest.mark.parametrize("seed", range(6))
def test_any_network_of_a_family_can_be_narrowed(family: str, seed: int) -> None:
    model = drawn_model(family, seed)
    assert can_be_narrowed(model)
    module = build(model, vocabulary=VOCABULARY, classes=CLASSES)
    smaller, fewer = narrow(model, module.state_dict(), 0.25)
    build(smaller, vocabulary=VOCABULARY, classes=CLASSES).load_state_dict(fewer)
    assert narrow(model, module.state_dict(), 1.0)[0] == model
