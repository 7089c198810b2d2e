"""What the finalists say of each validation and test row, kept with the run: `predictions.safetensors`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from automl.data.files import replace_atomically
from automl.space import UserError
from automl.training.run_directory import RunDirectory
from automl.training.run_files import read_manifest

Probabilities = npt.NDArray[np.float32]
LABELS = "labels"
LINEAR = "linear"
SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Predictions:
    """By split: `labels` int64 [rows], and `said`, by the trial's number or `linear`, float32 [rows, classes].

    The rows are in the order of the prepared data, the same for all; `rows` is a digest of what they hold.
    """

    rows: dict[str, str] = field(default_factory=dict)
    labels: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    said: dict[str, dict[str, Probabilities]] = field(default_factory=dict)


def read_predictions(run: RunDirectory) -> Predictions:
    """What `write_predictions` wrote, empty where that has not been; raises UserError where it is damaged.

    Whatever the file holds, there are labels for each split, of the classes that the manifest names, and as many rows
    of as many probabilities; no more memory is taken than the file has bytes.
    """
    path = run.predictions
    if not path.exists():
        return Predictions()
    if not path.is_file():
        raise UserError(f"{path} is not a regular file")
    try:
        with safe_open(path, framework="numpy") as file:
            found = Predictions(rows=dict(file.metadata() or {}))
            for name in file.keys():  # noqa: SIM118
                split, _, what = name.partition("/")
                part, kind = file.get_slice(name), "I64" if what == LABELS else "F32"
                if split not in SPLITS or part.get_dtype() != kind:
                    raise UserError(f"{path} is damaged: {name} is no {kind} of validation or test")
                if what == LABELS:
                    found.labels[split] = file.get_tensor(name)
                else:
                    found.said.setdefault(split, {})[what] = file.get_tensor(name)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    _check(found, len(read_manifest(run)["data"]["classes"]), path)
    return found


def _check(found: Predictions, classes: int, path: Path) -> None:
    for split, said in found.said.items():
        labels = found.labels.get(split)
        if labels is None or labels.ndim != 1 or not len(labels) or split not in found.rows:
            raise UserError(f"{path} is damaged: {split} has no labels")
        if labels.min() < 0 or labels.max() >= classes:
            raise UserError(f"{path} is damaged: a label of {split} is none of {classes} classes")
        for name, values in said.items():
            if values.shape != (len(labels), classes):
                raise UserError(f"{path} is damaged: {split}/{name} has the shape {[*values.shape]}")
            if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1.001):
                raise UserError(f"{path} is damaged: {split}/{name} are no probabilities")


def write_predictions(run: RunDirectory, predictions: Predictions) -> None:
    """Write `predictions.safetensors`, whole or not at all; its tensors are called `validation/21`, `test/labels`."""
    tensors: dict[str, npt.NDArray[np.float32] | npt.NDArray[np.int64]] = {
        f"{split}/{LABELS}": labels for split, labels in predictions.labels.items()
    }
    for split, said in predictions.said.items():
        tensors |= {f"{split}/{name}": np.ascontiguousarray(values) for name, values in said.items()}
    with replace_atomically(run.predictions) as temporary:
        temporary.write_bytes(save(tensors, metadata=predictions.rows))  # `save_file` lets nobody else read it


def average(networks: Sequence[Probabilities], linear: Probabilities | None) -> Probabilities:
    """The probabilities of an ensemble, from those of its networks and of the linear model, if that is part of it."""
    if not networks and linear is not None:
        return linear
    mean: Probabilities = np.mean(networks, axis=0, dtype=np.float32)
    return mean if linear is None else np.mean([mean, linear], axis=0, dtype=np.float32)
