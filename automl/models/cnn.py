"""TextCNN: convolutions of several widths side by side, pooled over the text (Kim 2014, section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from automl.models.embedding import Lexicon, TokenEmbedding
from automl.models.layers import (
    ACTIVATIONS,
    MaskedPooling,
    TextConvolutions,
    dense_head,
    token_mask,
)


class TextCnn(nn.Module):
    """Tokens int64 [B, L] and lengths int64 [B] to logits float [B, C]."""

    def __init__(self, settings: Mapping[str, Any], vocabulary: int, classes: int, lexicon: Lexicon) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(settings, vocabulary, lexicon)
        self.convolutions = TextConvolutions(self.embedding.features, settings["channels"], settings["kernel_sizes"])
        self.activation = ACTIVATIONS[settings["activation"]]()
        features = self.convolutions.features
        self.pooling = MaskedPooling(settings["pooling"], features)
        self.head = dense_head(
            features * self.pooling.width,
            settings["head"],
            classes,
            settings["activation"],
            settings["dropout"],
        )

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        features, mask = self.convolutions(self.embedding(tokens)), token_mask(lengths, tokens.shape[1])
        if self.pooling.kind == "max" and isinstance(self.activation, nn.ReLU | nn.Tanh):
            pooled = self.activation(self.pooling(features, mask))  # the same, as they never fall, and less to compute
        else:
            pooled = self.pooling(self.activation(features), mask)
        logits: Tensor = self.head(pooled)
        return logits
