"""Recurrent networks: LSTM (Hochreiter and Schmidhuber 1997) or GRU (Cho et al. 2014) over the tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from automl.models.embedding import Lexicon, input_layer
from automl.models.layers import (
    Activation,
    MaskedPooling,
    Recurrence,
    TextFamily,
    dense_head,
    last_states,
    token_mask,
)
from automl.space import Choice, Each, IntRange, Searchable, SearchableList, extremes

Cell = Literal["lstm", "gru"]


class Rnn(TextFamily):
    """LSTM or GRU layers over the tokens, their states pooled."""

    tasks: ClassVar[tuple[str, ...]] = ("text_classification", "sequence_classification")

    cell: Searchable[Cell] = Field(Choice(choice=["lstm", "gru"]), description="The recurrent unit.")
    hidden: SearchableList[Annotated[int, Field(ge=1)]] = Field(
        IntRange(int=(32, 128), log=True),
        description="Units in each direction: a number for all layers, or a list with one for each of the layers.",
    )
    layers: Searchable[Annotated[int, Field(ge=1, le=8)]] = Field(1, description="Recurrent layers.")
    bidirectional: Searchable[bool] = Field(
        Choice(choice=[True, False]), description="Whether to read the text backwards as well."
    )
    recurrent_dropout: Searchable[Annotated[float, Field(ge=0, lt=1)]] = Field(
        0.0, description="Share of the weights between states that is dropped in a step."
    )
    layer_norm: Searchable[bool] = Field(False, description="Whether the states of each layer are normalised.")
    activation: Searchable[Activation] = Field("relu", description="Activation of the dense head, where it has units.")
    pooling: Searchable[Literal["last", "max", "mean", "max_mean", "attention"]] = Field(
        Choice(choice=["last", "max", "attention"]), description="How the states become one vector."
    )

    @model_validator(mode="after")
    def _hidden_for_each_layer(self) -> Rnn:
        """A list of `hidden` has as many entries as there are layers, in every trial."""
        hidden: Any = self.hidden
        if isinstance(hidden, Each) and hidden.per not in ("layers", self.layers):
            raise PydanticCustomError("layers", "expected per: layers", {"setting": "hidden.per"})
        wrong = [length for option in extremes(hidden) for length in _lengths(option) if length != self.layers]
        if wrong:
            raise PydanticCustomError(
                "layers",
                "a list of {count} does not fit layers, which {layers}; fix layers, or write {example}",
                {
                    "count": min(wrong),
                    "layers": f"is {self.layers}" if isinstance(self.layers, int) else "is searched",
                    "example": "{per: layers, int: [low, high]}",
                    "setting": "hidden",
                },
            )
        return self


def _lengths(hidden: Any) -> list[int]:
    """How long a list of sizes may be; nothing for one that counts for all layers, or that has a size for each."""
    if isinstance(hidden, Each):
        return [] if isinstance(hidden.per, str) else extremes(hidden.per)
    return [len(hidden)] if isinstance(hidden, list) else []


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
