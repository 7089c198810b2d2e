"""The family for images: what a file may set or search of it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from automl.space.families.shared import Activation
from automl.space.ranges import Choice, FloatRange, IntRange
from automl.space.searchable import Searchable
from automl.space.sections import Section


class ImageCnn(Section):
    """Stages of convolutions, each at half the resolution and twice the width of the one before."""

    tasks: ClassVar[tuple[str, ...]] = ("image_classification",)

    stages: Searchable[Annotated[int, Field(ge=1, le=5)]] = Field(
        Choice(choice=[2, 3]), description="Stages; each but the first halves height and width."
    )
    depth: Searchable[Annotated[int, Field(ge=1, le=6)]] = Field(
        Choice(choice=[1, 2]), description="Blocks of two convolutions in each stage."
    )
    width: Searchable[Annotated[int, Field(ge=4)]] = Field(
        IntRange(int=(16, 64), log=True), description="Channels of the first stage; each later one has twice as many."
    )
    kernel: Searchable[Literal[3, 5, 7]] = Field(3, description="Pixels a side that a convolution sees at once.")
    normalisation: Searchable[Literal["batch", "group", "none"]] = Field(
        Choice(choice=["batch", "group"]), description="How a convolution's output is normalised."
    )
    activation: Searchable[Activation] = Field(
        Choice(choice=["relu", "gelu", "silu"]), description="Activation after convolutions and in the dense head."
    )
    residual: Searchable[bool] = Field(
        Choice(choice=[True, False]), description="Whether a block's input is added to its output."
    )
    separable: Searchable[bool] = Field(
        False, description="Whether convolutions are depthwise ones followed by pointwise ones: fewer weights."
    )
    squeeze_excitation: Searchable[bool] = Field(
        Choice(choice=[False, True]), description="Whether each block weighs its channels by what the image holds."
    )
    dropout: Searchable[Annotated[float, Field(ge=0, lt=1)]] = Field(
        FloatRange(float=(0.0, 0.5)), description="Dropout in the head."
    )
    head: Searchable[Annotated[int, Field(ge=0)]] = Field(
        0, description="Units of the dense head's hidden layer; 0 for none."
    )
