"""C-LSTM: a convolution extracts features, a recurrent network models their sequence (Zhou et al. 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from automl.models.embedding import Lexicon, input_layer
from automl.models.layers import (
    ACTIVATIONS,
    MaskedPooling,
    Recurrence,
    TextConvolutions,
    dense_head,
    token_mask,
)


class TextCnnRnn(nn.Module):
    """Tokens int64 [B, L], or series float32 [B, L, channels], and lengths int64 [B] to logits float [B, C]."""

    def __init__(self, settings: Mapping[str, Any], vocabulary: int, classes: int, lexicon: Lexicon) -> None:
        super().__init__()
        dropout = settings["dropout"]
        self.stride: int = settings["stride"]
        self.embedding = input_layer(settings, vocabulary, lexicon)
        self.convolutions = TextConvolutions(self.embedding.features, settings["channels"], settings["kernel_sizes"])
        self.activation = ACTIVATIONS[settings["activation"]]()
        self.dropout = nn.Dropout(dropout)
        self.recurrence = Recurrence(
            settings["cell"],
            self.convolutions.features,
            settings["hidden"],
            1,
            settings["bidirectional"],
            dropout,
        )
        self.pooling = MaskedPooling(settings["pooling"], self.recurrence.features)
        self.head = dense_head(
            self.recurrence.features * self.pooling.width,
            settings["head"],
            classes,
            settings["activation"],
            dropout,
        )

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        features = self.activation(self.convolutions(self.embedding(tokens)))
        mask = token_mask(lengths, tokens.shape[1])
        if self.stride > 1:
            features, lengths = _max_over(
                features.masked_fill(~mask.unsqueeze(-1), float("-inf")), lengths, self.stride
            )
            mask = token_mask(lengths, features.shape[1])
        features = features.masked_fill(~mask.unsqueeze(-1), 0.0)
        states = self.recurrence(self.dropout(features), lengths)
        logits: Tensor = self.head(self.pooling(states, mask))
        return logits


def _max_over(features: Tensor, lengths: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """The maximum of every `stride` positions: [B, L, F] and [B] to [B, ceil(L / stride), F] and [B]."""
    # In two dimensions, as the one-dimensional kernel for inference cannot be exported with lengths that vary.
    pooled = nn.functional.max_pool2d(features.transpose(1, 2).unsqueeze(2), (1, stride), ceil_mode=True)
    return pooled.squeeze(2).transpose(1, 2), (lengths + stride - 1) // stride
