"""Convolutional network for images, from plain to residual, separable and squeezed, as its settings say.

Residual blocks are those of He et al. 2016, separable convolutions those of Howard et al. 2017 (MobileNet), and
squeeze-excitation is that of Hu et al. 2018. Shapes: B images, H by W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from automl.models.embedding import Lexicon, Standardise
from automl.models.layers import ACTIVATIONS, dense_head

REDUCTION = 8  # channels for each one of a squeeze
GROUP = 8  # channels that are normalised together


class ImageNetwork(nn.Module):
    """Pixels uint8 [B, H, W, C] and lengths int64 [B], which it does not need, to logits float [B, classes]."""

    def __init__(self, settings: Mapping[str, Any], vocabulary: int, classes: int, lexicon: Lexicon) -> None:
        super().__init__()
        self.standardise = Standardise(lexicon, 255.0)
        width = settings["width"]
        layers = _convolution(settings, self.standardise.channels, width, 1, separable=False)
        layers.append(ACTIVATIONS[settings["activation"]]())
        before = width
        for stage in range(settings["stages"]):
            for block in range(settings["depth"]):
                stride = 2 if stage and not block else 1
                layers.append(_Block(settings, before, width * 2**stage, stride))
                before = width * 2**stage
        self.layers = nn.ModuleList(layers)  # each may be frozen by itself
        self.head = dense_head(before, settings["head"], classes, settings["activation"], settings["dropout"])
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pixels: Tensor, lengths: Tensor) -> Tensor:
        features = self.standardise(pixels).permute(0, 3, 1, 2)  # channels last, as they came
        for layer in self.layers:
            features = layer(features)
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


class _Block(nn.Module):
    """Two convolutions, and the shortcut around them where blocks are residual: [B, C, H, W]."""

    def __init__(self, settings: Mapping[str, Any], before: int, width: int, stride: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[settings["activation"]]()
        separable = settings["separable"]
        self.convolutions = nn.Sequential(
            *_convolution(settings, before, width, stride, separable=separable),
            ACTIVATIONS[settings["activation"]](),
            *_convolution(settings, width, width, 1, separable=separable),
        )
        self.squeeze = _Squeeze(width) if settings["squeeze_excitation"] else nn.Identity()
        self.shortcut: nn.Module | None = None
        if settings["residual"]:
            same = before == width and stride == 1
            self.shortcut = nn.Identity() if same else nn.Conv2d(before, width, 1, stride=stride)

    def forward(self, features: Tensor) -> Tensor:
        inner = self.squeeze(self.convolutions(features))
        if self.shortcut is not None:
            inner = inner + self.shortcut(features)
        activated: Tensor = self.activation(inner)
        return activated


class _Squeeze(nn.Module):
    """Channels weighed by two dense layers over their means (Hu et al. 2018, section 3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(1, width // REDUCTION)
        self.weigh = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width), nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        weights: Tensor = self.weigh(features.mean(dim=(2, 3)))
        return features * weights[:, :, None, None]


class _BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that takes its running statistics where a batch has one value for each channel."""

    def forward(self, features: Tensor) -> Tensor:
        if self.training and features.numel() == features.shape[1]:
            return nn.functional.batch_norm(
                features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(features)


def _convolution(
    settings: Mapping[str, Any], before: int, width: int, stride: int, *, separable: bool
) -> list[nn.Module]:
    """A convolution and its normalisation."""
    kernel, kind = settings["kernel"], settings["normalisation"]
    around = kernel // 2
    layers: list[nn.Module] = []
    if separable:
        layers.append(nn.Conv2d(before, before, kernel, stride=stride, padding=around, groups=before, bias=False))
        layers.append(nn.Conv2d(before, width, 1, bias=kind == "none"))
    else:
        layers.append(nn.Conv2d(before, width, kernel, stride=stride, padding=around, bias=kind == "none"))
    if kind == "batch":
        layers.append(_BatchNorm(width))
    elif kind == "group":
        layers.append(nn.GroupNorm(max(1, width // GROUP) if width % max(1, width // GROUP) == 0 else 1, width))
    return layers
