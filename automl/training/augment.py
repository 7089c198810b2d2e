"""Train batches changed at random before each step, on the device, whole batches at a time.

All that is random comes from torch's generator, so it depends on the trial's seed and the epoch only. Shapes: B rows,
L steps or tokens, H by W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mix:
    """With mixup, a row is a share `share` of itself and else of the row `partner` int64 [B] says."""

    partner: Tensor
    share: float


def augment(inputs: Tensor, lengths: Tensor, settings: Mapping[str, Any]) -> tuple[Tensor, Tensor, Mix | None]:
    """Inputs and lengths as the section `augment` changes them, and what was mixed.

    Inputs are tokens int64 [B, L], images uint8 [B, H, W, C] (which become float32 where they are more than moved) or
    series float32 [B, L, C], NaN at padding. Settings that are not for such inputs have no effect; the file's reader
    refuses them.
    """
    if inputs.ndim == 2:
        return _swapped(inputs, lengths, settings["swap"]), lengths, None
    if inputs.ndim == 4:
        inputs = _shifted(_flipped(inputs, settings["flip"]), settings["shift"])
    inputs = _noisy(_scaled(inputs, settings["scale"]), settings["noise"])
    return _mixed(inputs, lengths, settings["mixup"])


def _swapped(tokens: Tensor, lengths: Tensor, share: float) -> Tensor:
    """A share of the tokens trades places with the next one (EDA's random swap, Wei and Zou 2019, of neighbours)."""
    if share == 0:
        return tokens
    places = torch.arange(tokens.shape[1], device=tokens.device)
    offset = int(torch.randint(2, ()))
    first = (places % 2 == offset) & (places[None, :] + 1 < lengths[:, None])  # the second of it is there too
    chosen = first & (torch.rand(tokens.shape, device=tokens.device) < share)
    second = torch.zeros_like(chosen)
    second[:, 1:] = chosen[:, :-1]
    return tokens.gather(1, places[None, :] + chosen.long() - second.long())


def _flipped(images: Tensor, share: float) -> Tensor:
    """A share of the images is mirrored, left to right."""
    if share == 0:
        return images
    chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < share
    return torch.where(chosen, images.flip(2), images)


def _shifted(images: Tensor, share: float) -> Tensor:
    """Each image moved by up to a share of its side, black where nothing was: the random crop of He et al. 2016."""
    rows, height, width, _ = images.shape
    most = round(share * height)
    if most == 0:
        return images
    padded = torch.nn.functional.pad(images, (0, 0, most, most, most, most))
    top, left = torch.randint(0, 2 * most + 1, (2, rows, 1), device=images.device)
    down = top + torch.arange(height, device=images.device)
    right = left + torch.arange(width, device=images.device)
    return padded[torch.arange(rows, device=images.device)[:, None, None], down[:, :, None], right[:, None, :]]


def _scaled(values: Tensor, share: float) -> Tensor:
    """Each row's numbers times one from 1 - share to 1 + share: contrast of images, height of series."""
    if share == 0:
        return values
    factor = 1 + share * (2 * torch.rand(len(values), device=values.device) - 1)
    return values.float() * factor.reshape(-1, *[1] * (values.ndim - 1))


def _noisy(values: Tensor, share: float) -> Tensor:
    """Normal noise on every number, its deviation a share of the batch's own; padding stays padding."""
    if share == 0:
        return values
    values = values.float()
    there = values[~values.isnan()]
    return values + share * there.std(correction=0) * torch.randn_like(values)


def _mixed(values: Tensor, lengths: Tensor, alpha: float) -> tuple[Tensor, Tensor, Mix | None]:
    """Each row mixed with another of the batch (mixup, Zhang et al. 2018); a series is as long as the shorter one."""
    if alpha == 0:
        return values, lengths, None
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partner = torch.randperm(len(values), device=values.device)
    values = values.float()
    mixed = share * values + (1 - share) * values[partner]
    return mixed, torch.minimum(lengths, lengths[partner]), Mix(partner, share)
