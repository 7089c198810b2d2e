"""A fitted linear model as a module of PyTorch, so that it can be a part of an exported graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from automl.data import clean_texts
from automl.data.images import ImageEncoder
from automl.training.dense_floor import MOST_PIXELS, DenseLinear
from automl.training.floor import Linear


class LinearNetwork(nn.Module):
    """The arrays of a port to probabilities float32 [B, C]; 0 for a class that no train row had.

    Computed in float64: the weights of pixels and steps have their means and deviations inside.
    """

    def __init__(self, linear: Linear | DenseLinear) -> None:
        super().__init__()
        regression = linear.regression
        self.coefficients = nn.Buffer(torch.from_numpy(np.asarray(regression.coef_, dtype=np.float64).copy()))
        self.intercepts = nn.Buffer(torch.from_numpy(np.asarray(regression.intercept_, dtype=np.float64).copy()))
        places = torch.zeros(len(regression.classes_), linear.classes, dtype=torch.float64)
        places[torch.arange(len(places)), torch.from_numpy(np.asarray(regression.classes_, dtype=np.int64))] = 1
        self.places = nn.Buffer(places)

    def of_scores(self, scores: Tensor) -> Tensor:
        """Scores float64 [B, 1] of two classes, or [B, those that train had], without the intercepts."""
        scores = scores + self.intercepts
        if len(self.intercepts) == 1:
            second = scores.sigmoid()
            return (torch.cat([1 - second, second], dim=1) @ self.places).float()
        return (scores.softmax(dim=1) @ self.places).float()


class LinearTexts(LinearNetwork):
    """Of the numbers of a text's terms int64 [B, K] and their weights float32 [B, K]."""

    def forward(self, terms: Tensor, weights: Tensor) -> Tensor:
        """See above."""
        return self.of_scores((self.coefficients.T[terms] * weights.unsqueeze(-1)).sum(dim=1))


class LinearImages(LinearNetwork):
    """Of pixels uint8 [B, H, W, channels]: means of squares, from -1 to 1."""

    def __init__(self, linear: DenseLinear) -> None:
        super().__init__(linear)
        assert isinstance(linear.encoder, ImageEncoder)
        self.square = -(-linear.encoder.size // MOST_PIXELS)
        self.sides = linear.encoder.size // self.square

    def forward(self, pixels: Tensor) -> Tensor:
        """See above."""
        kept, side = self.sides * self.square, self.sides
        values = pixels[:, :kept, :kept].double() / 127.5 - 1
        cut = values.reshape(-1, side, self.square, side, self.square, values.shape[3])
        return self.of_scores(cut.mean(dim=(2, 4)).flatten(1) @ self.coefficients.T)


class LinearSeries(LinearNetwork):
    """Of series float32 [B, L, channels], NaN at padding; steps beyond the longest of training do not count."""

    def __init__(self, linear: DenseLinear) -> None:
        super().__init__(linear)
        self.longest = linear.encoder.shape[0]

    def forward(self, series: Tensor, lengths: Tensor) -> Tensor:
        """See above."""
        values = torch.where(series.isnan(), torch.zeros_like(series), series)
        whole = nn.functional.pad(values, (0, 0, 0, self.longest))[:, : self.longest]
        return self.of_scores(whole.flatten(1).double() @ self.coefficients.T)


def linear_network(linear: Linear | DenseLinear) -> LinearNetwork:
    """The module of a linear model."""
    if isinstance(linear, Linear):
        return LinearTexts(linear)
    return LinearImages(linear) if isinstance(linear.encoder, ImageEncoder) else LinearSeries(linear)


def terms_of(linear: Linear, texts: Sequence[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The numbers of the terms of raw texts and their weights, int64 and float32 [texts, most terms of one]."""
    found = linear.vectorizer.transform(clean_texts(texts, linear.clean)).tocsr()
    counts = np.diff(found.indptr)
    shape = (len(counts), max(1, int(counts.max(initial=0))))
    terms, weights = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
    there = np.arange(shape[1]) < counts[:, None]
    terms[there], weights[there] = found.indices, found.data
    return terms, weights
