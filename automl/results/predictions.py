"""What the finalists say of each validation and test row, kept with the run: `predictions.safetensors`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from automl.data.files import replace_atomically
from automl.space import UserError
from automl.training.run_directory import RunDirectory

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
    """What `write_predictions` wrote, empty where that has not been; raises UserError where it is damaged."""
    if not run.predictions.exists():
        return Predictions()
    try:
        with safe_open(run.predictions, framework="numpy") as file:
            found = Predictions(rows=dict(file.metadata() or {}))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{run.predictions} is damaged: {error}") from error
    for name, values in tensors.items():
        split, _, what = name.partition("/")
        if what == LABELS:
            found.labels[split] = values.astype(np.int64)
        else:
            found.said.setdefault(split, {})[what] = values
    return found


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
    mean: Probabilities = np.mean(networks, axis=0, dtype=np.float32)
    return mean if linear is None else np.mean([mean, linear], axis=0, dtype=np.float32)
