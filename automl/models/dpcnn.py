"""DPCNN: pairs of convolutions with shortcuts, the text halved before each pair (Johnson and Zhang 2017, section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from automl.models.embedding import Lexicon, TokenEmbedding
from automl.models.layers import (
    ACTIVATIONS,
    LockedDropout,
    MaskedPooling,
    TokenConvolution,
    dense_head,
    halve,
    token_mask,
    without_padding,
)


class TextDpcnn(nn.Module):
    """Tokens int64 [B, L] and lengths int64 [B] to logits float [B, C].

    The depth is a setting and not, as in the paper, that after which one position is left: it would be another for
    each row, and of the longest in a batch.
    """

    def __init__(self, settings: Mapping[str, Any], vocabulary: int, classes: int, lexicon: Lexicon) -> None:
        super().__init__()
        channels, kernel, dropout = settings["channels"], settings["kernel_size"], settings["dropout"]
        self.embedding = TokenEmbedding(settings, vocabulary, lexicon)
        self.region = TokenConvolution(self.embedding.features, channels, kernel)
        self.pairs = nn.ModuleList(_Pair(settings) for _ in range(settings["blocks"]))
        self.activation = ACTIVATIONS[settings["activation"]]()
        self.pooling = MaskedPooling(settings["pooling"], channels)
        self.head = dense_head(
            channels * self.pooling.width, settings["head"], classes, settings["activation"], dropout
        )

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        mask = token_mask(lengths, tokens.shape[1])
        features = without_padding(self.region(self.embedding(tokens)), mask)
        for number, pair in enumerate(self.pairs):
            if number:
                features, lengths = halve(features, lengths)
                mask = token_mask(lengths, features.shape[1])
            features = pair(features, mask)
        logits: Tensor = self.head(self.pooling(self.activation(features), mask))
        return logits


class _Pair(nn.Module):
    """Two convolutions, each after its activation, and a shortcut around both; zero at padding before and after."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        channels, kernel = settings["channels"], settings["kernel_size"]
        self.first = TokenConvolution(channels, channels, kernel)
        self.second = TokenConvolution(channels, channels, kernel)
        self.activation = ACTIVATIONS[settings["activation"]]()
        self.dropout = LockedDropout(settings["dropout"])

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        inner = without_padding(self.first(self.activation(features)), mask)
        inner = self.second(self.dropout(self.activation(inner)))
        return without_padding(features + inner, mask)
