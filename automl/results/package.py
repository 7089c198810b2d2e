"""The best model as a folder that needs nothing else of the run: raw texts in, labels and probabilities out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from automl.data import DenseRows, Encoder, load_encoder
from automl.data.encode import DenseEncoder
from automl.data.images import ImageEncoder
from automl.data.modalities import MODALITIES, Modality, modality_of
from automl.data.pixels import DAMAGED
from automl.data.sequences import SequenceEncoder
from automl.data.wide import Column, Steps
from automl.models.embedding import Standardise
from automl.results.calibration import calibrate
from automl.results.given import fault_of, listed
from automl.results.inputs import Inputs
from automl.results.package_config import (
    NAME,
    Member,
    PackageConfig,
    read_package_config,
)
from automl.results.predictions import average
from automl.space import UserError
from automl.space.families import FAMILIES
from automl.space.safe_files import read_regular
from automl.space.spec import tasks_of
from automl.training.dense_floor import DenseLinear
from automl.training.floor import Linear, load_linear
from automl.training.inference import default_device, load_weights, predict_probabilities, require_named
from automl.training.run_directory import RunDirectory

ENCODER_FILES = ("tokenizer.json", "encoder.json")
MOST_ENCODER = 64 * 1024 * 1024  # bytes of each
BATCH_ROWS = 256
KINDS = {  # of what rows hold, the task and the encoder
    "text": ("text_classification", Encoder),
    "image": ("image_classification", ImageEncoder),
    "series": ("sequence_classification", SequenceEncoder),
}
MOST_TEXTS = 65_536  # that are prepared at a time
MOST_NUMBERS = 2**24  # pixels or steps of the images or series that are


@dataclass(frozen=True)
class Prediction:
    """A label and the probability of every class, in the order of the model's classes."""

    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Model:
    """A trained model with the whole preparation inside."""

    classes: tuple[str, ...]
    column: Column
    """That of the inputs, where a table does not call it otherwise."""
    label_column: str
    members: tuple[tuple[Encoder | DenseEncoder, nn.Module], ...]
    """One, those of an ensemble, or none; members whose inputs are prepared alike share an encoder."""
    linear: Linear | DenseLinear | None = None
    """The other half of an ensemble, or the whole model."""
    temperature: float = 1.0
    """At which the probabilities are calibrated."""
    modality: Modality = MODALITIES["text"]
    """What it is asked about."""
    no_inputs: tuple[str, ...] = ()
    """Columns that are no inputs, whatever pattern these have."""
    steps: tuple[tuple[str, ...], ...] = ()
    """Of series across columns: those of each channel, in the order of the training data."""

    def steps_in(self, column: Column) -> Steps:
        """The steps that are known of inputs in `column`: those of the training data, where it names no others."""
        return self.steps if column == self.column else ()

    def predict_probabilities(self, inputs: Any) -> npt.NDArray[np.float32]:
        """Calibrated probabilities float32 [inputs, classes], those of the members averaged.

        Inputs are what `automl.results.given` lists: raw texts; images (the bytes or the path of a file, a PIL image,
        or pixels, [height, width] or [height, width, channels]); or series, [steps] or [steps, channels] of numbers; in
        a list, generator, array, column or table. A number that a series lacks is None or NaN. Raises UserError, which
        says the number of the first input that cannot be used.
        """
        place = Inputs(self.column, self.modality, self.no_inputs, self.steps)
        items = listed(inputs, place, self.channels)
        if self.modality.name == "text":
            return self.probabilities(items)
        try:
            return self.probabilities(items)
        except (*DAMAGED, UserError) as error:
            raise self._refused(items, place) or error from error

    def probabilities(self, inputs: Sequence[Any]) -> npt.NDArray[np.float32]:
        """The same of inputs as a table is read: texts, files' bytes, packed series."""
        found = [np.zeros((0, len(self.classes)), dtype=np.float32)]
        found += [self._probabilities(inputs[start : start + self.step]) for start in range(0, len(inputs), self.step)]
        return np.concatenate(found)

    @property
    def encoders(self) -> list[Encoder | DenseEncoder]:
        """Those of all members, each once, and of the linear model where it has one of its own."""
        found = list({id(encoder): encoder for encoder, _ in self.members}.values())
        if isinstance(self.linear, DenseLinear) and self.linear.encoder not in found:
            found.append(self.linear.encoder)
        return found

    @property
    def channels(self) -> int:
        """Of series: numbers at each step; else 1."""
        return next((encoder.channels for encoder in self.encoders if isinstance(encoder, SequenceEncoder)), 1)

    def _refused(self, items: Sequence[Any], place: Inputs) -> UserError | None:
        for number, item in enumerate(items):
            for encoder in self.encoders:
                try:
                    encoder.encode([item])
                except (*DAMAGED, UserError) as error:
                    return UserError(f"input {number} cannot be used: {fault_of(item, error, place, self.channels)}")
        return None

    @property
    def step(self) -> int:
        """How many inputs are prepared at a time, so that they fit in memory, however large a model wants them."""
        shapes = [encoder.shape for encoder in self.encoders if not isinstance(encoder, Encoder)]
        return max(1, MOST_NUMBERS // max(map(math.prod, shapes))) if shapes else MOST_TEXTS

    def _probabilities(self, inputs: Sequence[Any]) -> npt.NDArray[np.float32]:
        encoders = list({id(encoder): encoder for encoder, _ in self.members}.values())
        rows = {id(encoder): encoder.encode(inputs) for encoder in encoders}  # once, however many members share one
        said = []
        for encoder, module in self.members:
            size = min(BATCH_ROWS, self.step)
            voice = predict_probabilities(module, rows[id(encoder)], device=default_device(), batch_size=size)
            if voice.shape[1] != len(self.classes):
                raise UserError(f"the model gives {voice.shape[1]:,} probabilities, for {len(self.classes):,} classes")
            said.append(voice)
        linear, alone = self.linear, None
        if isinstance(linear, DenseLinear):
            known = next((rows[id(each)] for each in encoders if each == linear.encoder), None)
            alone = linear.of_rows(known if isinstance(known, DenseRows) else linear.encoder.encode(inputs))
        elif linear is not None:
            alone = linear.predict_probabilities(inputs)
        return calibrate(average(said, alone), self.temperature)

    def predict(self, inputs: Any) -> list[Prediction]:
        """The most probable label of each input, and what each class has; inputs as for `predict_probabilities`."""
        return self._predictions(self.predict_probabilities(inputs))

    def predict_read(self, inputs: Sequence[Any]) -> list[Prediction]:
        """The same of inputs as for `probabilities`."""
        return self._predictions(self.probabilities(inputs))

    def _predictions(self, probabilities: npt.NDArray[np.float32]) -> list[Prediction]:
        return [
            Prediction(self.classes[int(row.argmax())], dict(zip(self.classes, map(float, row), strict=True)))
            for row in probabilities
        ]


def load_model(path: str | Path, families: Sequence[str] = ()) -> Model:
    """Load the model of a run directory or of a best_model directory; nothing is unpickled.

    No module of a user's is imported but those of `families`, such as `my_module:my_net`. Raises UserError where there
    is no model, where it is damaged or of a later version, or where it needs a family that is not named.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"there is no model or run directory {path}")
    if RunDirectory(folder).manifest.is_file():
        folder = RunDirectory(folder).best_model
        if not folder.is_dir():
            raise UserError(f"the run {path} has no best model yet: no trial has ended")
    if not (folder / NAME).exists():
        raise UserError(f"{path} is neither a run directory nor a model directory: it has no {NAME}")
    config = read_package_config(folder)
    try:
        members = _load_members(folder, config, families)
        linear = None if config.linear is None else _load_linear(folder, config)
    except OSError as error:
        raise UserError(f"the model in {folder} is damaged: {error.strerror or error}: {error.filename}") from error
    return Model(
        tuple(config.classes),
        config.column,
        config.label_column,
        members,
        linear,
        config.temperature,
        _modality(config, linear),
        config.no_inputs,
        tuple(map(tuple, config.steps)),
    )


def _modality(config: PackageConfig, linear: Linear | DenseLinear | None) -> Modality:
    """What the model is asked about; a linear model alone keeps in its encoder what it does about missing numbers."""
    if not config.members and isinstance(linear, DenseLinear) and isinstance(linear.encoder, SequenceEncoder):
        return modality_of({"series": config.column, "missing": linear.encoder.missing})
    return config.modality


def _load_members(
    folder: Path, config: PackageConfig, families: Sequence[str]
) -> tuple[tuple[Encoder | DenseEncoder, nn.Module], ...]:
    """Encoder and network of each member; no path leads out of `folder`."""
    encoders: dict[tuple[bytes, ...], Encoder | DenseEncoder] = {}
    found = []
    for member in config.members:
        part = _inside(folder, member.folder)
        require_named(member.config.model, families, f"the model in {folder}")  # before anything large is read
        files = [_inside(folder, str(part / name)) for name in (*ENCODER_FILES, "model.safetensors")]
        alike = tuple(read_regular(file, MOST_ENCODER) for file in files[:-1] if file.exists())
        if alike not in encoders:
            encoders[alike] = load_encoder(part)
        encoder = encoders[alike]
        _require_fitting(part, config.modality, encoder, member)
        module = load_weights(
            {"model": member.config.model},
            vocabulary=member.vocabulary,
            classes=len(config.classes),
            path=files[-1],
            families=families,
        )
        _require_channels(part, encoder, module, member)
        found.append((encoder, module.to(default_device())))
    return tuple(found)


def _require_fitting(part: Path, modality: Modality, encoder: Encoder | DenseEncoder, member: Member) -> None:
    """Raise UserError where a member's encoder or family is for other inputs."""
    ((family, _),) = member.config.model.items()
    task, kind = KINDS[modality.name]
    if type(encoder) is not kind:
        reason = f"its encoder is not one of {modality.plural}"
    elif family in FAMILIES and task not in tasks_of(FAMILIES[family]):
        reason = f"{family} takes no {modality.plural}"
    elif isinstance(encoder, Encoder) and encoder.tokenizer.get_vocab_size() > member.vocabulary:
        reason = f"its tokenizer has more tokens than the {member.vocabulary:,} of its vocabulary"
    else:
        return
    raise UserError(f"the model in {part} is damaged: {reason}")


def _require_channels(part: Path, encoder: Encoder | DenseEncoder, module: nn.Module, member: Member) -> None:
    """Raise UserError where a network of this package does not take what its encoder gives."""
    ((family, _),) = member.config.model.items()
    wanted = [0] if isinstance(encoder, Encoder) else [encoder.shape[-1]]
    found = [len(layer.mean) for layer in module.modules() if isinstance(layer, Standardise)] or [0]
    if family in FAMILIES and family != "pretrained" and found != wanted:  # which takes grey and colour alike
        reason = f"its network takes {found[0]} channels, its encoder gives {wanted[0]}"
        raise UserError(f"the model in {part} is damaged: {reason}")


def _load_linear(folder: Path, config: PackageConfig) -> Linear | DenseLinear:
    assert config.linear is not None
    part = _inside(folder, config.linear)
    for file in part.iterdir():
        _inside(folder, str(file))
    linear = load_linear(part)
    if linear.classes != len(config.classes) or isinstance(linear, Linear) != (config.modality.name == "text"):
        raise UserError(f"the model in {folder} is damaged: its linear model is for other classes or other inputs")
    if isinstance(linear, DenseLinear) and type(linear.encoder) is not KINDS[config.modality.name][1]:
        raise UserError(f"the model in {folder} is damaged: its linear model is for other inputs")
    return linear


def _inside(folder: Path, name: str) -> Path:
    """`name`, relative to `folder`, with all links followed; raises UserError where that leads out of it.

    In a Hugging Face cache a snapshot is a folder of links to the files in `blobs`, beside `snapshots`.
    """
    try:
        part, root = (folder / name).resolve(), folder.resolve()
        blobs = [each.parent / "blobs" for each in root.parents if each.name == "snapshots"]
        inside = any(part.is_relative_to(each) for each in (root, *blobs))
    except (OSError, ValueError, RuntimeError):  # a link to itself, a name with a zero byte
        inside = False
    if not inside:
        raise UserError(f"the model in {folder} is damaged: a part of it lies outside, in {name[:200]}")
    return part
