"""TextCNN: convolutions of several widths side by side, pooled over the text (Kim 2014, section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from automl.models.embedding import Lexicon, TokenEmbedding
from automl.models.layers import (
    ACTIVATIONS,
    MaskedPooling,
    Pooling,
    TextConvolutions,
    TextFamily,
    dense_head,
    token_mask,
)
from automl.space import Choice, IntRange, Searchable, SearchableLists

KernelSizes = Annotated[list[Annotated[int, Field(ge=1, le=31)]], Field(min_length=1, max_length=8)]


class Cnn(TextFamily):
    """Convolutions of several widths over the tokens, each pooled over the text."""

    kernel_sizes: SearchableLists[KernelSizes] = Field(
        Choice(choice=[[3], [1, 2, 3], [2, 3, 4], [3, 4, 5]]),
        description="Tokens that the convolutions see at once.",
    )
    channels: Searchable[Annotated[int, Field(ge=1)]] = Field(
        IntRange(int=(64, 256), log=True), description="Features for each kernel size."
    )
    pooling: Searchable[Pooling] = Field(
        Choice(choice=["max", "max_mean"]), description="How the text's features become one vector."
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
        features = self.activation(self.convolutions(self.embedding(tokens)))
        logits: Tensor = self.head(self.pooling(features, token_mask(lengths, tokens.shape[1])))
        return logits
