"""Recurrent networks: LSTM (Hochreiter and Schmidhuber 1997) or GRU (Cho et al. 2014) over the tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from automl.models.embedding import Lexicon, input_layer
from automl.models.layers import (
    MaskedPooling,
    Recurrence,
    dense_head,
    last_states,
    token_mask,
)


class TextRnn(nn.Module):
    """Tokens int64 [B, L], or series float32 [B, L, channels], and lengths int64 [B] to logits float [B, C]."""

    def __init__(self, settings: Mapping[str, Any], vocabulary: int, classes: int, lexicon: Lexicon) -> None:
        super().__init__()
        dropout = settings["dropout"]
        self.bidirectional: bool = settings["bidirectional"]
        self.embedding = input_layer(settings, vocabulary, lexicon)
        self.recurrence = Recurrence(
            settings["cell"],
            self.embedding.features,
            settings["hidden"],
            settings["layers"],
            self.bidirectional,
            dropout,
            recurrent_dropout=settings["recurrent_dropout"],
            layer_norm=settings["layer_norm"],
        )
        features = self.recurrence.features
        pooling = settings["pooling"]
        self.pooling = None if pooling == "last" else MaskedPooling(pooling, features)
        width = 1 if self.pooling is None else self.pooling.width
        self.head = dense_head(features * width, settings["head"], classes, settings["activation"], dropout)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        states = self.recurrence(self.embedding(tokens), lengths)
        if self.pooling is None:
            text = last_states(states, lengths, self.bidirectional)
        else:
            text = self.pooling(states, token_mask(lengths, tokens.shape[1]))
        logits: Tensor = self.head(text)
        return logits
