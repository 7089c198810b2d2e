"""Changes of series in time: float32 [B, L, C], NaN after their `lengths` int64 [B]."""

from __future__ import annotations

import torch
from torch import Tensor

KNOTS = 5  # places between which a series runs at one pace


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
