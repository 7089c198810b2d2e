"""Every family over its whole default space: padding changes nothing, steps lower the loss, weights survive a file."""

from __future__ import annotations

import copy

import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from automl.models import FAMILIES, Lexicon, build, count_parameters, lexicon_of
from automl.models.cost import estimate_cost
from automl.models.layers import Recurrence, halve
from automl.space import parse, suggest
from automl.space.spec import tasks_of

VOCABULARY, CLASSES = 50, 3


# Settings that a family's default space leaves alone and that change how its network is built.
MORE = {
    "cnn": "{pooling: {choice: [mean, attention]}, head: 5}",
    "rnn": "{layers: 2, layer_norm: true, recurrent_dropout: 0.3, pooling: {choice: [last, mean]}}",
    "cnn_rnn": "{stride: 3, pooling: max_mean}",
    "rnn_cnn": "{bidirectional: false, kernel_sizes: {choice: [[2, 5], [4]]}, head: 4}",
    "dpcnn": "{blocks: 6, kernel_size: {choice: [2, 5]}, pooling: mean}",
    "tcn": "{causal: true, pooling: {choice: [last, max_mean]}, blocks: 5}",
}
LISTS = [
    ("rnn", "{layers: {int: [1, 3]}, hidden: {per: layers, int: [8, 32]}, layer_norm: true}"),
    ("cnn", "{kernel_sizes: {per: {int: [1, 4]}, int: [1, 6]}}"),
]
TEXT_FAMILIES = [name for name, section in FAMILIES.items() if "text_classification" in tasks_of(section)]
# Words known before training: their vectors alone, or beside learned ones that are put together from n-grams.
OF_WORDS = [
    "{vectors: {source: v.txt}}",
    "{embedding: {int: [3, 9]}, vectors: {source: v.txt}, subwords: {buckets: 30}}",
]
CASES = [(family, "{}") for family in sorted(TEXT_FAMILIES)] + sorted(MORE.items()) + LISTS
CASES += [(family, of_words) for family in sorted(TEXT_FAMILIES) for of_words in OF_WORDS]
DIMENSION = 5
LEXICON = Lexicon(  # number 0, padding, has neither a vector nor n-grams
    vectors=torch.linspace(-1, 1, VOCABULARY * DIMENSION).sin().view(VOCABULARY, DIMENSION)
    * (torch.arange(VOCABULARY) > 0)[:, None],
    subwords=torch.arange(-4, VOCABULARY * 4 - 4, dtype=torch.int32).clamp(min=0).view(VOCABULARY, 4) % 31,
)


def drawn_model(family: str, seed: int, settings: str = "{}") -> dict[str, dict[str, object]]:
    text = f"name: x\ndata: {{train: t.csv}}\nmodel: {{{family}: {settings}}}"
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    model: dict[str, dict[str, object]] = suggest(parse(text, FAMILIES), study.ask())["model"]
    return model


def made(model: dict[str, dict[str, object]], lexicon: Lexicon = LEXICON) -> torch.nn.Module:
    return build(model, vocabulary=VOCABULARY, classes=CLASSES, lexicon=lexicon)


def trained_parameters(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    """All but vectors that are to stay as they are."""
    found = [parameter for parameter in module.parameters() if parameter.requires_grad]
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    assert frozen in ([], ["embedding.frozen.weight"])
    return found


def random_batch(seed: int, rows: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (rows,), generator=generator)
    tokens = torch.randint(1, VOCABULARY, (rows, 8), generator=generator)
    tokens = tokens * (torch.arange(8) < lengths[:, None])
    return tokens, lengths, torch.randint(0, CLASSES, (rows,), generator=generator)


@pytest.mark.parametrize(("family", "more"), CASES)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_padding_never_changes_an_output(family: str, more: str, seed: int) -> None:
    torch.manual_seed(seed)
    module = made(drawn_model(family, seed, more)).eval()
    tokens, lengths, _ = random_batch(seed)
    with torch.inference_mode():
        together = module(torch.nn.functional.pad(tokens, (0, 5)), lengths)
        alone = torch.cat(
            [module(tokens[row : row + 1, :size], lengths[row : row + 1]) for row, size in enumerate(lengths)]
        )
    assert together.shape == (len(lengths), CLASSES)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("family", "more"), CASES)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_steps_lower_the_loss_on_a_tiny_batch(family: str, more: str, seed: int) -> None:
    torch.manual_seed(seed)
    module = made(drawn_model(family, seed, more)).eval()  # no dropout
    tokens, lengths, labels = random_batch(seed)
    optimizer = torch.optim.AdamW(trained_parameters(module), lr=1e-3)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(module(tokens, lengths), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert min(losses[1:5]) < losses[0]  # a deep network may overshoot later at a rate that is not its own
    assert all(parameter.grad is not None for parameter in trained_parameters(module))


@pytest.mark.parametrize(("family", "more"), CASES)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_a_small_step_along_the_gradient_lowers_the_loss(family: str, more: str, seed: int) -> None:
    """In double precision by what the gradient promises, to first order: no gradient is wrong or forgotten."""
    torch.manual_seed(seed)
    module = made(drawn_model(family, seed, more)).double().eval()
    tokens, lengths, labels = random_batch(seed)
    before = torch.nn.functional.cross_entropy(module(tokens, lengths), labels)
    before.backward()
    gradients = [parameter.grad for parameter in trained_parameters(module)]
    promised = sum(float(gradient.square().sum()) for gradient in gradients if gradient is not None)
    rate = 1e-7
    with torch.no_grad():
        for parameter in trained_parameters(module):
            parameter -= rate * parameter.grad
        after = torch.nn.functional.cross_entropy(module(tokens, lengths), labels)
    assert (before - after).item() == pytest.approx(rate * promised, rel=0.01)


@pytest.mark.parametrize(("family", "more"), CASES)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_weights_survive_a_file_and_are_as_many_as_estimated(family: str, more: str, seed: int) -> None:
    model = drawn_model(family, seed, more)
    module = made(model).eval()
    weights = load(save({name: value.contiguous() for name, value in module.state_dict().items()}))
    other = made(model, lexicon_of(weights)).eval()
    other.load_state_dict(weights)
    tokens, lengths, _ = random_batch(2)
    with torch.inference_mode():
        assert torch.equal(module(tokens, lengths), other(tokens, lengths))
    assert count_parameters(module) == sum(parameter.numel() for parameter in trained_parameters(module))
    config = {"model": model, "training": {"optimizer": {"adamw": {}}, "ema": None, "batch_size": 4}}
    cost = estimate_cost(config, vocabulary=VOCABULARY, classes=CLASSES, length=20, dimension=DIMENSION)
    assert count_parameters(module) == cost.parameters and cost.flops > 0 and cost.activation_memory > 0


@pytest.mark.parametrize(("family", "more"), CASES)
def test_every_dropout_is_for_training_and_an_average_can_be_copied(family: str, more: str) -> None:
    module = made(drawn_model(family, 3, more)).train()
    tokens, lengths, labels = random_batch(3)
    torch.nn.functional.cross_entropy(module(tokens, lengths), labels).backward()
    assert all(parameter.grad is not None for parameter in trained_parameters(module))
    module.eval()
    copied = copy.deepcopy(module)
    assert torch.equal(module(tokens, lengths), copied(tokens, lengths))


def test_recurrent_dropout_drops_weights_between_states_only() -> None:
    """Of an LSTM over one token, whose first state is zero, no output can depend on them."""
    recurrence = Recurrence("lstm", 3, 4, 1, True, 0.0, recurrent_dropout=0.5).train()
    inputs, lengths = torch.randn(2, 5, 3), torch.tensor([5, 3])
    assert torch.equal(recurrence(inputs[:, :1], lengths.clamp(max=1)), recurrence(inputs[:, :1], lengths.clamp(max=1)))
    first, second = recurrence(inputs, lengths), recurrence(inputs, lengths)
    assert torch.equal(first[:, 0, :4], second[:, 0, :4]) and not torch.equal(first[:, 1], second[:, 1])
    assert not torch.equal(recurrence.eval()(inputs, lengths), second)


@given(st.integers(1, 9), st.integers(0, 4), st.integers(0, 1000))
def test_halving_takes_the_maximum_around_every_second_position(length: int, more: int, seed: int) -> None:
    features = torch.randn(1, length + more, 2, generator=torch.Generator().manual_seed(seed))
    found, lengths = halve(features, torch.tensor([length]))
    expected = [features[0, max(0, place - 1) : min(length, place + 2)].amax(0) for place in range(0, length, 2)]
    assert int(lengths) == len(expected)
    assert torch.equal(found[0, : len(expected)], torch.stack(expected)) and not found[0, len(expected) :].any()


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
