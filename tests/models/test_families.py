"""Every family over its whole default space: padding changes nothing, steps lower the loss, weights survive a file."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from automl.models import FAMILIES, build, count_parameters
from automl.space import parse, suggest

VOCABULARY, CLASSES = 50, 3


LISTS = {
    "rnn": "layers: {int: [1, 3]}, hidden: {per: layers, int: [8, 32]}",
    "cnn": "kernel_sizes: {per: {int: [1, 4]}, int: [1, 6]}",
}


def drawn_model(family: str, seed: int) -> dict[str, dict[str, object]]:
    lists = LISTS.get(family, "") if seed % 2 else ""
    text = f"name: x\ndata: {{train: t.csv}}\nmodel: {{{family}: {{{lists}}}}}"
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    model: dict[str, dict[str, object]] = suggest(parse(text, FAMILIES), study.ask())["model"]
    return model


def random_batch(seed: int, rows: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (rows,), generator=generator)
    tokens = torch.randint(1, VOCABULARY, (rows, 8), generator=generator)
    tokens = tokens * (torch.arange(8) < lengths[:, None])
    return tokens, lengths, torch.randint(0, CLASSES, (rows,), generator=generator)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_padding_never_changes_an_output(family: str, seed: int) -> None:
    torch.manual_seed(seed)
    module = build(drawn_model(family, seed), vocabulary=VOCABULARY, classes=CLASSES).eval()
    tokens, lengths, _ = random_batch(seed)
    with torch.inference_mode():
        together = module(torch.nn.functional.pad(tokens, (0, 5)), lengths)
        alone = torch.cat(
            [module(tokens[row : row + 1, :size], lengths[row : row + 1]) for row, size in enumerate(lengths)]
        )
    assert together.shape == (len(lengths), CLASSES)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_steps_lower_the_loss_on_a_tiny_batch(family: str, seed: int) -> None:
    torch.manual_seed(seed)
    module = build(drawn_model(family, seed), vocabulary=VOCABULARY, classes=CLASSES).eval()  # no dropout
    tokens, lengths, labels = random_batch(seed)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(module(tokens, lengths), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_weights_survive_a_file(family: str, tmp_path: Path) -> None:
    model = drawn_model(family, 1)
    module = build(model, vocabulary=VOCABULARY, classes=CLASSES).eval()
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, tmp_path / "w")
    other = build(model, vocabulary=VOCABULARY, classes=CLASSES).eval()
    other.load_state_dict(load_file(tmp_path / "w"))
    tokens, lengths, _ = random_batch(2)
    with torch.inference_mode():
        assert torch.equal(module(tokens, lengths), other(tokens, lengths))
    assert count_parameters(module) == sum(value.numel() for value in module.state_dict().values())


def test_dropout_is_for_training_only() -> None:
    module = build(
        {"rnn": {**drawn_model("rnn", 3)["rnn"], "dropout": 0.5, "token_dropout": 0.5}},
        vocabulary=VOCABULARY,
        classes=CLASSES,
    )
    tokens, lengths, _ = random_batch(3)
    module.train()
    assert not torch.equal(module(tokens, lengths), module(tokens, lengths))
    module.eval()
    assert torch.equal(module(tokens, lengths), module(tokens, lengths))
