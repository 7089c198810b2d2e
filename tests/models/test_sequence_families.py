"""Every family for series over its whole default space."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from automl.models import FAMILIES, Lexicon, build, can_be_narrowed, count_parameters, lexicon_of, narrow
from automl.models.cost import estimate_cost
from automl.models.sequence_cnn import MaskedBatchNorm
from automl.space import SpaceError, parse, suggest
from automl.space.spec import tasks_of

LONGEST, CHANNELS, CLASSES = 11, 2, 4
MORE = (
    "{normalisation: {choice: [none, batch]}, pooling: {choice: [max, max_mean]}, residual: false, head: 6, blocks: 5}"
)
CASES = [(name, "{}") for name, section in FAMILIES.items() if "sequence_classification" in tasks_of(section)]
CASES.append(("sequence_cnn", MORE))
STATISTICS = Lexicon(mean=torch.tensor([0.5, -1.0]), deviation=torch.tensor([2.0, 0.3]))


def drawn(family: str, more: str, seed: int) -> dict[str, Any]:
    text = f"name: x\ntask: sequence_classification\ndata: {{train: t.parquet}}\nmodel: {{{family}: {more}}}"
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return suggest(parse(text, FAMILIES), study.ask())


def made(config: dict[str, Any]) -> torch.nn.Module:
    return build(config["model"], vocabulary=0, classes=CLASSES, lexicon=STATISTICS)


def some_series(seed: int, rows: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn((rows, LONGEST, CHANNELS), generator=generator)
    lengths = torch.randint(1, LONGEST + 1, (rows,), generator=generator)
    lengths[0] = LONGEST
    return values.masked_fill(torch.arange(LONGEST)[None, :, None] >= lengths[:, None, None], torch.nan), lengths


def test_there_are_the_families_that_are_meant() -> None:
    assert {family for family, _ in CASES} == {"sequence_cnn", "rnn", "tcn", "cnn_rnn"}


@pytest.mark.parametrize(("family", "more"), CASES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_padding_changes_nothing_and_costs_and_weights_are_right(family: str, more: str, seed: int) -> None:
    torch.manual_seed(seed)
    config = drawn(family, more, seed)
    module = made(config)
    cost = estimate_cost(config, vocabulary=0, classes=CLASSES, shape=(LONGEST, CHANNELS))
    assert cost.parameters == count_parameters(module)
    assert cost.flops > 0 and cost.activation_memory > 0
    series, lengths = some_series(seed)
    module.train()(series, lengths)  # so that running statistics are not those of the beginning
    module.eval()
    with torch.inference_mode():
        before = module(series, lengths)
        assert before.shape == (6, CLASSES) and before.isfinite().all()
        for row in range(6):
            cut = series[row : row + 1, : lengths[row]]
            torch.testing.assert_close(module(cut, lengths[row : row + 1])[0], before[row], rtol=1e-3, atol=1e-4)
    weights = load(save({name: weight.contiguous() for name, weight in module.state_dict().items()}))
    again = build(config["model"], vocabulary=0, classes=CLASSES, lexicon=lexicon_of(weights))
    again.load_state_dict(weights)
    with torch.inference_mode():
        assert torch.equal(again.eval()(series, lengths), before)


@pytest.mark.parametrize(("family", "more"), CASES)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_one_step_lowers_the_loss(family: str, more: str, seed: int) -> None:
    torch.manual_seed(seed)
    config = drawn(family, more, seed)
    config["model"][family] |= {"dropout": 0.0, "token_dropout": 0.0}
    module = made(config).train()
    series, lengths = some_series(seed)
    labels = torch.arange(6) % CLASSES
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(module(series, lengths), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    assert losses[1] < losses[0]


@pytest.mark.parametrize("family", ["rnn", "tcn", "cnn_rnn"])
def test_a_network_over_series_can_be_narrowed(family: str) -> None:
    config = drawn(family, "{}", 0)
    assert can_be_narrowed(config["model"])
    smaller, fewer = narrow(config["model"], made(config).state_dict(), 0.25)
    build(smaller, vocabulary=0, classes=CLASSES, lexicon=STATISTICS).load_state_dict(fewer)


def test_masked_batch_normalisation_is_that_of_the_real_steps() -> None:
    features, mask = torch.randn(4, 7, 3), torch.arange(7)[None, :] < torch.tensor([7, 2, 5, 1])[:, None]
    ours, theirs = MaskedBatchNorm(3).train(), torch.nn.BatchNorm1d(3).train()
    torch.testing.assert_close(ours(features, mask)[mask], theirs(features[mask]))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_series_have_no_words() -> None:
    with pytest.raises(SpaceError, match=r"model.rnn.vectors: only texts have words"):
        drawn("rnn", "{vectors: {source: v.txt}}", 0)
