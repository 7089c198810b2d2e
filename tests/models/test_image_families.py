"""Every family for images over its whole default space."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from automl.models import FAMILIES, Lexicon, build, count_parameters, lexicon_of
from automl.models.cost import estimate_cost
from automl.space import parse, suggest
from automl.space.spec import tasks_of

SIDE, CHANNELS, CLASSES = 9, 3, 4
MORE = "{kernel: {choice: [3, 5]}, separable: true, normalisation: {choice: [none, batch, group]}, head: 6, stages: 5}"
CASES = [(name, "{}") for name, section in FAMILIES.items() if "image_classification" in tasks_of(section)]
CASES.append(("image_cnn", MORE))
STATISTICS = Lexicon(mean=torch.tensor([0.4, 0.5, 0.6]), deviation=torch.tensor([0.2, 0.3, 0.2]))


def drawn(family: str, more: str, seed: int) -> dict[str, Any]:
    text = f"name: x\ntask: image_classification\ndata: {{train: t.parquet}}\nmodel: {{{family}: {more}}}"
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return suggest(parse(text, FAMILIES), study.ask())


def made(config: dict[str, Any]) -> torch.nn.Module:
    return build(config["model"], vocabulary=0, classes=CLASSES, lexicon=STATISTICS)


def images(seed: int, rows: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, SIDE, SIDE, CHANNELS)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), torch.full((rows,), SIDE)


@pytest.mark.parametrize(("family", "more"), CASES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_a_network_learns_is_saved_and_costs_what_was_estimated(family: str, more: str, seed: int) -> None:
    torch.manual_seed(seed)
    config = drawn(family, more, seed)
    module = made(config)
    cost = estimate_cost(config, vocabulary=0, classes=CLASSES, shape=(SIDE, SIDE, CHANNELS))
    assert cost.parameters == count_parameters(module)
    assert cost.flops > 0 and cost.activation_memory > 0

    pixels, lengths = images(seed)
    labels = torch.arange(6) % CLASSES
    module.train()
    logits = module(pixels, lengths)
    assert logits.shape == (6, CLASSES)
    torch.nn.functional.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in module.parameters())

    module.eval()
    with torch.inference_mode():
        before = module(pixels, lengths)
        alone = torch.cat([module(pixels[row : row + 1], lengths[:1]) for row in range(6)])
    torch.testing.assert_close(before, alone, rtol=1e-3, atol=1e-4)
    weights = load(save({name: weight.contiguous() for name, weight in module.state_dict().items()}))
    again = build(config["model"], vocabulary=0, classes=CLASSES, lexicon=lexicon_of(weights))
    again.load_state_dict(weights)
    with torch.inference_mode():
        assert torch.equal(again.eval()(pixels, lengths), before)


@pytest.mark.parametrize(("family", "more"), CASES)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_one_step_lowers_the_loss(family: str, more: str, seed: int) -> None:
    torch.manual_seed(seed)
    module = made(drawn(family, more.replace("head: 6", "head: 6, dropout: 0"), seed)).train()
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    pixels, lengths = images(seed)
    labels = torch.arange(6) % CLASSES
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(module(pixels, lengths), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    assert losses[1] < losses[0]


def test_a_batch_of_one_image_trains_where_nothing_is_left_to_normalise() -> None:
    config = drawn("image_cnn", "{stages: 5, normalisation: batch}", 0)
    pixels, lengths = images(0, rows=1)
    assert made(config).train()(pixels, lengths).isfinite().all()
