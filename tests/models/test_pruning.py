"""Structured pruning: features whose weights are all zero can go without changing a single answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automl.models import Lexicon, build, can_be_narrowed, lexicon_of, narrow
from automl.models.pruning import _axes, _sizes, _wanted
from automl.training.packed_weights import pack, unpack
from tests.models.dense_families import drawn
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
    sizes = _sizes(family, settings)
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


GENERAL = torch.Generator().manual_seed(5)
PIXELS = torch.randint(0, 256, (5, 9, 9, 3), dtype=torch.uint8, generator=GENERAL)
LENGTHS = torch.tensor([7, 1, 4, 7, 2])
STEPS = torch.randn(5, 7, 3, generator=GENERAL).masked_fill(
    (torch.arange(7)[None, :] >= LENGTHS[:, None])[..., None], float("nan")
)
STATISTICS = Lexicon(mean=torch.full((3,), 0.2), deviation=torch.full((3,), 0.7))
DENSE = [
    ("image_cnn", "width: 16, depth: 2, stages: 2, residual: true, normalisation: batch, separable: true"),
    ("image_cnn", "width: 16, depth: 1, stages: 3, residual: false, normalisation: none, squeeze_excitation: false"),
    ("image_cnn", "width: 12, depth: 2, stages: 2, residual: true, normalisation: none, separable: false, head: 8"),
    ("sequence_cnn", "channels: 12, kernel_sizes: [3, 5], blocks: 2, residual: true, normalisation: batch"),
    (
        "sequence_cnn",
        "channels: 12, kernel_sizes: [3], blocks: 3, residual: false, normalisation: none, pooling: max_mean",
    ),
    (
        "sequence_cnn",
        "channels: 8, kernel_sizes: [1, 3], blocks: 2, residual: true, normalisation: none, pooling: attention",
    ),
    ("rnn", "cell: gru, layers: 2, bidirectional: true, layer_norm: false, embedding: 12, hidden: 12, pooling: last"),
    ("tcn", "blocks: 2, layer_norm: false, embedding: 12, channels: 12"),
    ("cnn_rnn", "channels: 12, kernel_sizes: [2, 3], hidden: 12, cell: lstm, embedding: 12"),
]


def dense_model(family: str, more: str, seed: int) -> tuple[dict[str, Any], nn.Module, tuple[Tensor, Tensor]]:
    task = "image_classification" if family == "image_cnn" else "sequence_classification"
    model = drawn(task, family, f"{{{more}}}", seed)["model"]
    torch.manual_seed(seed)
    module = build(model, vocabulary=0, classes=CLASSES, lexicon=STATISTICS)
    given = (PIXELS, torch.full((5,), 9)) if family == "image_cnn" else (STEPS, LENGTHS)
    return model, module, given


@pytest.mark.parametrize(("family", "more"), DENSE)
def test_features_of_images_and_series_without_weights_go_unnoticed(family: str, more: str) -> None:
    model, module, given = dense_model(family, more, 1)
    module.train()
    with torch.no_grad():
        module(*given)  # statistics of batches that are not those at the beginning
    module.eval()
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    sizes = _sizes(family, model[family])
    wanted = _wanted(family, model[family], sizes, 0.5)
    left = {group: torch.randperm(size)[: wanted[group]] for group, size in sizes.items()}
    for name, axes in _axes(family, model[family]).items():
        for dimension, axis in enumerate(axes):
            if axis is None or name not in weights or "running_" in name:
                continue
            alive = torch.cat([torch.isin(torch.arange(sizes[group]), left[group]) for group in axis])
            shape = [1] * weights[name].ndim
            shape[dimension] = -1
            weights[name] *= alive.reshape(shape)
    module.load_state_dict(weights)
    smaller, fewer = narrow(model, weights, 0.5)
    narrowed = build(smaller, vocabulary=0, classes=CLASSES, lexicon=lexicon_of(fewer)).eval()
    narrowed.load_state_dict(fewer)
    with torch.inference_mode():
        torch.testing.assert_close(narrowed(*given), module(*given), atol=1e-5, rtol=1e-4)
    assert sum(map(torch.numel, fewer.values())) < 0.65 * sum(map(torch.numel, weights.values()))


@pytest.mark.parametrize("family", ["image_cnn", "sequence_cnn", "rnn", "tcn", "cnn_rnn"])
@pytest.mark.parametrize("seed", range(4))
def test_any_network_for_images_or_series_can_be_narrowed(family: str, seed: int) -> None:
    model, module, given = dense_model(family, "", seed)
    assert can_be_narrowed(model)
    left: tuple[Mapping[str, Any], Mapping[str, Tensor]] = (model, module.state_dict())
    for _ in range(2):
        left = narrow(*left, 0.5)
        narrowed = build(left[0], vocabulary=0, classes=CLASSES, lexicon=lexicon_of(left[1])).eval()
        narrowed.load_state_dict(dict(left[1]))
        unpacked = unpack(pack(narrowed.state_dict()))
        narrowed.load_state_dict(unpacked)
        assert narrowed(*given).isfinite().all()
    assert narrow(model, module.state_dict(), 1.0)[0] == model


@pytest.mark.parametrize(("channels", "width"), [(3, 3), (6, 3), (3, 6)])
def test_a_first_block_may_add_its_input_as_it_is_before_or_after(channels: int, width: int) -> None:
    statistics = Lexicon(mean=torch.zeros(channels), deviation=torch.ones(channels))
    more = f"channels: {width}, kernel_sizes: [1, 3], residual: true, normalisation: none, blocks: 2"
    model = drawn("sequence_classification", "sequence_cnn", f"{{{more}}}", 0)["model"]
    module = build(model, vocabulary=0, classes=CLASSES, lexicon=statistics).eval()
    smaller, fewer = narrow(model, module.state_dict(), 0.5)
    narrowed = build(smaller, vocabulary=0, classes=CLASSES, lexicon=lexicon_of(fewer)).eval()
    narrowed.load_state_dict(fewer)
    if smaller == model:
        torch.testing.assert_close(narrowed(*_random(channels)), module(*_random(channels)))


def _random(channels: int) -> tuple[Tensor, Tensor]:
    return torch.randn(2, 4, channels, generator=torch.Generator().manual_seed(0)), torch.tensor([4, 4])
