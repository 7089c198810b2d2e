"""The linear floor of images and series: logistic regression on the pixels of smaller ones, and on the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from automl.data import DenseRows, Encoder, load_encoder
from automl.data.encode import DenseEncoder
from automl.data.files import replace_folder

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

DENSE_PENALTIES = (0.001, 0.01, 0.1, 1.0)  # inverse ones
DENSE_NAMES = {"image": "logistic regression on pixels", "series": "logistic regression on steps"}
MOST_PIXELS = 16  # a side: more add little to a linear model and cost much


@dataclass(frozen=True)
class DenseLinear:
    """A fitted linear model with all that it does to raw images or series."""

    encoder: DenseEncoder
    regression: LogisticRegression
    classes: int

    def predict_probabilities(self, inputs: Sequence[Any]) -> npt.NDArray[np.float32]:
        """Probabilities float32 [inputs, classes] of what the encoder takes; 0 for a class that no train row had."""
        probabilities = np.zeros((len(inputs), self.classes), dtype=np.float32)
        features = dense_features(self.encoder.encode(inputs))
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
            arrays = {name: np.ascontiguousarray(value) for name, value in weights.items()}
            save_file(arrays, temporary / "linear.safetensors")


def load_dense_linear(folder: Path) -> DenseLinear:
    """Read what `DenseLinear.save` wrote."""
    from sklearn.linear_model import LogisticRegression

    weights = load_file(folder / "linear.safetensors")
    encoder = load_encoder(folder)
    assert not isinstance(encoder, Encoder)
    regression = LogisticRegression()
    regression.coef_, regression.intercept_ = weights["coefficients"], weights["intercepts"]
    regression.classes_ = weights["classes"]
    return DenseLinear(encoder, regression, int(weights["count"][0]))


def dense_features(rows: DenseRows) -> npt.NDArray[np.float32]:
    """What the linear model sees of images or series, float32 [rows, features]."""
    return _pixels(rows.values) if rows.values.ndim == 4 else _steps(rows.values)


def fit_standardised(
    regression: LogisticRegression, features: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> None:
    """Fit on features of mean 0 and deviation 1, then put both into the weights, which so take features as they are."""
    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    deviation[deviation == 0] = 1
    regression.fit((features - mean) / deviation, labels)
    regression.coef_ = regression.coef_ / deviation
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
