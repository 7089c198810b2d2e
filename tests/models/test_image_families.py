"""Every family for images over its whole default space."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.models import FAMILIES, Lexicon, count_parameters
from automl.models.cost import estimate_cost
from automl.space.spec import tasks_of
from tests.models.backbones import torchvision_replaced
from tests.models.dense_families import drawn, from_a_file, losses_of_a_step, made

SIDE, CHANNELS, CLASSES = 9, 3, 4
MORE = "{kernel: {choice: [3, 5]}, separable: true, normalisation: {choice: [none, batch, group]}, head: 6, stages: 5}"
TASK = "image_classification"
CASES = [(name, "{}") for name, section in FAMILIES.items() if "image_classification" in tasks_of(section)]
CASES.append(("image_cnn", MORE))
STATISTICS = Lexicon(mean=torch.tensor([0.4, 0.5, 0.6]), deviation=torch.tensor([0.2, 0.3, 0.2]))


@pytest.fixture(scope="module", autouse=True)
def torchvision() -> Iterator[None]:
    with torchvision_replaced():
        yield


def images(seed: int, rows: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, SIDE, SIDE, CHANNELS)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), torch.full((rows,), SIDE)


@pytest.mark.parametrize(("family", "more"), CASES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_a_network_learns_is_saved_and_costs_what_was_estimated(family: str, more: str, seed: int) -> None:
    torch.manual_seed(seed)
    config = drawn(TASK, family, more, seed)
    module = made(config, CLASSES, STATISTICS)
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
    again = from_a_file(module, config, CLASSES)
    with torch.inference_mode():
        assert torch.equal(again(pixels, lengths), before)


@pytest.mark.parametrize(("family", "more"), CASES)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_one_step_lowers_the_loss(family: str, more: str, seed: int) -> None:
    torch.manual_seed(seed)
    module = made(drawn(TASK, family, more, seed), CLASSES, STATISTICS).train()
    pixels, lengths = images(seed)
    labels = torch.arange(6) % CLASSES
    before, after = losses_of_a_step(module, pixels, lengths, labels)
    assert after < before


@pytest.mark.parametrize(("family", "more"), [("image_cnn", "{stages: 5, normalisation: batch}"), ("pretrained", "{}")])
def test_a_batch_of_one_image_trains_where_nothing_is_left_to_normalise(family: str, more: str) -> None:
    config = drawn(TASK, family, more, 0)
    pixels, lengths = images(0, rows=1)
    assert made(config, CLASSES, STATISTICS).train()(pixels, lengths).isfinite().all()
