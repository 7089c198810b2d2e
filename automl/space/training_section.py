"""The section `training`: how one network is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from automl.space.ranges import FloatRange, Whole, extremes
from automl.space.searchable import Searchable
from automl.space.sections import Alternatives, Fraction, Positive, Rate, Section


class AdamW(Section):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    learning_rate: Searchable[Rate] = Field(
        FloatRange(float=(3e-4, 1e-2), log=True), description="The highest learning rate of the schedule."
    )
    weight_decay: Searchable[Annotated[float, Field(ge=0)]] = Field(0.01, description="Decoupled weight decay.")


class Sgd(Section):
    """Stochastic gradient descent with Nesterov momentum."""

    learning_rate: Searchable[Rate] = Field(
        FloatRange(float=(0.01, 1.0), log=True), description="The highest learning rate of the schedule."
    )
    momentum: Searchable[Fraction] = Field(0.9, description="Momentum; 0 for none.")
    weight_decay: Searchable[Annotated[float, Field(ge=0)]] = Field(0.0, description="L2 penalty.")


class Adam(Section):
    """Adam (Kingma and Ba 2015)."""

    learning_rate: Searchable[Rate] = Field(
        FloatRange(float=(3e-4, 1e-2), log=True), description="The highest learning rate of the schedule."
    )
    weight_decay: Searchable[Annotated[float, Field(ge=0)]] = Field(0.0, description="L2 penalty.")


class RmsProp(Section):
    """RMSprop (Tieleman and Hinton 2012)."""

    learning_rate: Searchable[Rate] = Field(
        FloatRange(float=(1e-4, 1e-2), log=True), description="The highest learning rate of the schedule."
    )
    smoothing: Searchable[Fraction] = Field(0.99, description="Share of the squared gradients' mean that is kept.")
    momentum: Searchable[Fraction] = Field(0.0, description="Momentum; 0 for none.")
    weight_decay: Searchable[Annotated[float, Field(ge=0)]] = Field(0.0, description="L2 penalty.")


class Adagrad(Section):
    """Adagrad (Duchi et al. 2011): weights with rare gradients move further."""

    learning_rate: Searchable[Rate] = Field(
        FloatRange(float=(3e-3, 0.3), log=True), description="The highest learning rate of the schedule."
    )
    weight_decay: Searchable[Annotated[float, Field(ge=0)]] = Field(0.0, description="L2 penalty.")


class Optimizers(Alternatives):
    """How weights are updated."""

    adamw: AdamW | None = None
    sgd: Sgd | None = None
    adam: Adam | None = None
    rmsprop: RmsProp | None = None
    adagrad: Adagrad | None = None


class Constant(Section):
    """The same learning rate throughout."""


class Falling(Section):
    """A rise over the first share of all steps, then a fall to 0 at the last epoch of the longest trial."""

    warmup: Searchable[Fraction] = Field(0.05, description="Share of all steps with a rising rate.")


class OneCycle(Section):
    """A long rise from a 25th, then a fall to almost nothing (Smith and Topin 2018)."""

    warmup: Searchable[Fraction] = Field(0.3, description="Share of all steps with a rising rate.")


class FallingOnPlateau(Section):
    """A fall whenever the validation loss has not fallen for some epochs."""

    factor: Searchable[Annotated[float, Field(gt=0, lt=1)]] = Field(0.5, description="What the rate is multiplied by.")
    patience: Searchable[Annotated[int, Field(ge=0)]] = Field(1, description="Epochs to wait before.")


class Schedules(Alternatives):
    """How the learning rate changes."""

    constant: Constant | None = None
    linear: Falling | None = None
    cosine: Falling | None = None
    one_cycle: OneCycle | None = None
    plateau: FallingOnPlateau | None = None


Share = Annotated[float, Field(ge=0, le=1)]


class CrossEntropy(Section):
    """Cross entropy, with labels smoothed if asked (Szegedy et al. 2016)."""

    label_smoothing: Searchable[Fraction] = Field(0.0, description="Probability spread over the other labels.")


class Focal(Section):
    """Focal loss: rows that are classified well count less (Lin et al. 2017)."""

    gamma: Searchable[Annotated[float, Field(ge=0)]] = Field(2.0, description="How much less; 0 is cross entropy.")


class Losses(Alternatives):
    """What training minimises."""

    cross_entropy: CrossEntropy | None = None
    focal: Focal | None = None


class InitFrom(Section):
    """An earlier model to begin with: weights of the same name and shape are taken over, word vectors word for word."""

    model: Searchable[Annotated[str, Field(min_length=1)]] = Field(
        description="A run or best_model directory, or a state dict (.safetensors or .pt)."
    )
    frozen_epochs: Searchable[Annotated[int, Field(ge=0)]] = Field(
        0, description="Epochs in which layers that were taken over, but for the last, are not trained."
    )
    gradual: Searchable[bool] = Field(
        False,
        description="Whether they are freed one by one after that, an epoch for each, from the last to the first.",
    )
    freeze: list[str] = Field(default_factory=list, description="Names of layers that are never trained.")
    rate_decay: Searchable[Annotated[float, Field(gt=0, le=1)]] = Field(
        1.0, description="A layer's learning rate, as a share of that of the layer after it."
    )


class Augment(Section):
    """How rows are changed at random before each step of training; what is 0 is not done."""

    flip: Searchable[Share] = Field(0.0, description="Of images, the share that is mirrored, left to right.")
    shift: Searchable[Fraction] = Field(0.0, description="Of images, how far they move, in shares of their side.")
    scale: Searchable[Fraction] = Field(
        0.0, description="Of images and series, how much their numbers are raised or lowered, each row's alike."
    )
    noise: Searchable[Annotated[float, Field(ge=0)]] = Field(
        0.0,
        description="Of images and series, the deviation of noise, in shares of the batch's own, of series of that of "
        "each channel in train.",
    )
    mixup: Searchable[Annotated[float, Field(ge=0)]] = Field(
        0.0,
        description="Alpha of mixup: two rows, or of texts the vectors of their words, are mixed, and so are labels.",
    )
    cutmix: Searchable[Annotated[float, Field(ge=0)]] = Field(
        0.0, description="Of images, alpha of cutmix: a box of one is pasted on another; labels count by area."
    )
    colour: Searchable[Share] = Field(
        0.0, description="Of images, how far brightness, contrast and saturation may change (needs kornia)."
    )
    rand_augment: Searchable[Share] = Field(
        0.0, description="Of images, RandAugment's magnitude in shares of the greatest, two operations (needs kornia)."
    )
    warp: Searchable[Fraction] = Field(0.0, description="Of series, how far their pace changes on the way.")
    crop: Searchable[Fraction] = Field(0.0, description="Of series, the most that is cut off at both ends together.")
    swap: Searchable[Share] = Field(0.0, description="Of texts, the share of tokens that trade places with the next.")


AUGMENTS = {
    "text_classification": ("swap", "mixup"),
    "image_classification": ("flip", "shift", "scale", "noise", "colour", "rand_augment", "mixup", "cutmix"),
    "sequence_classification": ("scale", "noise", "warp", "crop", "mixup"),
}


class Training(Section):
    """How a network is trained."""

    optimizer: Optimizers = Field(
        default_factory=lambda: Optimizers(adamw=AdamW()), description="How weights are updated."
    )
    schedule: Schedules = Field(
        default_factory=lambda: Schedules(linear=Falling()), description="How the learning rate changes."
    )
    loss: Losses = Field(
        default_factory=lambda: Losses(cross_entropy=CrossEntropy()), description="What training minimises."
    )
    class_weights: Searchable[Share] = Field(
        0.0, description="How far the loss makes up for rare classes: 0 not at all, 1 as if all had as many rows."
    )
    class_sampling: Searchable[Share] = Field(
        0.0,
        description="How far rare classes are drawn more often and common ones less: 0 as they come, 1 all alike.",
    )
    batch_size: Searchable[Positive] = Field(64, description="Rows in a step.")
    accumulation: Searchable[Positive] = Field(
        1, description="Parts in which a batch passes through the network, for batches that memory cannot hold."
    )
    ema: Searchable[Fraction | None] = Field(
        None, description="Decay of a moving average of the weights, which is what is measured and kept; null for none."
    )
    gradient_clip: Searchable[Rate | None] = Field(
        1.0, description="Gradients are scaled down to this norm; null for never."
    )
    precision: Literal["auto", "float32"] = Field(
        "auto", description="Numbers to compute with: bfloat16 where the machine does so natively, or always float32."
    )
    deterministic: bool = Field(
        False, description="Whether a GPU, too, gives the same figures each time, also after an interruption; slower."
    )
    init_from: InitFrom | None = Field(None, description="An earlier model to begin with; null for none.")
    augment: Augment | None = Field(None, description="How train rows are changed at random; null for not.")
    rows_per_epoch: Annotated[Whole, Field(ge=1)] | None = Field(
        None, description="Rows that count as an epoch, for a trial to be stopped inside a pass; null for a whole pass."
    )

    @model_validator(mode="after")
    def _batch_in_epoch(self) -> Training:
        largest = max(extremes(self.batch_size))
        if self.rows_per_epoch is not None and self.rows_per_epoch < largest:
            raise PydanticCustomError(
                "epoch",
                "rows_per_epoch {rows} is less than a batch of {batch} rows",
                {"rows": self.rows_per_epoch, "batch": largest},
            )
        return self
