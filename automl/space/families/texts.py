"""The families for texts, some of which also take series: what a file may set or search of each."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from automl.space.families.shared import Activation, Cell, KernelSizes, Pooling, TextFamily
from automl.space.ranges import Choice, Each, IntRange, extremes
from automl.space.searchable import Searchable, SearchableList, SearchableLists


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


class CnnRnn(TextFamily):
    """A convolution extracts features, an LSTM or GRU models their sequence, a dense head classifies."""

    tasks: ClassVar[tuple[str, ...]] = ("text_classification", "sequence_classification")

    kernel_sizes: SearchableLists[KernelSizes] = Field(
        Choice(choice=[[2], [3], [2, 3]]), description="Tokens that the convolutions see at once."
    )
    channels: Searchable[Annotated[int, Field(ge=1)]] = Field(
        IntRange(int=(64, 192), log=True), description="Features for each kernel size."
    )
    stride: Searchable[Annotated[int, Field(ge=1, le=8)]] = Field(
        Choice(choice=[1, 2]), description="Tokens joined by max pooling before the recurrence; 1 for none."
    )
    cell: Searchable[Cell] = Field(Choice(choice=["lstm", "gru"]), description="The recurrent unit.")
    hidden: Searchable[Annotated[int, Field(ge=1)]] = Field(
        IntRange(int=(32, 128), log=True), description="Units in each direction."
    )
    bidirectional: Searchable[bool] = Field(
        Choice(choice=[True, False]), description="Whether to read the text backwards as well."
    )
    pooling: Searchable[Pooling] = Field(
        Choice(choice=["max", "attention"]), description="How the states become one vector."
    )


class RnnCnn(TextFamily):
    """An LSTM or GRU gives each token its context, a convolution over tokens with contexts is pooled."""

    cell: Searchable[Cell] = Field(Choice(choice=["lstm", "gru"]), description="The recurrent unit.")
    hidden: Searchable[Annotated[int, Field(ge=1)]] = Field(
        IntRange(int=(32, 128), log=True), description="Units in each direction."
    )
    bidirectional: Searchable[bool] = Field(True, description="Whether to read the text backwards as well.")
    kernel_sizes: Searchable[KernelSizes] = Field(
        Choice(choice=[[1], [3], [1, 3]]), description="Tokens that the convolutions see at once; [1] as published."
    )
    channels: Searchable[Annotated[int, Field(ge=1)]] = Field(
        IntRange(int=(64, 192), log=True), description="Features for each kernel size."
    )
    pooling: Searchable[Pooling] = Field(
        Choice(choice=["max", "attention"]), description="How the text's features become one vector."
    )


class Dpcnn(TextFamily):
    """Pairs of convolutions with shortcuts around them; before each pair but the first the text is halved."""

    kernel_size: Searchable[Annotated[int, Field(ge=1, le=31)]] = Field(
        3, description="Tokens that a convolution sees at once."
    )
    channels: Searchable[Annotated[int, Field(ge=1)]] = Field(
        IntRange(int=(64, 192), log=True), description="Features of each position, the same at every depth."
    )
    blocks: Searchable[Annotated[int, Field(ge=1, le=10)]] = Field(
        Choice(choice=[2, 3, 4]), description="Pairs of convolutions."
    )
    pooling: Searchable[Pooling] = Field(
        Choice(choice=["max", "attention"]), description="How what is left of the text becomes one vector."
    )


class Tcn(TextFamily):
    """Residual blocks of dilated convolutions over the tokens, their features pooled."""

    tasks: ClassVar[tuple[str, ...]] = ("text_classification", "sequence_classification")

    kernel_size: Searchable[Annotated[int, Field(ge=2, le=31)]] = Field(
        Choice(choice=[2, 3, 5]), description="Positions that a convolution combines."
    )
    channels: Searchable[Annotated[int, Field(ge=1)]] = Field(
        IntRange(int=(64, 192), log=True), description="Features of each position."
    )
    blocks: Searchable[Annotated[int, Field(ge=1, le=10)]] = Field(
        Choice(choice=[2, 3, 4]), description="Blocks; each looks twice as far as the one before."
    )
    causal: Searchable[bool] = Field(False, description="Whether a position sees only those before it.")
    layer_norm: Searchable[bool] = Field(
        Choice(choice=[True, False]), description="Whether each convolution's output is normalised."
    )
    pooling: Searchable[Literal["last", "max", "mean", "max_mean", "attention"]] = Field(
        Choice(choice=["max", "attention"]), description="How the positions become one vector."
    )
