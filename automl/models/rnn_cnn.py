"""RCNN: a recurrent network gives each word its context, a convolution looks at both (Lai et al. 2015, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from automl.models.embedding import Lexicon, TokenEmbedding
from automl.models.layers import (
    ACTIVATIONS,
    LockedDropout,
    MaskedPooling,
    Recurrence,
    TextConvolutions,
    dense_head,
    token_mask,
    without_padding,
)


class TextRnnCnn(nn.Module):
    """Tokens int64 [B, L] and lengths int64 [B] to logits float [B, C]."""

    def __init__(self, settings: Mapping[str, Any], vocabulary: int, classes: int, lexicon: Lexicon) -> None:
        super().__init__()
        dropout = settings["dropout"]
        self.embedding = TokenEmbedding(settings, vocabulary, lexicon)
        size = self.embedding.features
        self.recurrence = Recurrence(settings["cell"], size, settings["hidden"], 1, settings["bidirectional"], dropout)
        self.dropout = LockedDropout(dropout)
        self.convolutions = TextConvolutions(
            size + self.recurrence.features, settings["channels"], settings["kernel_sizes"]
        )
        self.activation = ACTIVATIONS[settings["activation"]]()
        features = self.convolutions.features
        self.pooling = MaskedPooling(settings["pooling"], features)
        self.head = dense_head(
            features * self.pooling.width, settings["head"], classes, settings["activation"], dropout
        )

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        mask = token_mask(lengths, tokens.shape[1])
        words = self.embedding(tokens)
        contexts = without_padding(self.dropout(self.recurrence(words, lengths)), mask)
        features = self.activation(self.convolutions(torch.cat([words, contexts], dim=-1)))
        logits: Tensor = self.head(self.pooling(features, mask))
        return logits
