"""Changes of images, uint8 or float32 [B, H, W, C] in parts of 255, each drawn for itself unless it says otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

WITH_KORNIA = ("colour", "rand_augment")
OPERATIONS, GREATEST = 2, 30  # of RandAugment: how many for a batch, and the greatest magnitude (Cubuk et al. 2020)


def has_kornia() -> bool:
    """Whether the library is there that some changes of images need."""
    return find_spec("kornia") is not None


def change_images(images: Tensor, strength: Mapping[str, float]) -> Tensor:
    """Images after `flip`, `shift`, `colour` and `rand_augment`; the first two leave uint8 as it is."""
    images = _shifted(_flipped(images, strength["flip"]), strength["shift"])
    colour, magnitude = strength["colour"], round(GREATEST * strength["rand_augment"])
    if colour == 0 and magnitude == 0:
        return images
    channels = images.shape[-1]
    shares = images.permute(0, 3, 1, 2).float() / 255
    shares = shares.expand(-1, 3, -1, -1) if channels == 1 else shares  # kornia knows colours of three channels only
    if colour > 0:
        shares = _colour_jitter(colour)(shares)
    if magnitude > 0:
        shares = _rand_augment(magnitude)(shares)
    return shares[:, :channels].permute(0, 2, 3, 1) * 255


def paste_boxes(images: Tensor, partner: Tensor, share: float) -> tuple[Tensor, float]:
    """Images with a box of their partner's, and the share that is left of them (CutMix, Yun et al. 2019, section 3.1).

    The box is the same for the whole batch: of 1 - share of the area, cut off where it reaches over the border, which
    is why the share that is given back may be larger.
    """
    _, height, width, _ = images.shape
    side = math.sqrt(1 - share)
    top, bottom = _edges(height, side)
    left, right = _edges(width, side)
    pasted = images.clone()
    pasted[:, top:bottom, left:right] = images[partner, top:bottom, left:right]
    return pasted, 1 - (bottom - top) * (right - left) / (height * width)


def _edges(size: int, side: float) -> tuple[int, int]:
    middle, length = int(torch.randint(size, ())), round(size * side)
    first = middle - length // 2
    return max(0, first), min(size, first + length)


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
    padded = nn.functional.pad(images, (0, 0, most, most, most, most))
    top, left = torch.randint(0, 2 * most + 1, (2, rows, 1), device=images.device)
    down = top + torch.arange(height, device=images.device)
    right = left + torch.arange(width, device=images.device)
    return padded[torch.arange(rows, device=images.device)[:, None, None], down[:, :, None], right[:, None, :]]


@cache
def _colour_jitter(share: float) -> Any:
    """Brightness, contrast and saturation, each times a number from 1 - share to 1 + share."""
    from kornia.augmentation import ColorJitter

    return ColorJitter(brightness=share, contrast=share, saturation=share, hue=0.0, p=1.0)


@cache
def _rand_augment(magnitude: int) -> Any:
    """RandAugment (Cubuk et al. 2020): operations drawn for the batch, at one magnitude."""
    from kornia.augmentation.auto import RandAugment

    return RandAugment(n=OPERATIONS, m=magnitude)
