"""The family that is for series of numbers alone: what a file may set or search of it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from automl.space.families.shared import Activation, Pooling
from automl.space.ranges import Choice, FloatRange, IntRange
from automl.space.searchable import Searchable, SearchableLists
from automl.space.sections import Section

Kernels = Annotated[list[Annotated[int, Field(ge=1, le=255)]], Field(min_length=1, max_length=8)]


class SequenceCnn(Section):
    """Residual blocks of convolutions of several widths side by side, pooled over the series."""

    tasks: ClassVar[tuple[str, ...]] = ("sequence_classification",)

    kernel_sizes: SearchableLists[Kernels] = Field(
        Choice(choice=[[5], [3, 7], [3, 9, 19]]), description="Steps that the convolutions of a block see at once."
    )
    channels: Searchable[Annotated[int, Field(ge=1)]] = Field(
        IntRange(int=(16, 64), log=True), description="Features for each kernel size."
    )
    blocks: Searchable[Annotated[int, Field(ge=1, le=10)]] = Field(
        Choice(choice=[2, 3, 4]), description="Blocks of two layers with a shortcut around them."
    )
    halving: Searchable[bool] = Field(
        Choice(choice=[True, False]), description="Whether each block but the last halves the steps by max pooling."
    )
    normalisation: Searchable[Literal["batch", "layer", "none"]] = Field(
        Choice(choice=["batch", "layer"]), description="How a layer's output is normalised; padding never counts."
    )
    residual: Searchable[bool] = Field(True, description="Whether a block's input is added to its output.")
    activation: Searchable[Activation] = Field(
        Choice(choice=["relu", "gelu", "silu"]), description="Activation after convolutions and in the dense head."
    )
    pooling: Searchable[Pooling] = Field(
        Choice(choice=["mean", "max_mean", "attention"]), description="How the steps become one vector."
    )
    dropout: Searchable[Annotated[float, Field(ge=0, lt=1)]] = Field(
        FloatRange(float=(0.0, 0.5)), description="Dropout in the head."
    )
    head: Searchable[Annotated[int, Field(ge=0)]] = Field(
        0, description="Units of the dense head's hidden layer; 0 for none."
    )
