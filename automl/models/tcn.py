"""Temporal convolutional network: blocks of dilated convolutions that see twice as far each (Bai et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from automl.models.embedding import Lexicon, input_layer
from automl.models.layers import (
    ACTIVATIONS,
    LockedDropout,
    MaskedPooling,
    TokenConvolution,
    dense_head,
    last_states,
    token_mask,
    without_padding,
)


class TextTcn(nn.Module):
    """Tokens int64 [B, L], or series float32 [B, L, channels], and lengths int64 [B] to logits float [B, C]."""

    def __init__(self, settings: Mapping[str, Any], vocabulary: int, classes: int, lexicon: Lexicon) -> None:
        super().__init__()
        channels, dropout = settings["channels"], settings["dropout"]
        self.embedding = input_layer(settings, vocabulary, lexicon)
        widths = [self.embedding.features] + [channels] * (settings["blocks"] - 1)
        self.blocks = nn.ModuleList(_Block(settings, width, 2**number) for number, width in enumerate(widths))
        pooling = settings["pooling"]
        self.pooling = None if pooling == "last" else MaskedPooling(pooling, channels)
        width = 1 if self.pooling is None else self.pooling.width
        self.head = dense_head(channels * width, settings["head"], classes, settings["activation"], dropout)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        mask = token_mask(lengths, tokens.shape[1])
        features = self.embedding(tokens)
        for block in self.blocks:
            features = block(features, mask)
        pooled = last_states(features, lengths, False) if self.pooling is None else self.pooling(features, mask)
        logits: Tensor = self.head(pooled)
        return logits


class _Block(nn.Module):
    """Two dilated convolutions and a shortcut (Bai et al. 2018, section 3.3), zero at padding before and after."""

    def __init__(self, settings: Mapping[str, Any], width: int, dilation: int) -> None:
        super().__init__()
        channels = settings["channels"]
        self.convolutions = nn.ModuleList(
            TokenConvolution(size, channels, settings["kernel_size"], dilation=dilation, causal=settings["causal"])
            for size in (width, channels)
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(channels) if settings["layer_norm"] else nn.Identity() for _ in range(2)
        )
        self.activation = ACTIVATIONS[settings["activation"]]()
        self.dropout = LockedDropout(settings["dropout"])
        self.shortcut = nn.Identity() if width == channels else nn.Linear(width, channels)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        inner = features
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            inner = without_padding(self.dropout(self.activation(norm(convolution(inner)))), mask)
        return without_padding(self.activation(inner + self.shortcut(features)), mask)
