"""Structured pruning: the same family with fewer features, those kept whose weights are largest.

A network of half the embedding, channels and units is a smaller configuration of its family, so it is built, loaded and
run as any other. What has to stay together is said once, in `_axes`: which features each dimension of a weight counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from automl.models.dense_pruning import (
    Axis,
    image_axes,
    image_sizes,
    sequence_axes,
    sequence_sizes,
    with_shortcut,
)
from automl.models.image_cnn import REDUCTION

LEAST = 4  # features of a group that are always kept
NARROWED = ("cnn", "rnn", "cnn_rnn", "rnn_cnn", "dpcnn", "tcn", "image_cnn", "sequence_cnn")


def can_be_narrowed(model: Mapping[str, Any]) -> bool:
    """Whether structured pruning knows the network of a configuration's `model` section.

    It does not know families of the user's own, networks of torchvision, nor how to leave pretrained vectors as they
    are in the midst of others.
    """
    ((family, settings),) = model.items()
    return family in NARROWED and not settings.get("vectors")


def narrow(
    model: Mapping[str, Any], weights: Mapping[str, Tensor], keep: float
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The `model` section and the weights of a network with the share `keep` of its features.

    Features that go together (a filter and what reads it, a unit and its gates) are judged together, by the norm of all
    their weights (the group norm of Fang et al. 2023, section 3.3; the filters' own norm is that of Li et al. 2017).
    For a network that `can_be_narrowed`.
    """
    ((family, settings),) = model.items()
    if family == "sequence_cnn" and keep < 1:
        weights = with_shortcut(settings, weights)
    found = {name: axes for name, axes in _axes(family, settings).items() if name in weights}
    sizes = _sizes(family, settings)
    wanted = _wanted(family, settings, sizes, keep)
    if family == "tcn" and wanted["E"] == wanted["C"] and sizes["E"] != sizes["C"]:
        wanted["E"] -= 1  # else the first block would have no weights in its shortcut
    if family == "sequence_cnn" and keep < 1:
        width = wanted["I0.0"] * len(settings["kernel_sizes"])
        if settings["residual"] and width == len(weights["standardise.mean"]):
            wanted = {group: size - 1 for group, size in wanted.items()}  # as above
    norms = {group: torch.zeros(size) for group, size in sizes.items()}
    for name, axes in found.items():
        for dimension, axis in enumerate(axes):
            if axis is None or "running_" in name:  # what a batch had says nothing of how much a feature matters
                continue
            weight, start = weights[name].float(), 0
            squares = weight.square().movedim(dimension, 0).reshape(weight.shape[dimension], -1).sum(1)
            for group in axis:
                norms[group] += squares[start : start + sizes[group]]
                start += sizes[group]
    chosen = {group: norms[group].topk(wanted[group]).indices.sort().values for group in norms}
    smaller = dict(weights)
    for name, axes in found.items():
        for dimension, axis in enumerate(axes):
            if axis:
                smaller[name] = smaller[name].index_select(dimension, _places(axis, sizes, chosen)).contiguous()
    return {family: _settings(family, settings, wanted)}, smaller


def _wanted(family: str, settings: Mapping[str, Any], sizes: Mapping[str, int], keep: float) -> dict[str, int]:
    """How many features each group keeps."""
    if family != "image_cnn":
        return {group: _kept(size, keep) for group, size in sizes.items()}
    width = _kept(settings["width"], keep)  # each stage has twice as many as the one before
    wanted = {group: size // settings["width"] * width for group, size in sizes.items()}
    for group in sizes:
        if group.startswith("Q"):
            wanted[group] = max(1, wanted[f"I{group[1:]}"] // REDUCTION)
    return wanted


def _kept(size: int, keep: float) -> int:
    return min(size, max(LEAST, round(size * keep)))


def _places(axis: Sequence[str], sizes: Mapping[str, int], chosen: Mapping[str, Tensor]) -> Tensor:
    starts = [sum(sizes[group] for group in axis[:number]) for number in range(len(axis))]
    return torch.cat([chosen[group] + start for group, start in zip(axis, starts, strict=True)])


def _sizes(family: str, settings: Mapping[str, Any]) -> dict[str, int]:
    """How many features each group has: E of a learned vector, C of each kernel, F and B of a layer's directions."""
    if family == "image_cnn":
        return image_sizes(settings)
    if family == "sequence_cnn":
        return sequence_sizes(settings)
    sizes = {"E": settings["embedding"]}
    if "channels" in settings:
        sizes |= {"C": settings["channels"]}
        sizes |= {f"C{number}": settings["channels"] for number in range(len(settings.get("kernel_sizes", ())))}
    for layer, units in enumerate(_units(settings)):
        sizes |= {f"F{layer}": units, f"B{layer}": units}
    return sizes


def _units(settings: Mapping[str, Any]) -> list[int]:
    hidden = settings.get("hidden", [])
    return [hidden] * settings.get("layers", 1) if isinstance(hidden, int) else list(hidden)


def _settings(family: str, settings: Mapping[str, Any], wanted: Mapping[str, int]) -> dict[str, Any]:
    changed = dict(settings)
    if family == "image_cnn":
        return {**changed, "width": wanted["O"]}
    if family == "sequence_cnn":
        return {**changed, "channels": wanted["I0.0"]}
    changed["embedding"] = wanted["E"]
    if "channels" in settings:
        changed["channels"] = wanted["C"]
    if "hidden" in settings:
        units = [wanted[f"F{layer}"] for layer in range(len(_units(settings)))]
        changed["hidden"] = units[0] if isinstance(settings["hidden"], int) else units
    return changed


def _axes(family: str, settings: Mapping[str, Any]) -> dict[str, tuple[Axis, ...]]:
    """Of each weight by its name, what its first dimensions count."""
    if family == "image_cnn":
        return image_axes(settings)
    if family == "sequence_cnn":
        return sequence_axes(settings)
    words: tuple[str, ...] = ("E",)
    if family == "tcn" and settings["embedding"] == settings["channels"]:
        words = ("C",)  # the first block adds its input to its output as it is
    axes: dict[str, tuple[Axis, ...]] = {"embedding.embedding.weight": (None, words)}
    axes["embedding.ngrams.weight"] = (None, words)
    axes |= {"embedding.projection.weight": (words,), "embedding.projection.bias": (words,)}
    kernels = tuple(f"C{number}" for number in range(len(settings.get("kernel_sizes", ()))))
    if family == "cnn":
        return axes | _convolutions(kernels, words) | _outputs(kernels, settings)
    if family == "rnn":
        return axes | _recurrence(settings, words) | _outputs(_states(settings), settings)
    if family == "cnn_rnn":
        axes |= _convolutions(kernels, words) | _recurrence(settings, kernels)
        return axes | _outputs(_states(settings), settings)
    if family == "rnn_cnn":
        axes |= _recurrence(settings, words) | _convolutions(kernels, (*words, *_states(settings)))
        return axes | _outputs(kernels, settings)
    if family == "dpcnn":
        axes |= {"region.weight": (("C",), words), "region.bias": (("C",),)}
        for number in range(settings["blocks"]):
            for name in ("first", "second"):
                axes |= {f"pairs.{number}.{name}.weight": (("C",), ("C",)), f"pairs.{number}.{name}.bias": (("C",),)}
        return axes | _outputs(("C",), settings)
    for number in range(settings["blocks"]):
        for part in (0, 1):
            reads = words if number == part == 0 else ("C",)
            axes |= {
                f"blocks.{number}.convolutions.{part}.weight": (("C",), reads),
                f"blocks.{number}.convolutions.{part}.bias": (("C",),),
                f"blocks.{number}.norms.{part}.weight": (("C",),),
                f"blocks.{number}.norms.{part}.bias": (("C",),),
            }
    axes |= {"blocks.0.shortcut.weight": (("C",), words), "blocks.0.shortcut.bias": (("C",),)}
    return axes | _outputs(("C",), settings)


def _convolutions(kernels: Sequence[str], reads: tuple[str, ...]) -> dict[str, tuple[Axis, ...]]:
    axes: dict[str, tuple[Axis, ...]] = {}
    for number, group in enumerate(kernels):
        axes[f"convolutions.convolutions.{number}.weight"] = ((group,), reads)
        axes[f"convolutions.convolutions.{number}.bias"] = ((group,),)
    return axes


def _recurrence(settings: Mapping[str, Any], reads: Axis) -> dict[str, tuple[Axis, ...]]:
    """Gates stand one below the other, each with all units; a layer reads both directions of the one before."""
    gates = 4 if settings["cell"] == "lstm" else 3
    axes: dict[str, tuple[Axis, ...]] = {}
    for layer in range(len(_units(settings))):
        for direction, group in (("forwards", f"F{layer}"), ("backwards", f"B{layer}")):
            of = f"recurrence.{direction}.{layer}."
            axes |= {f"{of}weight_ih_l0": ((group,) * gates, reads), f"{of}weight_hh_l0": ((group,) * gates, (group,))}
            axes |= {f"{of}bias_ih_l0": ((group,) * gates,), f"{of}bias_hh_l0": ((group,) * gates,)}
        reads = _states(settings, layer)
        axes |= {f"recurrence.norms.{layer}.weight": (reads,), f"recurrence.norms.{layer}.bias": (reads,)}
    return axes


def _states(settings: Mapping[str, Any], layer: int = -1) -> tuple[str, ...]:
    layer = range(len(_units(settings)))[layer]
    return (f"F{layer}", f"B{layer}") if settings["bidirectional"] else (f"F{layer}",)


def _outputs(features: tuple[str, ...], settings: Mapping[str, Any]) -> dict[str, tuple[Axis, ...]]:
    """The pooling's scores and the first layer of the head; `max_mean` stands twice beside each other."""
    read = features * (2 if settings["pooling"] == "max_mean" else 1)
    return {"pooling.score.weight": (None, features), "head.1.weight": (None, read)}
