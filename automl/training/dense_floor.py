"""The linear floor of images and series: logistic regression on the pixels of smaller ones, and on the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from automl.data import DenseRows, Encoder, load_encoder
from automl.data.encode import DenseEncoder
from automl.data.files import replace_folder
from automl.data.moments import ROUNDING
from automl.data.sequences import SequenceEncoder
from automl.space import UserError
from automl.training.tensor_files import read_tensors, write_tensors

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

DENSE_PENALTIES = (0.001, 0.01, 0.1, 1.0)  # inverse ones
DENSE_NAMES = {"image": "logistic regression on pixels", "series": "logistic regression on steps"}
NUMBERS = (torch.float64, torch.float32, torch.int64, torch.int32)
MOST_PIXELS = 16  # a side: more add little to a linear model and cost much


@dataclass(frozen=True)
class DenseLinear:
    """A fitted linear model with all that it does to raw images or series."""

    encoder: DenseEncoder
    regression: LogisticRegression
    classes: int

    def predict_probabilities(self, inputs: Sequence[Any]) -> npt.NDArray[np.float32]:
        """Probabilities float32 [inputs, classes] of what the encoder takes; 0 for a class that no train row had."""
        return self.of_rows(self.encoder.encode(inputs))

    def of_rows(self, rows: DenseRows) -> npt.NDArray[np.float32]:
        """The same of what the encoder gave."""
        probabilities = np.zeros((len(rows), self.classes), dtype=np.float32)
        features = dense_features(rows)
        probabilities[:, self.regression.classes_] = self.regression.predict_proba(features)
        return probabilities

    def save(self, folder: Path) -> None:
        """Write the folder with encoder.json and linear.safetensors, whole or not at all."""
        weights = {
            "coefficients": self.regression.coef_,
            "intercepts": self.regression.intercept_,
            "classes": self.regression.classes_,
            "count": np.array([self.classes]),
        }
        with replace_folder(folder) as temporary:
            self.encoder.save(temporary)
            write_tensors(temporary / "linear.safetensors", weights)


def load_dense_linear(folder: Path) -> DenseLinear:
    """Read what `DenseLinear.save` wrote. Raises UserError where it is damaged, OSError where a file is missing."""
    encoder = load_encoder(folder)
    if isinstance(encoder, Encoder):
        raise UserError(f"{folder} is damaged: its linear model is for texts, and has no terms")
    count = read_tensors(folder / "linear.safetensors").get("count")
    if count is None or count.shape != (1,) or count.is_floating_point() or int(count) < 1:
        raise UserError(f"{folder} is damaged: it does not say how many classes there are")
    regression, _ = load_regression(folder, int(count), features_of(encoder))
    return DenseLinear(encoder, regression, int(count))


def load_regression(
    folder: Path, classes: int, features: int
) -> tuple[LogisticRegression, dict[str, npt.NDArray[Any]]]:
    """The regression in `linear.safetensors`, which fits so many classes and features, and what else is there.

    Raises UserError where it does not.
    """
    from sklearn.linear_model import LogisticRegression

    path = folder / "linear.safetensors"
    found = {name: tensor.numpy() for name, tensor in read_tensors(path).items() if tensor.dtype in NUMBERS}
    wanted = ("coefficients", "intercepts", "classes")
    if not set(wanted) <= found.keys():
        raise UserError(f"{path} is damaged: it lacks one of {', '.join(wanted)}")
    coefficients, intercepts, known = (found.pop(name) for name in wanted)
    integers = known.ndim == 1 and known.dtype.kind == "i" and len(known) >= 2
    if not integers or known[0] < 0 or known[-1] >= classes or (np.diff(known) <= 0).any():
        raise UserError(f"{path} is damaged: its classes are not numbers of {classes:,} classes in order")
    rows = 1 if len(known) == 2 else len(known)
    if coefficients.shape != (rows, features) or intercepts.shape != (rows,):
        raise UserError(f"{path} is damaged: its coefficients are not {rows:,} of {features:,}")
    if not (np.isfinite(coefficients).all() and np.isfinite(intercepts).all()):
        raise UserError(f"{path} is damaged: its coefficients are not finite")
    regression = LogisticRegression()
    regression.coef_, regression.intercept_, regression.classes_ = coefficients, intercepts, known
    return regression, found


def features_of(encoder: DenseEncoder) -> int:
    """How many numbers `dense_features` gives of a row."""
    if isinstance(encoder, SequenceEncoder):
        return encoder.max_length * encoder.shape[1]
    square = -(-encoder.size // MOST_PIXELS)
    return (encoder.size // square) ** 2 * encoder.channels


def dense_features(rows: DenseRows) -> npt.NDArray[np.float32]:
    """What the linear model sees of images or series, float32 [rows, features]."""
    return _pixels(rows.values) if rows.values.ndim == 4 else _steps(rows.values)


def fit_standardised(
    regression: LogisticRegression, features: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> None:
    """Fit on features of mean 0 and deviation 1, then put both into the weights, which so take features as they are."""
    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    constant = deviation <= ROUNDING * np.abs(features).max(axis=0)
    deviation[constant] = 1
    regression.fit(np.where(constant, 0, (features - mean) / deviation), labels)
    regression.coef_ = np.where(constant, 0, regression.coef_ / deviation)
    regression.intercept_ = regression.intercept_ - regression.coef_ @ mean


def _steps(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """All channels of all steps side by side, 0 at padding."""
    flat: npt.NDArray[np.float32] = np.nan_to_num(values.reshape(len(values), -1))
    return flat


def _pixels(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Pixels of images of at most 16 by 16, each the mean of a square, from -1 to 1."""
    count, side, _, channels = images.shape
    square = -(-side // MOST_PIXELS)
    kept = side // square * square  # what is left over at the right and below is cut
    parts = []
    for start in range(0, count, 1024):
        values = images[start : start + 1024, :kept, :kept].astype(np.float32) / 127.5 - 1
        cut = values.reshape(len(values), kept // square, square, kept // square, square, channels)
        parts.append(cut.mean(axis=(2, 4)).reshape(len(values), -1))
    return np.concatenate(parts) if parts else np.zeros((0, (kept // square) ** 2 * channels), np.float32)
