"""Changes of series in time: float32 [B, L, C], NaN after their `lengths` int64 [B]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from automl.data.moments import IGNORED

KNOTS = 5  # places between which a series runs at one pace


@dataclass(frozen=True)
class Channels:
    """Of each channel the mean and the deviation in train, float32 [C]; a deviation of 0 where noise has no place."""

    mean: Tensor
    deviation: Tensor

    @staticmethod
    def of_train(mean: Sequence[float], deviation: Sequence[float], numbers: int) -> Channels:
        """From a profile; only the first `numbers` channels are numbers, the others say where these are."""
        found = torch.tensor(deviation)
        changes = (found < IGNORED) & (torch.arange(len(found)) < numbers)
        return Channels(torch.tensor(mean), torch.where(changes, found, 0))

    @staticmethod
    def of_batch(series: Tensor) -> Channels:
        """Those of a batch, where nothing is known of train."""
        there = ~series.isnan()
        count = there.sum(dim=(0, 1)).clamp(min=1)
        mean = series.nan_to_num().sum(dim=(0, 1)) / count
        deviation = ((series - mean).nan_to_num().square().sum(dim=(0, 1)) / count).sqrt()
        return Channels(mean, deviation)


def filled(series: Tensor, lengths: Tensor, channels: Channels) -> Tensor:
    """The mean of train wherever a step lacks a number: what networks take it for; padding stays NaN."""
    steps = torch.arange(series.shape[1], device=series.device)[None, :, None]
    return torch.where(series.isnan() & (steps < lengths[:, None, None]), channels.mean.to(series.device), series)


def scaled(series: Tensor, share: float, channels: Channels) -> Tensor:
    """The distance of each series from the mean of train times one from 1 - share to 1 + share, in all channels."""
    if share == 0:
        return series
    factor = 1 + share * (2 * torch.rand(len(series), 1, 1, device=series.device) - 1)
    mean, changes = (each.to(series.device) for each in (channels.mean, channels.deviation > 0))
    return torch.where(changes, mean + (series - mean) * factor, series)


def noisy(series: Tensor, share: float, channels: Channels) -> Tensor:
    """Normal noise on every number, its deviation a share of the channel's in train; padding stays padding."""
    if share == 0:
        return series
    return series + share * channels.deviation.to(series.device) * torch.randn_like(series)


def warped(series: Tensor, lengths: Tensor, share: float) -> Tensor:
    """Each series run at a pace that changes: between places as far apart 1 - share to 1 + share of its own.

    Both ends stay where they are, and what falls between two steps is interpolated (time warping, Um et al. 2017, with
    lines in place of splines).
    """
    if share == 0:
        return series
    rows, longest, channels = series.shape
    pace = 1 + share * (2 * torch.rand(rows, KNOTS - 1, device=series.device) - 1)
    passed = torch.ones(KNOTS - 1, KNOTS - 1, device=series.device).tril()  # `cumsum` of a GPU is in any order
    reached = torch.nn.functional.pad((pace[:, None] * passed).sum(2), (1, 0))  # where each series is at each knot
    reached = reached / reached[:, -1:]
    last = (lengths - 1).clamp(min=1)[:, None]
    steps = torch.arange(longest, device=series.device)[None, :]
    knot = steps / last * (KNOTS - 1)
    before = knot.long().clamp(max=KNOTS - 2)
    start, end = reached.gather(1, before), reached.gather(1, before + 1)
    place = (start + (end - start) * (knot - before)) * last
    first = torch.minimum(place.long(), lengths[:, None] - 1)
    second = torch.minimum(first + 1, lengths[:, None] - 1)
    at_first, at_second = (series.gather(1, each[..., None].expand(-1, -1, channels)) for each in (first, second))
    between = at_first.lerp(at_second, (place - first).clamp(0, 1)[..., None].to(series.dtype))
    return torch.where((steps < lengths[:, None])[..., None], between, series)


def cropped(series: Tensor, lengths: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """A part of each series, at least 1 - share of it, that begins anywhere (Le Guennec et al. 2016); its length."""
    if share == 0:
        return series, lengths
    rows, longest, channels = series.shape
    kept = 1 - share * torch.rand(rows, device=series.device)
    shorter = (lengths * kept).ceil().long().clamp(min=1)
    start = (torch.rand(rows, device=series.device) * (lengths - shorter + 1)).long().clamp(max=longest - 1)
    steps = torch.arange(longest, device=series.device)[None, :]
    places = (steps + start[:, None]).clamp(max=longest - 1)
    moved = series.gather(1, places[..., None].expand(-1, -1, channels))
    return moved.masked_fill((steps >= shorter[:, None])[..., None], torch.nan), shorter
