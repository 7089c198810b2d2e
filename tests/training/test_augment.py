"""Rows changed at random before each step: what may change does, what may not does not."""

from __future__ import annotations

from math import nan
from pathlib import Path

import numpy as np
import pytest
import torch

from automl.data import prepare
from automl.data.examples import write_digits
from automl.models import FAMILIES, build
from automl.space import SpaceError, UserError, parse, sample_configs
from automl.space.training_section import AUGMENTS
from automl.training.augment import augment, mixing_vectors
from automl.training.beforehand import check_files
from automl.training.fit import train_epoch
from automl.training.start import start

NOTHING = dict.fromkeys({setting for settings in AUGMENTS.values() for setting in settings}, 0.0)


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


def series(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row's number rises by one a step, from 0 and, of the second channel, from 100."""
    lengths = torch.randint(1, 30, (50,), generator=torch.Generator().manual_seed(seed))
    steps = torch.arange(30.0)[None, :, None] + torch.tensor([0.0, 100.0])
    return steps.repeat(50, 1, 1).masked_fill(torch.arange(30)[None, :, None] >= lengths[:, None, None], nan), lengths


@pytest.mark.parametrize("kind", ["text", "image", "series"])
def test_the_same_seed_changes_the_same(kind: str) -> None:
    inputs = {"text": torch.randint(1, 90, (20, 8)), "image": images(), "series": series()[0]}[kind]
    everything = dict.fromkeys(AUGMENTS[f"{kind.replace('series', 'sequence')}_classification"], 0.3)
    found = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        changed, lengths, mix = augment(inputs, full(inputs), {**NOTHING, **everything})
        assert mix is not None
        found.append((changed.nan_to_num(), lengths, mix.partner, torch.tensor(mix.share)))
    same, other = ([torch.equal(*pair) for pair in zip(found[0], each, strict=True)] for each in found[1:])
    assert all(same) and not all(other)


def test_a_box_of_the_partner_is_pasted_and_the_share_is_its_area() -> None:
    rows = torch.arange(1, 33, dtype=torch.uint8)[:, None, None, None].expand(32, 8, 6, 3)  # an image has one number
    shares = set()
    for seed in range(30):
        torch.manual_seed(seed)
        changed, _, mix = augment(rows, full(rows), {**NOTHING, "cutmix": 1.0})
        assert mix is not None and changed.dtype == torch.uint8
        own = changed == rows
        assert torch.where(own, rows, rows[mix.partner]).equal(changed)
        moved = mix.partner != torch.arange(32)
        assert own[moved].float().mean(dim=(1, 2, 3)).numpy() == pytest.approx(mix.share)
        places = (~own[moved][0, :, :, 0]).nonzero()
        if len(places):  # what is pasted is a box
            extent = places.amax(dim=0) - places.amin(dim=0) + 1
            assert len(places) == int(extent.prod())
        shares.add(round(mix.share, 2))
    assert len(shares) > 8 and min(shares) < 0.5 < max(shares)


def test_colours_change_and_places_stay() -> None:
    rows = images(32)
    torch.manual_seed(0)
    changed, _, _ = augment(rows, full(rows), {**NOTHING, "colour": 0.4})
    assert changed.shape == rows.shape and changed.min() >= 0 and changed.max() <= 255
    brightness = changed.mean(dim=(1, 2, 3)) / rows.float().mean(dim=(1, 2, 3))
    assert 0.5 < brightness.min() < 0.9 and 1.05 < brightness.max() < 1.5  # each image for itself
    grey = torch.stack(
        [
            torch.corrcoef(torch.stack([a.float().mean(2).flatten(), b.float().mean(2).flatten()]))[0, 1]
            for a, b in zip(rows, changed, strict=True)
        ]
    )
    assert grey.min() > 0.9
    slightly, _, _ = augment(rows, full(rows), {**NOTHING, "colour": 0.01})
    assert (slightly - rows).abs().max() < 10


@pytest.mark.parametrize("channels", [1, 3])
def test_rand_augment_changes_more_at_a_greater_magnitude(channels: int) -> None:
    rows = images(16)[..., :channels]
    moved = []
    for magnitude in (0.1, 0.9):
        differences = []
        for seed in range(12):
            torch.manual_seed(seed)
            changed, _, _ = augment(rows, full(rows), {**NOTHING, "rand_augment": magnitude})
            assert changed.shape == rows.shape and changed.isfinite().all() and changed.max() <= 255.001
            differences.append((changed - rows).abs().mean())
        moved.append(float(torch.stack(differences).mean()))
    assert 0 < moved[0] < moved[1]


def test_a_warped_series_runs_from_end_to_end_at_another_pace() -> None:
    rows, lengths = series()
    changed, same, _ = augment(rows, lengths, {**NOTHING, "warp": 0.5})
    assert same.equal(lengths) and changed.isnan().equal(rows.isnan())
    for row, length in zip(changed, lengths.tolist(), strict=True):
        places = row[:length, 0]  # a row's number is its place
        torch.testing.assert_close(row[:length, 1], places + 100)
        assert places[0] == 0 and places[-1].item() == pytest.approx(length - 1, abs=1e-4)
        pace = places.diff()
        assert (pace >= 0.5 / 1.5 - 1e-4).all() and (pace <= 1.5 / 0.5 + 1e-4).all()
    long = changed[lengths > 20, :20, 0]
    assert (long - torch.arange(20.0)).abs().max() > 1


def test_a_cropped_series_is_a_part_of_it() -> None:
    rows, lengths = series()
    changed, shorter, _ = augment(rows, lengths, {**NOTHING, "crop": 0.4})
    starts = set()
    for row, before, after in zip(changed, lengths.tolist(), shorter.tolist(), strict=True):
        assert 0.6 * before <= after <= before and row[after:].isnan().all()
        start = row[0, 0]
        torch.testing.assert_close(row[:after, 0], start + torch.arange(float(after)))
        assert start + after <= before
        starts.add(float(start))
    assert len(starts) > 4


@pytest.mark.parametrize("family", ["cnn", "rnn"])
def test_mixed_texts_have_the_vectors_of_both_and_their_labels_by_share(family: str) -> None:
    text = f"name: x\ndata: {{train: t.csv}}\nmodel: {{{family}: {{dropout: 0, token_dropout: 0}}}}"
    module = build(sample_configs(parse(text, FAMILIES), 1, seed=0)[0]["model"], vocabulary=50, classes=3)
    lengths = torch.tensor([4, 2, 6, 3])
    tokens = torch.randint(1, 50, (4, 6)) * (torch.arange(6) < lengths[:, None])
    torch.manual_seed(5)
    same, longer, mix = augment(tokens, lengths, {**NOTHING, "mixup": 0.5})
    assert mix is not None and same.equal(tokens) and longer.equal(torch.maximum(lengths, lengths[mix.partner]))
    seen: list[torch.Tensor] = []
    layer = module.get_submodule("embedding")
    with mixing_vectors(module, mix):
        handle = layer.register_forward_hook(lambda layer, inputs, vectors: seen.append(vectors))
        mixed = module(tokens, longer)
        handle.remove()
    vectors = layer(tokens)
    torch.testing.assert_close(seen[0], mix.share * vectors + (1 - mix.share) * vectors[mix.partner])
    assert not torch.allclose(mixed, module(tokens, longer))  # and outside nothing is mixed
    own, partners = torch.tensor(2.0), torch.tensor(10.0)
    assert float(mix.loss(own, partners)) == pytest.approx(mix.share * 2 + (1 - mix.share) * 10)


def test_the_vectors_of_a_users_own_network_cannot_be_mixed(tmp_path: Path) -> None:
    text = "name: x\ndata: {train: t.csv}\nmodel: {'some:net': {}}\ntraining: {augment: {mixup: {choice: [0, 0.2]}}}"
    with pytest.raises(SpaceError, match=r"augment.mixup: not for some:net, whose vectors of words are not known"):
        parse(text, {**FAMILIES, "some:net": FAMILIES["cnn"]})


def test_a_missing_library_is_named_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
name: x
task: image_classification
data: {train: t.parquet}
model: {image_cnn: {}}
training: {augment: {colour: {float: [0, 0.4]}}}
"""
    check_files(parse(text, FAMILIES))
    monkeypatch.setattr("automl.training.augment_images.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"training.augment.colour needs: pip install 'automl\[augment\]'"):
        check_files(parse(text, FAMILIES))


def test_what_is_not_for_a_task_is_refused() -> None:
    text = "name: x\ndata: {train: t.csv}\nmodel: {cnn: {}}\ntraining: {augment: {flip: 0.5, swap: 0.1}}"
    with pytest.raises(SpaceError, match=r"training.augment.flip: not for text_classification, which has swap, mixup"):
        parse(text, FAMILIES)


def test_a_trial_with_changes_learns_and_is_the_same_twice(tmp_path: Path) -> None:
    write_digits(tmp_path)
    text = f"""
name: x
task: image_classification
data: {{train: {tmp_path}/validation.parquet, validation: {tmp_path}/test.parquet}}
model: {{image_cnn: {{width: 16, depth: 1, stages: 2, normalisation: batch}}}}
training:
  batch_size: 16
  augment: {{shift: 0.1, scale: 0.1, noise: 0.05, colour: 0.1, mixup: 0.2}}
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
