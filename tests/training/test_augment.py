"""Rows changed at random before each step: what may change does, what may not does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from automl.data import prepare
from automl.data.examples import write_digits
from automl.models import FAMILIES
from automl.space import SpaceError, parse, sample_configs
from automl.training.augment import augment
from automl.training.fit import start, train_epoch

NOTHING = {"flip": 0.0, "shift": 0.0, "scale": 0.0, "noise": 0.0, "mixup": 0.0, "swap": 0.0}


def images(rows: int = 64) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(1, 256, (rows, 8, 8, 3), dtype=np.uint8))


def full(rows: torch.Tensor) -> torch.Tensor:
    return torch.full((len(rows),), rows.shape[1])


def test_nothing_asked_for_changes_nothing() -> None:
    for inputs in (images(), torch.randn(4, 5, 2), torch.ones(3, 6, dtype=torch.int64)):
        changed, lengths, mix = augment(inputs, full(inputs), NOTHING)
        assert changed is inputs and lengths.equal(full(inputs)) and mix is None


def test_a_share_of_images_is_mirrored() -> None:
    rows = images(400)
    changed, _, _ = augment(rows, full(rows), {**NOTHING, "flip": 0.3})
    mirrored = (changed == rows.flip(2)).flatten(1).all(dim=1)
    assert ((changed == rows).flatten(1).all(dim=1) | mirrored).all() and changed.dtype == torch.uint8
    assert 0.2 < mirrored.float().mean() < 0.4


def test_images_move_by_whole_pixels_over_black() -> None:
    rows = images(50)
    changed, _, _ = augment(rows, full(rows), {**NOTHING, "shift": 0.25})
    moves = set()
    for before, after in zip(rows, changed, strict=True):
        for down in range(-2, 3):
            for right in range(-2, 3):
                moved = torch.zeros_like(before)
                moved[max(0, -down) : 8 - max(0, down), max(0, -right) : 8 - max(0, right)] = before[
                    max(0, down) : 8 - max(0, -down), max(0, right) : 8 - max(0, -right)
                ]
                if moved.equal(after):
                    moves.add((down, right))
                    break
            else:
                continue
            break
        else:
            raise AssertionError("an image was changed in another way than by a shift")
    assert len(moves) > 12


def test_padding_of_series_stays_padding_and_mixing_takes_the_shorter() -> None:
    lengths = torch.tensor([3, 5, 4, 2])
    series = torch.randn(4, 5, 2).masked_fill(torch.arange(5)[None, :, None] >= lengths[:, None, None], torch.nan)
    changed, same, _ = augment(series, lengths, {**NOTHING, "noise": 0.1, "scale": 0.2})
    assert same.equal(lengths) and changed.isnan().equal(series.isnan()) and not changed.equal(series)
    torch.manual_seed(1)
    mixed, shorter, mix = augment(series, lengths, {**NOTHING, "mixup": 0.4})
    assert mix is not None and 0 <= mix.share <= 1
    assert shorter.equal(torch.minimum(lengths, lengths[mix.partner]))
    assert (~mixed[..., 0].isnan()).sum(dim=1).equal(shorter)
    torch.testing.assert_close(mixed, mix.share * series + (1 - mix.share) * series[mix.partner], equal_nan=True)


def test_tokens_trade_places_inside_their_row() -> None:
    lengths = torch.randint(1, 9, (200,), generator=torch.Generator().manual_seed(0))
    tokens = torch.arange(1, 9).expand(200, 8) * (torch.arange(8) < lengths[:, None])
    changed, _, _ = augment(tokens, lengths, {**NOTHING, "swap": 0.5})
    assert changed.sort(dim=1).values.equal(tokens.sort(dim=1).values)
    assert (changed == 0).equal(tokens == 0)
    assert ((changed - tokens).abs() <= 1).all() and not changed.equal(tokens)


def test_the_same_seed_changes_the_same() -> None:
    rows, everything = images(), {**NOTHING, "flip": 0.5, "shift": 0.2, "noise": 0.1, "scale": 0.1, "mixup": 0.2}
    found = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        found.append(augment(rows, full(rows), everything)[0])
    assert found[0].equal(found[1]) and not found[0].equal(found[2])


def test_what_is_not_for_a_task_is_refused() -> None:
    text = "name: x\ndata: {train: t.csv}\nmodel: {cnn: {}}\ntraining: {augment: {flip: 0.5, swap: 0.1}}"
    with pytest.raises(SpaceError, match=r"training.augment.flip: not for text_classification, which has swap"):
        parse(text, FAMILIES)


def test_a_trial_with_every_change_learns_and_is_the_same_twice(tmp_path: Path) -> None:
    write_digits(tmp_path)
    text = f"""
name: x
task: image_classification
data: {{train: {tmp_path}/validation.parquet, validation: {tmp_path}/test.parquet}}
model: {{image_cnn: {{width: 16, depth: 1, stages: 2, normalisation: batch}}}}
training:
  batch_size: 16
  augment: {{shift: 0.1, scale: 0.1, noise: 0.05, mixup: 0.2}}
  optimizer: {{adamw: {{learning_rate: 0.01}}}}
"""
    config = sample_configs(parse(text, FAMILIES), 1, seed=0)[0]
    prepared = prepare(config["data"], seed=0, cache=tmp_path / "cache")
    losses = []
    for _ in range(2):
        training = start(config, prepared, max_epochs=4, seed=0, device=torch.device("cpu"))
        lines = [train_epoch(training) for _ in range(4)]
        losses.append([line["train_loss"] for line in lines if line is not None])
    assert losses[0] == losses[1] and losses[0][3] < 0.8 * losses[0][0]
