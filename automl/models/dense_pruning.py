"""What structured pruning has to know of the networks for images and of the convolutions over series.

See `automl.models.pruning`. Blocks that add their input to their output share the features of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from automl.models.image_cnn import REDUCTION

Axis = tuple[str, ...] | None
"""Groups of features, one after another along a dimension; None for a dimension that stays."""
Axes = dict[str, tuple[Axis, ...]]
PARTS = ("weight", "bias", "running_mean", "running_var")


def image_sizes(settings: Mapping[str, Any]) -> dict[str, int]:
    """How many features each group of an `image_cnn` has.

    S and I are the outputs and the inner features of a stage's blocks, Q those of a squeeze, O what comes in.
    """
    width, sizes = settings["width"], {"O": settings["width"]}
    for stage, block in _blocks(settings):
        size = width * 2**stage
        sizes |= {_out(settings, stage, block): size, f"I{stage}.{block}": size}
        if settings["squeeze_excitation"]:
            sizes[f"Q{stage}.{block}"] = max(1, size // REDUCTION)
    return sizes


def image_axes(settings: Mapping[str, Any]) -> Axes:
    """Of each weight of an `image_cnn` by its name, what its first dimensions count."""
    normed = settings["normalisation"] != "none"
    before = "S0" if settings["residual"] else "O"
    axes = _convolved("layers.0", None, before) | (_vectors("layers.1", before) if normed else {})
    for number, (stage, block) in enumerate(_blocks(settings)):
        of = f"layers.{number + (3 if normed else 2)}."
        inner, out, place = f"I{stage}.{block}", _out(settings, stage, block), 0
        for reads, gives in ((before, inner), (inner, out)):
            if settings["separable"]:
                axes[f"{of}convolutions.{place}.weight"] = ((reads,), None)
                place += 1
            axes |= _convolved(f"{of}convolutions.{place}", (reads,), gives)
            place += 1
            if normed:
                axes |= _vectors(f"{of}convolutions.{place}", gives)
                place += 1
            place += 1  # the activation, or after the second the end
        squeeze = f"Q{stage}.{block}"
        axes |= _convolved(f"{of}squeeze.weigh.0", (out,), squeeze) | _convolved(
            f"{of}squeeze.weigh.2", (squeeze,), out
        )
        axes |= _convolved(f"{of}shortcut", (before,), out)
        before = out
    return axes | {"head.1.weight": (None, (before,))}


def sequence_sizes(settings: Mapping[str, Any]) -> dict[str, int]:
    """How many features each group of a `sequence_cnn` has: for each kernel, the inner ones and the outputs."""
    names = [f"{kind}{number}" for number in range(settings["blocks"]) for kind in ("I", "C")]
    groups = {group for name in names for group in _of_kernels(settings, name)}
    return dict.fromkeys(sorted(groups), settings["channels"])


def sequence_axes(settings: Mapping[str, Any]) -> Axes:
    """As `image_axes`, of a `sequence_cnn`."""
    axes: Axes = {}
    reads: Axis = None
    for number in range(settings["blocks"]):
        inner, out = _of_kernels(settings, f"I{number}"), _of_kernels(settings, f"C{number}")
        for layer, (taken, given) in enumerate(((reads, inner), (inner, out))):
            of = f"blocks.{number}."
            for kernel, group in enumerate(given):
                axes |= _convolved(f"{of}convolutions.{layer}.convolutions.{kernel}", taken, group)
            for part in PARTS:
                axes[f"{of}norms.{layer}.{part}"] = (given,)
        axes |= {f"blocks.{number}.shortcut.weight": (out, reads), f"blocks.{number}.shortcut.bias": (out,)}
        reads = out
    pooled = reads if settings["pooling"] != "max_mean" else (reads or ()) * 2
    return axes | {"pooling.score.weight": (None, reads), "head.1.weight": (None, pooled)}


def with_shortcut(settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights, with those of a first shortcut that leaves its input as it is where a narrower one has to choose."""
    width = settings["channels"] * len(settings["kernel_sizes"])
    if not settings["residual"] or "blocks.0.shortcut.weight" in weights:
        return weights
    return {
        **weights,
        "blocks.0.shortcut.weight": torch.eye(width),
        "blocks.0.shortcut.bias": torch.zeros(width),
    }


def _blocks(settings: Mapping[str, Any]) -> list[tuple[int, int]]:
    return [(stage, block) for stage in range(settings["stages"]) for block in range(settings["depth"])]


def _out(settings: Mapping[str, Any], stage: int, block: int) -> str:
    return f"S{stage}" if settings["residual"] else f"S{stage}.{block}"


def _of_kernels(settings: Mapping[str, Any], name: str) -> tuple[str, ...]:
    if name.startswith("C") and settings["residual"]:
        name = "C"
    return tuple(f"{name}.{kernel}" for kernel in range(len(settings["kernel_sizes"])))


def _convolved(of: str, reads: Axis, gives: str) -> Axes:
    return {f"{of}.weight": ((gives,), reads), f"{of}.bias": ((gives,),)}


def _vectors(of: str, group: str) -> Axes:
    return {f"{of}.{part}": ((group,),) for part in PARTS}
