"""The families for images: what a file may set or search of them."""

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


class Pretrained(Section):
    """A network of torchvision, with the weights of a file and a new head (pip install 'automl[backbones]')."""

    tasks: ClassVar[tuple[str, ...]] = ("image_classification",)

    backbone: Searchable[
        Literal["resnet18", "resnet34", "resnet50", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0"]
    ] = Field(Choice(choice=["resnet18", "mobilenet_v3_small"]), description="Its name in torchvision.models.")
    weights: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="torchvision's state dict (.safetensors, .pt or .pth), or a folder with one for each backbone, "
        "such as ~/.cache/torch/hub/checkpoints; null to learn from nothing. They are never downloaded.",
    )
    frozen_epochs: Searchable[Annotated[int, Field(ge=0)]] = Field(
        0, description="Epochs in which only the head is trained, where there are weights."
    )
    gradual: Searchable[bool] = Field(
        Choice(choice=[False, True]),
        description="Whether the parts of the backbone are freed after that, one an epoch, from the last to the first.",
    )
    freeze: list[str] = Field(default_factory=list, description="Parts that are never trained, as backbone.conv1.")
    rate_decay: Searchable[Annotated[float, Field(gt=0, le=1)]] = Field(
        FloatRange(float=(0.4, 1.0)), description="A part's learning rate, as a share of that of the part after it."
    )
    dropout: Searchable[Annotated[float, Field(ge=0, lt=1)]] = Field(
        FloatRange(float=(0.0, 0.5)), description="Dropout in the head."
    )
    head: Searchable[Annotated[int, Field(ge=0)]] = Field(
        0, description="Units of the dense head's hidden layer; 0 for none."
    )
