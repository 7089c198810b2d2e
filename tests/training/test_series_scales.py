"""Channels of series whose numbers have nothing in common: offsets, units, none that ever changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from automl.data import DenseRows, Prepared, prepare
from automl.data.moments import IGNORED, Moments
from automl.models import FAMILIES, build
from automl.space import parse, sample_configs
from automl.space.spec import tasks_of
from automl.training.augment import augment
from automl.training.augment_series import Channels
from automl.training.dense_floor import fit_standardised
from automl.training.lexicon import make_lexicon
from tests.data.settings import SERIES, settings_for

TASK = "sequence_classification"
SERIES_FAMILIES = sorted(name for name, family in FAMILIES.items() if TASK in tasks_of(family))
OFFSETS, UNITS = (0.0, 101_325.0, -3.0, 1e9, 0.0), (1.0, 50.0, 1e-4, 1e4, 1e-9)


def prepared_of(series: Any, folder: Path, **changes: Any) -> Prepared:
    labels = ["a", "b"] * (len(series) // 2)
    pq.write_table(pa.table({"series": series, "label": labels}), folder / "t.parquet")
    return prepare(settings_for(folder / "t.parquet", SERIES, **changes), seed=0, cache=folder / "cache")


def of_many_scales(rows: int = 60) -> np.ndarray:
    made = np.random.default_rng(0).normal(size=(rows, 20, len(UNITS)))
    return made * np.array(UNITS) + np.array(OFFSETS)


def network(name: str, prepared: Prepared) -> torch.nn.Module:
    text = f"name: x\ntask: {TASK}\ndata: {{train: t}}\nmodel: {{{name}: {{}}}}\n"
    model = sample_configs(parse(text, FAMILIES), 1, seed=0)[0]["model"]
    lexicon, _ = make_lexicon(model, prepared)
    torch.manual_seed(0)
    return build(model, vocabulary=0, classes=2, lexicon=lexicon).eval()


@pytest.mark.parametrize("constant", [0.0, 5.0, 1e9, "rounding"])
@pytest.mark.parametrize("name", SERIES_FAMILIES)
def test_a_channel_that_is_constant_in_train_is_ignored(name: str, constant: Any, tmp_path: Path) -> None:
    made = np.random.default_rng(0).normal(size=(24, 10, 2))
    rounding = constant == "rounding"
    made[..., 1] = 5 + made[..., 1] * 1e-7 if rounding else constant
    prepared = prepared_of(made.astype(np.float32).tolist(), tmp_path)
    rows = prepared.rows("train")
    assert isinstance(rows, DenseRows) and prepared.profile["deviation"][1] == IGNORED
    module, lengths = network(name, prepared), torch.from_numpy(rows.lengths)
    moved = torch.from_numpy(rows.values.copy())
    with torch.no_grad():
        before = module(moved, lengths)
        for far in (1.0, 1e6, 1e30):
            moved[..., 1] += far
            torch.testing.assert_close(module(moved, lengths), before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("change", ["noise", "scale"])
def test_noise_and_scale_are_in_units_of_each_channel(change: str, tmp_path: Path) -> None:
    prepared = prepared_of(of_many_scales().tolist(), tmp_path)
    rows = prepared.rows("train")
    assert isinstance(rows, DenseRows)
    mean, deviation = torch.tensor(prepared.profile["mean"]), torch.tensor(prepared.profile["deviation"])
    series = torch.from_numpy(rows.values.copy()).double()
    channels = Channels.of_train(mean.tolist(), deviation.tolist(), len(mean))
    torch.manual_seed(0)
    changed, _, _ = augment(series, torch.from_numpy(rows.lengths), {change: 0.1}, channels)
    moved = ((changed - series) / deviation).std(dim=(0, 1))
    assert ((moved > 0.03) & (moved < 0.2)).all(), moved


@given(
    noise=st.floats(0, 1),
    scale=st.floats(0, 0.9),
    warp=st.floats(0, 0.5),
    crop=st.floats(0, 0.5),
    mixup=st.sampled_from([0.0, 0.4]),
    power=st.integers(-12, 12),
    offset=st.sampled_from([0.0, 1.0, -1e3]),
    seed=st.integers(0, 99),
)
@bounded(max_examples=30, deadline=None)
def test_what_augmentation_does_does_not_depend_on_units(
    noise: float, scale: float, warp: float, crop: float, mixup: float, power: int, offset: float, seed: int
) -> None:
    plain = torch.from_numpy(np.random.default_rng(seed).normal(size=(6, 9, 2)))
    lengths = torch.tensor([9, 4, 7, 9, 1, 5])
    plain = plain.masked_fill(torch.arange(9)[None, :, None] >= lengths[:, None, None], torch.nan)
    unit, start = 10.0**power, offset * 10.0**power
    settings = {"noise": noise, "scale": scale, "warp": warp, "crop": crop, "mixup": mixup}
    found = []
    for series, channels in (
        (plain, Channels(torch.zeros(2).double(), torch.ones(2).double())),
        (plain * unit + start, Channels(torch.full((2,), start).double(), torch.full((2,), unit).double())),
    ):
        torch.manual_seed(seed)
        found.append(augment(series, lengths, settings, channels)[:2])
    (expected, lengths_of_plain), (other, same_lengths) = found
    assert same_lengths.equal(lengths_of_plain)
    torch.testing.assert_close((other - start) / unit, expected, atol=1e-3, rtol=1e-3, equal_nan=True)


def test_what_is_ignored_or_no_number_is_not_changed() -> None:
    series = torch.randn(8, 5, 3)
    channels = Channels.of_train([0.0] * 3, [1.0, IGNORED, 1.0], numbers=2)
    changed, _, _ = augment(series, torch.full((8,), 5), {"noise": 0.5, "scale": 0.5}, channels)
    assert changed[..., 1:].equal(series[..., 1:]) and not changed[..., 0].equal(series[..., 0])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(-8, 8), st.integers(0, 99))
@bounded(max_examples=30, deadline=None)
def test_moments_are_those_of_all_parts_together(sizes: list[int], power: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    parts = [generator.normal(3, 1, (size, 2)) * 10.0**power + [0, 1e9] for size in sizes]
    moments, together = Moments(2), np.concatenate(parts)
    for part in parts:
        moments.add(part)
    if len(together) > 2:
        np.testing.assert_allclose(moments.mean, together.mean(axis=0), rtol=1e-9)
        assert moments.deviation[0] == pytest.approx(together[:, 0].std(), rel=1e-6)
        assert power < 6 or moments.deviation[1] == pytest.approx(together[:, 1].std(), rel=1e-6)


def test_the_linear_floor_ignores_what_never_changes() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(40, 3)).astype(np.float32)
    features[:, 1] = 5
    features[:, 2] = np.float32(7) + features[:, 2] * np.float32(1e-7)
    regression = LogisticRegression()
    fit_standardised(regression, features, (features[:, 0] > 0).astype(np.int64))
    assert regression.coef_[0, 0] != 0 and (regression.coef_[0, 1:] == 0).all()
