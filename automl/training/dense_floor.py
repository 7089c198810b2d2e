"""The linear floor of images: logistic regression on the pixels of smaller ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from automl.data import DenseRows, Encoder, load_encoder
from automl.data.files import replace_folder
from automl.data.images import ImageEncoder

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

PIXEL_PENALTIES = (0.01, 0.1, 1.0)  # inverse ones
PIXEL_NAME = "logistic regression on pixels"
MOST_PIXELS = 16  # a side: more add little to a linear model and cost much


@dataclass(frozen=True)
class DenseLinear:
    """A fitted linear model with all that it does to raw images."""

    encoder: ImageEncoder
    regression: LogisticRegression
    classes: int

    def predict_probabilities(self, images: Sequence[Any]) -> npt.NDArray[np.float32]:
        """Probabilities float32 [images, classes] of files' bytes; 0 for a class that no train row had."""
        probabilities = np.zeros((len(images), self.classes), dtype=np.float32)
        features = pixel_features(self.encoder.encode(images))
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


def pixel_features(rows: DenseRows) -> npt.NDArray[np.float32]:
    """Pixels of images of at most 16 by 16, each the mean of a square, from -1 to 1: float32 [rows, pixels]."""
    count, side, _, channels = rows.values.shape
    square = -(-side // MOST_PIXELS)
    kept = side // square * square  # what is left over at the right and below is cut
    parts = []
    for start in range(0, count, 1024):
        values = rows.values[start : start + 1024, :kept, :kept].astype(np.float32) / 127.5 - 1
        cut = values.reshape(len(values), kept // square, square, kept // square, square, channels)
        parts.append(cut.mean(axis=(2, 4)).reshape(len(values), -1))
    return np.concatenate(parts) if parts else np.zeros((0, (kept // square) ** 2 * channels), np.float32)
