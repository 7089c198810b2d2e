"""Residual blocks of parallel convolutions over a series, as InceptionTime has them (Ismail Fawaz et al. 2020).

Shapes: B rows in a batch, L steps in its longest row, F channels of a series, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from automl.models.embedding import Lexicon, Standardise
from automl.models.layers import (
    ACTIVATIONS,
    MaskedPooling,
    TextConvolutions,
    dense_head,
    halve,
    token_mask,
    without_padding,
)

MOMENTUM = 0.1


class SequenceNetwork(nn.Module):
    """Series float32 [B, L, F], NaN at padding, and lengths int64 [B] to logits float [B, C]."""

    def __init__(self, settings: Mapping[str, Any], vocabulary: int, classes: int, lexicon: Lexicon) -> None:
        super().__init__()
        self.standardise = Standardise(lexicon)
        self.halving: bool = settings["halving"]
        width = settings["channels"] * len(settings["kernel_sizes"])
        widths = [self.standardise.channels] + [width] * (settings["blocks"] - 1)
        self.blocks = nn.ModuleList(_Block(settings, before, width) for before in widths)
        self.pooling = MaskedPooling(settings["pooling"], width)
        self.head = dense_head(
            width * self.pooling.width, settings["head"], classes, settings["activation"], settings["dropout"]
        )

    def forward(self, series: Tensor, lengths: Tensor) -> Tensor:
        features = self.standardise(series)
        for number, block in enumerate(self.blocks):
            if number and self.halving:
                features, lengths = halve(features, lengths)
            features = block(features, token_mask(lengths, features.shape[1]))
        logits: Tensor = self.head(self.pooling(features, token_mask(lengths, features.shape[1])))
        return logits


class _Block(nn.Module):
    """Two layers of convolutions and a shortcut, zero at padding before and after."""

    def __init__(self, settings: Mapping[str, Any], before: int, width: int) -> None:
        super().__init__()
        kernels, channels = settings["kernel_sizes"], settings["channels"]
        self.convolutions = nn.ModuleList(TextConvolutions(size, channels, kernels) for size in (before, width))
        self.norms = nn.ModuleList(_norm(settings["normalisation"], width) for _ in range(2))
        self.activation = ACTIVATIONS[settings["activation"]]()
        self.shortcut: nn.Module | None = None
        if settings["residual"]:
            self.shortcut = nn.Identity() if before == width else nn.Linear(before, width)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        inner = features
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            inner = convolution(inner)
            inner = norm(inner, mask) if isinstance(norm, MaskedBatchNorm) else norm(inner)
            if number and self.shortcut is not None:
                inner = inner + self.shortcut(features)
            inner = without_padding(self.activation(inner), mask)
        return inner


def _norm(kind: str, width: int) -> nn.Module:
    if kind == "batch":
        return MaskedBatchNorm(width)
    return nn.LayerNorm(width) if kind == "layer" else nn.Identity()


class MaskedBatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015) of [B, L, F], whose statistics are those of real steps alone."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        if self.training:
            weights = mask.unsqueeze(-1).to(features.dtype)
            count = weights.sum()
            mean = (features * weights).sum(dim=(0, 1)) / count
            variance = ((features - mean).square() * weights).sum(dim=(0, 1)) / count
            with torch.no_grad():
                self.running_mean.lerp_(mean.float(), MOMENTUM)
                self.running_var.lerp_(variance.float() * (count / (count - 1).clamp(min=1)), MOMENTUM)
        return (features - mean) * (variance + 1e-5).rsqrt() * self.weight + self.bias
