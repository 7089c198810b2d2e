"""The best model as a folder that needs nothing else of the run: raw texts in, labels and probabilities out."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from automl.data import Encoder, load_encoder
from automl.data.encode import DenseEncoder
from automl.data.files import replace_folder
from automl.data.modalities import MODALITIES, Modality, modality_of
from automl.data.wide import Column
from automl.results.calibration import calibrate, calibration_figures
from automl.results.card import model_card
from automl.results.finalists import prepared_data
from automl.results.predictions import average
from automl.results.study import ENSEMBLE, RunRecord
from automl.space import UserError
from automl.training.dense_floor import DenseLinear
from automl.training.floor import Linear, load_linear
from automl.training.inference import default_device, load_weights, predict_probabilities
from automl.training.run_directory import RunDirectory, TrialDirectory, read_json, write_json

FORMAT_VERSION = 1


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
    """One, or those of an ensemble; members whose inputs are prepared alike share an encoder."""
    linear: Linear | DenseLinear | None = None
    """The other half of an ensemble."""
    temperature: float = 1.0
    """At which the probabilities are calibrated."""
    modality: Modality = MODALITIES["text"]
    """What it is asked about."""

    def predict_probabilities(self, inputs: Sequence[Any]) -> npt.NDArray[np.float32]:
        """Calibrated probabilities float32 [inputs, classes], those of the members averaged.

        Inputs are raw texts, the bytes of image files, or series, [steps] or [steps, channels] of numbers.
        """
        if not inputs:
            return np.zeros((0, len(self.classes)), dtype=np.float32)
        rows = {id(encoder): encoder.encode(inputs) for encoder, _ in self.members}
        said = [
            predict_probabilities(module, rows[id(encoder)], device=default_device())
            for encoder, module in self.members
        ]
        linear = None if self.linear is None else self.linear.predict_probabilities(inputs)
        return calibrate(average(said, linear), self.temperature)

    def predict(self, inputs: Sequence[Any]) -> list[Prediction]:
        """The most probable label of each raw text, image (bytes of its file) or series, and what each class has."""
        return [
            Prediction(self.classes[int(row.argmax())], dict(zip(self.classes, map(float, row), strict=True)))
            for row in self.predict_probabilities(inputs)
        ]


def write_best_model(record: RunRecord) -> Path | None:
    """Write `best_model/` of the trial that ranks first, or of the ensemble where that is the best model.

    None, and nothing written, where no trial has weights. Where the data has gone, the package stays that was written
    for the same trials; else raises UserError.
    """
    best = next((trial for trial in record.ranked if record.directory.trial(trial.number).weights.exists()), None)
    if best is None or record.finalists is None:
        return None
    numbers = record.ensemble["members"] if record.ensemble else [best.number]
    members = [trial for number in numbers for trial in record.ranked if trial.number == number]
    try:
        prepared = [prepared_data(record, trial.config) for trial in members]
    except UserError:
        if not _is_of(record.directory.best_model, numbers):
            raise
        return record.directory.best_model
    figures = dict(record.ensemble or record.finalists["trials"][str(best.number)])
    linear = figures.pop("linear", False)
    figures.pop("members", None)
    if record.refitted(best.number):
        figures |= {"test": figures["refit"]["test"], "test_before_refit": figures["test"]}
    for name in ("refit", "latency", "test_interval", "best_ahead"):
        figures.pop(name, None)
    temperature = 1.0
    if record.finalists.get("confusion_of") == (ENSEMBLE if record.ensemble else best.number):
        calibrated = dict(record.finalists["calibration"])
        temperature = calibrated.pop("temperature")
        figures = {**figures, **calibrated, "before_calibration": calibration_figures(figures)}
    config = {
        "format_version": FORMAT_VERSION,
        "task": record.manifest["task"],
        "classes": list(prepared[0].classes),
        "column": best.config["data"][modality_of(best.config["data"]).name],
        "label_column": best.config["data"]["label"],
        "run": record.directory.name,
        "members": [
            {
                "folder": f"members/{trial.number}" if len(members) > 1 else ".",
                "trial": trial.number,
                "vocabulary": data.vocabulary,
                "config": dict(trial.config),
            }
            for trial, data in zip(members, prepared, strict=True)
        ],
        "linear": "linear" if linear else None,
        "temperature": temperature,
    }
    with replace_folder(record.directory.best_model) as folder:
        for member, trial, data in zip(config["members"], members, prepared, strict=True):
            refitted = record.refitted(trial.number)
            source = TrialDirectory(record.directory.refit) if refitted else record.directory.trial(trial.number)
            (folder / member["folder"]).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.weights, folder / member["folder"] / "model.safetensors")
            data.encoder().save(folder / member["folder"])
        if linear:
            shutil.copytree(record.directory.linear, folder / "linear")
        write_json(folder / "config.json", config)
        write_json(folder / "metrics.json", figures)
        (folder / "README.md").write_text(model_card(record, members, config, figures), encoding="utf-8")
    return record.directory.best_model


def load_model(path: str | Path) -> Model:
    """Load the model of a run directory or of a best_model directory; nothing is unpickled.

    Raises UserError where there is none, or where it is damaged or of a later version.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"there is no model or run directory {path}")
    if RunDirectory(folder).manifest.is_file():
        folder = RunDirectory(folder).best_model
        if not folder.is_dir():
            raise UserError(f"the run {path} has no best model yet: no trial has ended")
    if not (folder / "config.json").is_file():
        raise UserError(f"{path} is neither a run directory nor a model directory: it has no config.json")
    try:
        config = read_json(folder / "config.json")
        version = config.get("format_version")
        if version is None:
            raise UserError(f"{path} is neither a run directory nor a model directory; name one of them")
        if version > FORMAT_VERSION:
            raise UserError(f"{folder} was written by a later version of automl; upgrade to use it")
        members = _load_members(folder, config)
        linear = load_linear(_inside(folder, config["linear"])) if config["linear"] else None
    except UserError:
        raise
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise UserError(f"the model in {folder} is damaged: {type(error).__name__}: {error}") from error
    return Model(
        tuple(config["classes"]),
        config.get("column") or config["text_column"],  # as earlier versions called it
        config["label_column"],
        members,
        linear,
        config.get("temperature", 1.0),
        modality_of(config["members"][0]["config"]["data"]),
    )


def _load_members(folder: Path, config: Mapping[str, Any]) -> tuple[tuple[Encoder | DenseEncoder, nn.Module], ...]:
    """Encoder and network of each member; no path leads out of `folder`."""
    encoders: dict[tuple[bytes, ...], Encoder | DenseEncoder] = {}
    found = []
    for member in config["members"]:
        part = _inside(folder, member["folder"])
        files = (part / name for name in ("tokenizer.json", "encoder.json"))
        alike = tuple(file.read_bytes() for file in files if file.exists())
        encoder = encoders.setdefault(alike, load_encoder(part))
        module = load_weights(
            member["config"],
            vocabulary=member["vocabulary"],
            classes=len(config["classes"]),
            path=part / "model.safetensors",
        )
        found.append((encoder, module.to(default_device())))
    return tuple(found)


def _inside(folder: Path, name: str) -> Path:
    part = (folder / name).resolve()
    if not part.is_relative_to(folder.resolve()):
        raise UserError(f"the model in {folder} is damaged: a part of it lies outside, in {name}")
    return part


def _is_of(folder: Path, numbers: Sequence[int]) -> bool:
    path = folder / "config.json"
    return path.is_file() and [member["trial"] for member in read_json(path).get("members", [])] == list(numbers)
