"""How raw inputs come into an exported graph: the arrays of each preparation, their names, and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from automl.data import Encoder, batches
from automl.data.encode import DenseEncoder
from automl.data.images import ImageEncoder
from automl.models.exportable import Parts, Port
from automl.results.linear_network import linear_network, terms_of
from automl.results.package import Model
from automl.training.dense_floor import DenseLinear
from automl.training.floor import Linear

Arrays = tuple[npt.NDArray[Any], ...]
NAMES = {
    "text": ("tokens", "lengths"),
    "series": ("series", "lengths"),
    "image": ("pixels",),
    "terms": ("terms", "weights"),
}


@dataclass(frozen=True)
class Preparation:
    """One preparation of raw inputs, and the arrays of the graph that it gives."""

    port: Port
    names: tuple[str, ...]
    folder: str
    """Where its files lie, in the exported folder."""
    by: Encoder | DenseEncoder | Linear

    def arrays(self, inputs: Sequence[Any]) -> Arrays:
        """Those of raw inputs, in their order."""
        if isinstance(self.by, Linear):
            return terms_of(self.by, inputs)
        (batch,) = batches(self.by.encode(inputs), len(inputs), shuffle=None)
        order = np.argsort(batch.index.numpy())
        found = (batch.tokens.numpy()[order], batch.lengths.numpy()[order])
        return found[: len(self.names)]

    def described(self) -> dict[str, str]:
        """What each array holds."""
        shape = "".join(f", {size}" for size in self.port.shape)
        lengths = "int64 [rows]"
        said = {
            "text": ("int64 [rows, length], 0 is padding", lengths),
            "series": (f"float32 [rows, length{shape}], NaN is padding", lengths),
            "image": (f"uint8 [rows{shape}]",),
            "terms": ("int64 [rows, terms], numbers of terms", "float32 [rows, terms], 0 where a row has fewer"),
        }[self.port.kind]
        return dict(zip(self.names, said, strict=True))

    def save(self, output: Path) -> None:
        """Write its files into the exported folder."""
        (output / self.folder).mkdir(parents=True, exist_ok=True)
        self.by.save(output / self.folder)


def preparations_of(model: Model) -> tuple[list[Preparation], Parts]:
    """The preparations that a model needs, and its graph as it is before it is traced.

    Members whose inputs are prepared alike share one. Where there are several, their arrays and folders are numbered.
    """
    encoders = model.encoders
    several = len(encoders) > 1
    found = [_of_encoder(encoder, number if several else 0) for number, encoder in enumerate(encoders, start=1)]
    places = {id(encoder): number for number, encoder in enumerate(encoders)}
    linear = None
    if isinstance(model.linear, Linear):
        linear = (linear_network(model.linear), len(found))
        found.append(Preparation(Port("terms"), NAMES["terms"], "linear", model.linear))
    elif isinstance(model.linear, DenseLinear):
        linear = (linear_network(model.linear), encoders.index(model.linear.encoder))
    networks = tuple((network, places[id(encoder)]) for encoder, network in model.members)
    return found, Parts(tuple(each.port for each in found), networks, linear, model.temperature)


def _of_encoder(encoder: Encoder | DenseEncoder, number: int) -> Preparation:
    if isinstance(encoder, Encoder):
        port = Port("text")
    elif isinstance(encoder, ImageEncoder):
        port = Port("image", tuple(encoder.shape))
    else:
        port = Port("series", tuple(encoder.shape[1:]))
    names = tuple(f"{name}_{number}" if number else name for name in NAMES[port.kind])
    return Preparation(port, names, f"inputs/{number}" if number else ".", encoder)


def columns_of(model: Model) -> Mapping[str, Any]:
    """What an export says of the columns of tables."""
    text = {"text_column": model.column} if model.modality.name == "text" else {}
    return {**text, "column": model.column}
