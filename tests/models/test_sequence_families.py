"""Every family for series over its whole default space."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.models import FAMILIES, Lexicon, build, can_be_narrowed, count_parameters, narrow
from automl.models.cost import estimate_cost
from automl.models.sequence_cnn import MaskedBatchNorm
from automl.space import SpaceError
from automl.space.spec import tasks_of
from tests.models.dense_families import drawn, from_a_file, losses_of_a_step, made

LONGEST, CHANNELS, CLASSES = 11, 2, 4
MORE = (
    "{normalisation: {choice: [none, batch]}, pooling: {choice: [max, max_mean]}, residual: false, head: 6, blocks: 5}"
)
TASK = "sequence_classification"
CASES = [(name, "{}") for name, section in FAMILIES.items() if "sequence_classification" in tasks_of(section)]
CASES.append(("sequence_cnn", MORE))
CASES += [
    ("rnn", "{layers: 2, layer_norm: true, pooling: {choice: [last, mean]}}"),
    ("tcn", "{causal: true, pooling: {choice: [last, max_mean]}, blocks: 5}"),
    ("cnn_rnn", "{stride: 3, pooling: max_mean, head: 5}"),
]
STATISTICS = Lexicon(mean=torch.tensor([0.5, -1.0]), deviation=torch.tensor([2.0, 0.3]))


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
    config = drawn(TASK, family, more, seed)
    module = made(config, CLASSES, STATISTICS)
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
    again = from_a_file(module, config, CLASSES)
    with torch.inference_mode():
        assert torch.equal(again(series, lengths), before)


@pytest.mark.parametrize(("family", "more"), CASES)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_one_step_lowers_the_loss(family: str, more: str, seed: int) -> None:
    torch.manual_seed(seed)
    config = drawn(TASK, family, more, seed)
    config["model"][family] |= {"dropout": 0.0, "token_dropout": 0.0}
    module = made(config, CLASSES, STATISTICS).train()
    series, lengths = some_series(seed)
    labels = torch.arange(6) % CLASSES
    before, after = losses_of_a_step(module, series, lengths, labels)
    assert after < before


@pytest.mark.parametrize("family", ["rnn", "tcn", "cnn_rnn"])
def test_a_network_over_series_can_be_narrowed(family: str) -> None:
    config = drawn(TASK, family, "{}", 0)
    assert can_be_narrowed(config["model"])
    smaller, fewer = narrow(config["model"], made(config, CLASSES, STATISTICS).state_dict(), 0.25)
    build(smaller, vocabulary=0, classes=CLASSES, lexicon=STATISTICS).load_state_dict(fewer)


def test_masked_batch_normalisation_is_that_of_the_real_steps() -> None:
    features, mask = torch.randn(4, 7, 3), torch.arange(7)[None, :] < torch.tensor([7, 2, 5, 1])[:, None]
    ours, theirs = MaskedBatchNorm(3).train(), torch.nn.BatchNorm1d(3).train()
    torch.testing.assert_close(ours(features, mask)[mask], theirs(features[mask]))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_series_have_no_words() -> None:
    with pytest.raises(SpaceError, match=r"model.rnn.vectors: only texts have words"):
        drawn(TASK, "rnn", "{vectors: {source: v.txt}}", 0)
