"""The sections of a search-space file: what may be written, what it means, and what holds where it is left out."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from automl.space.ranges import FloatRange, Searchable, Whole

Fraction = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A mapping in the file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Alternatives(Section):
    """A mapping of names to sections of which a trial has one: a conditional space. At least one is named."""

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any) -> Any:
        """`cnn:` with nothing behind it is `cnn: {}`."""
        if isinstance(value, dict):
            return {name: {} if inner is None else inner for name, inner in value.items()}
        return value

    @model_validator(mode="after")
    def _named(self) -> Alternatives:
        if not self.named():
            raise PydanticCustomError(
                "alternatives",
                "expected at least one of {names}",
                {"names": ", ".join(type(self).model_fields)},
            )
        return self

    def named(self) -> dict[str, Section]:
        """The alternatives that the file names."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: section for name, section in found.items() if section is not None}


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _number_or_files(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 < value < 1:
            raise PydanticCustomError("fraction", "expected a fraction between 0 and 1; got {value}", {"value": value})
        return float(value)
    files = _listed(value)
    if not isinstance(files, list) or not files or not all(isinstance(file, str) and file for file in files):
        raise PydanticCustomError("files", "expected a fraction between 0 and 1, or files")
    return files


def _whole_or_auto(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise PydanticCustomError("auto", "expected auto or a whole number of at least 1")


_FILES_SCHEMA = [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
_FRACTION_SCHEMA = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
Files = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    Field(min_length=1),
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": _FILES_SCHEMA}),
]
FractionOrFiles = Annotated[
    Any, BeforeValidator(_number_or_files), WithJsonSchema({"anyOf": [_FRACTION_SCHEMA, *_FILES_SCHEMA]})
]
WholeOrAuto = Annotated[
    Any,
    BeforeValidator(_whole_or_auto),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
]
Replacement = Literal["keep", "replace", "remove"]


class Clean(Section):
    """How texts are cleaned, in this order."""

    fix_encoding: Searchable[bool] = Field(True, description="Mend text that was decoded wrongly (mojibake).")
    strip_html: Searchable[bool] = Field(True, description="Remove tags, scripts and styles; resolve entities.")
    urls: Searchable[Replacement] = Field("replace", description="URLs: keep, replace by <url>, or remove.")
    user_names: Searchable[Replacement] = Field("replace", description="@names: keep, replace by <user>, or remove.")
    numbers: Searchable[Replacement] = Field("keep", description="Numbers: keep, replace by <number>, or remove.")
    lowercase: Searchable[bool] = Field(True, description="Lowercase everything.")


class WordTokenizer(Section):
    """Words, runs of punctuation, and the marks of cleaning."""

    vocabulary: Searchable[Annotated[int, Field(ge=10)]] = Field(
        20_000, description="At most so many different tokens."
    )
    min_count: Searchable[Positive] = Field(2, description="Rarer words are unknown.")


class CharTokenizer(Section):
    """Single characters."""

    vocabulary: Searchable[Annotated[int, Field(ge=10)]] = Field(2_000, description="At most so many different tokens.")


class BpeTokenizer(Section):
    """Byte-pair encoding (Sennrich et al. 2016): frequent words whole, rare ones in parts."""

    vocabulary: Searchable[Annotated[int, Field(ge=300)]] = Field(
        8_000, description="At most so many different tokens."
    )


class Tokenizers(Alternatives):
    """How texts are cut into tokens."""

    word: WordTokenizer | None = None
    char: CharTokenizer | None = None
    bpe: BpeTokenizer | None = None


class Data(Section):
    """Which rows, and how they are prepared. Paths are relative to the current directory."""

    train: Files = Field(description="A file, folder or glob, or several: Parquet, CSV, JSON Lines or Arrow.")
    validation: FractionOrFiles = Field(0.1, description="A fraction of train, drawn by label, or files.")
    test: Files | None = Field(
        None, description="Files that the search never sees; only the leaders are measured on it."
    )
    text: str = Field("text", min_length=1, description="The column with the text.")
    label: str = Field("label", min_length=1, description="The column with the label.")
    on_bad_rows: Literal["fail", "report"] = Field(
        "fail", description="Rows without text or label: an error, or left out and counted."
    )
    clean: Clean = Field(default_factory=Clean, description="How texts are cleaned.")
    tokenizer: Tokenizers = Field(
        default_factory=lambda: Tokenizers(word=WordTokenizer()), description="How texts are cut into tokens."
    )
    max_length: Searchable[WholeOrAuto] = Field(
        "auto", description="Tokens kept of a text; auto takes the 99th percentile of train."
    )


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


class Optimizers(Alternatives):
    """How weights are updated."""

    adamw: AdamW | None = None
    sgd: Sgd | None = None


class Constant(Section):
    """The same learning rate throughout."""


class Falling(Section):
    """A rise over the first share of all steps, then a fall to 0 at the last epoch of the longest trial."""

    warmup: Searchable[Fraction] = Field(0.05, description="Share of all steps with a rising rate.")


class Schedules(Alternatives):
    """How the learning rate changes."""

    constant: Constant | None = None
    linear: Falling | None = None
    cosine: Falling | None = None


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
    batch_size: Searchable[Positive] = Field(64, description="Rows in a step.")
    gradient_clip: Searchable[Rate] | None = Field(
        1.0, description="Gradients are scaled down to this norm; null for never."
    )


class Asha(Section):
    """Asynchronous successive halving: of the trials that reach a rung the best 1/reduction_factor go on."""

    max_epochs: Annotated[Whole, Field(ge=1)] = Field(9, description="Epochs of a trial that is never stopped.")
    grace_period: Annotated[Whole, Field(ge=1)] = Field(1, description="The first rung: epochs that every trial has.")
    reduction_factor: Annotated[Whole, Field(ge=2)] = Field(
        3, description="From a rung to the next, and how few go on."
    )

    @model_validator(mode="after")
    def _check(self) -> Asha:
        if self.grace_period > self.max_epochs:
            raise PydanticCustomError(
                "asha",
                "grace_period {grace} is more than max_epochs {most}, so nothing would be stopped early",
                {"grace": self.grace_period, "most": self.max_epochs},
            )
        return self

    def rungs(self) -> tuple[int, ...]:
        """Epochs after which a trial may be stopped, all below `max_epochs`."""
        found, epoch = [], self.grace_period
        while epoch < self.max_epochs:
            found.append(epoch)
            epoch *= self.reduction_factor
        return tuple(found)


class NoStopping(Section):
    """Every trial runs all its epochs."""

    max_epochs: Annotated[Whole, Field(ge=1)] = Field(9, description="Epochs of a trial.")


class EarlyStopping(Alternatives):
    """Which trials are stopped early: exactly one way."""

    asha: Asha | None = None
    none: NoStopping | None = None

    @model_validator(mode="after")
    def _one(self) -> EarlyStopping:
        if len(self.named()) > 1:
            raise PydanticCustomError("alternatives", "expected one way of early stopping, asha or none, not both")
        return self

    @property
    def max_epochs(self) -> int:
        """Epochs of a trial that is never stopped."""
        way = self.asha or self.none
        assert way is not None
        return way.max_epochs

    def rungs(self) -> tuple[int, ...]:
        """Epochs after which a trial may be stopped; none where nothing is."""
        return self.asha.rungs() if self.asha else ()


_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def duration_seconds(text: str) -> float:
    """Seconds of `90s`, `20m`, `2h` or `1h30m`; raises PydanticCustomError for anything else."""
    match = _DURATION.fullmatch(text.replace(" ", "").lower())
    seconds = (
        sum(float(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    )
    if seconds <= 0:
        raise PydanticCustomError(
            "duration", "expected a time such as 90s, 20m, 2h or 1h30m; got {text}", {"text": text}
        )
    return float(seconds)


def _duration(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise PydanticCustomError(
            "duration", "say the unit of {value}: {value}s, {value}m or {value}h", {"value": value}
        )
    if isinstance(value, str):
        duration_seconds(value)
    return value


class Search(Section):
    """What is looked for, for how long, and how."""

    metric: Literal["accuracy", "balanced_accuracy", "macro_f1", "loss"] = Field(
        "accuracy", description="On validation; maximised, but loss is minimised."
    )
    trials: Annotated[Whole, Field(ge=1)] = Field(20, description="How many trials.")
    time_budget: Annotated[str | None, BeforeValidator(_duration)] = Field(
        None, description="How long, e.g. 90s, 20m, 1h30m; the search ends with whichever comes first."
    )
    sampler: Literal["tpe", "random"] = Field("tpe", description="How trials are proposed.")
    early_stopping: EarlyStopping = Field(
        default_factory=lambda: EarlyStopping(asha=Asha()), description="Which trials are stopped early."
    )
    seed: Annotated[Whole, Field(ge=0, le=2**31 - 1)] = Field(0, description="Of everything random.")

    @property
    def mode(self) -> str:
        """`max`, or `min` for loss."""
        return "min" if self.metric == "loss" else "max"

    @property
    def max_epochs(self) -> int:
        """Epochs of a trial that is never stopped."""
        return self.early_stopping.max_epochs

    @property
    def time_budget_seconds(self) -> float | None:
        """The time budget in seconds."""
        return None if self.time_budget is None else duration_seconds(self.time_budget)


class PerTrial(Section):
    """What one trial uses."""

    cpus: Annotated[float, Field(gt=0)] = Field(1.0, description="CPU cores.")
    gpus: Annotated[float, Field(ge=0)] = Field(0.0, description="GPUs; a fraction shares one.")


class Resources(Section):
    """What the search may use."""

    per_trial: PerTrial = Field(default_factory=PerTrial, description="What one trial uses.")
    max_concurrent: WholeOrAuto = Field("auto", description="Trials at once; auto is as many as fit.")


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", value):
        raise PydanticCustomError(
            "name", "a name is 1 to 64 letters, digits, '-', '_' or '.', and begins with a letter or digit"
        )
    return value


class SearchSpec(Section):
    """A whole search-space file."""

    name: Annotated[str, AfterValidator(_name)] = Field(description="Names the run directory.")
    task: Literal["text_classification"] = Field("text_classification", description="What is learned.")
    data: Data
    model: Alternatives = Field(description="The families to search; {} means a family's own default ranges.")
    training: Training = Field(default_factory=Training)
    search: Search = Field(default_factory=Search)
    resources: Resources = Field(default_factory=Resources)
