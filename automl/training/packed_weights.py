"""Weights in fewer bytes: eight bits each, and of pruned ones only those that are left.

A matrix `name` is kept as `int8:name` (whole numbers from -127 to 127) and `scale:name` (float32, one for each row, so
that a number times its scale is the weight; symmetric per-channel quantisation, Krishnamoorthi 2018, section 2.2).
Where many weights are zero, `int8:name` holds the others alone, one after another, `mask:name` a bit for each weight,
and `shape:name` the matrix's shape. Vectors stay as they are. Unpacked, a network is as large in memory as before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

SPARSE_FROM = 0.25  # share of zeros from which a bit for each weight costs less than the zeros
PARTS = ("int8", "scale", "mask", "shape")
MOST_DIMENSIONS = 8


def pack(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors to write for a `state_dict`; what `unpack` gives back differs from it by half a step at most."""
    packed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.ndim < 2 or not weight.is_floating_point():
            packed[name] = weight.contiguous()
            continue
        rows = weight.detach().float().reshape(len(weight), -1)
        scale = (rows.abs().amax(dim=1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        numbers = (rows / scale[:, None]).round().to(torch.int8)
        packed[f"scale:{name}"] = scale
        if (numbers == 0).float().mean() < SPARSE_FROM:
            packed[f"int8:{name}"] = numbers.reshape(weight.shape).contiguous()
            continue
        there = numbers != 0
        packed[f"int8:{name}"] = numbers[there].contiguous()
        packed[f"mask:{name}"] = torch.from_numpy(np.packbits(there.numpy()))
        packed[f"shape:{name}"] = torch.tensor(weight.shape)
    return packed


def packed_shapes(tensors: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """The `state_dict` that `unpack` will give, without numbers (device `meta`), of tensors without numbers.

    `shapes` has those of matrices that are kept without their zeros. Raises ValueError where sizes or types do not fit.
    """
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        kind, _, name = key.partition(":")
        if not name:
            found[key] = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        elif kind == "int8":
            found[name] = _unpacked(name, tensor, tensors, shapes)
        elif kind not in PARTS or f"int8:{name}" not in tensors:
            raise ValueError(f"{key[:80]} belongs to no packed weight")
    return found


def read_shapes(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """The shapes of matrices that are kept without their zeros. Raises ValueError where one is no shape."""
    found = {}
    for key, tensor in tensors.items():
        kind, _, name = key.partition(":")
        if kind == "shape" and name:
            if tensor.dtype != torch.int64 or tensor.ndim != 1 or len(tensor) > MOST_DIMENSIONS or (tensor < 0).any():
                raise ValueError(f"{key[:80]} is no shape")
            found[name] = [int(size) for size in tensor]
    return found


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The `state_dict` of tensors that were packed; those that were not stay as they are.

    Raises ValueError, before memory is taken, where sizes or types do not fit.
    """
    weights: dict[str, Tensor] = {}
    shapes = read_shapes(tensors)
    packed_shapes(tensors, shapes)
    for key, tensor in tensors.items():
        kind, _, name = key.partition(":")
        if not name:
            weights[key] = tensor
        if kind != "int8" or not name:
            continue
        if f"mask:{name}" in tensors:
            shape = shapes[name]
            bits = np.unpackbits(tensors[f"mask:{name}"].numpy(), count=math.prod(shape)).astype(bool)
            if bits.sum() != len(tensor):
                raise ValueError(f"mask:{name[:80]} does not fit its weights")
            numbers = torch.zeros(len(bits), dtype=torch.int8)
            numbers[torch.from_numpy(bits)] = tensor
            tensor = numbers.reshape(shape)
        scale = tensors[f"scale:{name}"]
        weights[name] = tensor.float() * scale.reshape(-1, *[1] * (tensor.ndim - 1))
    return weights


def _unpacked(name: str, tensor: Tensor, tensors: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> Tensor:
    scale, mask = tensors.get(f"scale:{name}"), tensors.get(f"mask:{name}")
    shape = [*tensor.shape]
    fits = tensor.dtype == torch.int8 and scale is not None and scale.dtype == torch.float32
    if mask is not None or f"shape:{name}" in tensors:
        shape = [*shapes.get(name, ())]
        size = math.prod(shape)
        fits &= mask is not None and mask.dtype == torch.uint8 and [*mask.shape] == [-(-size // 8)]
        fits &= tensor.ndim == 1 and len(tensor) <= size
    if not fits or len(shape) < 2 or scale is None or [*scale.shape] != shape[:1]:
        raise ValueError(f"the parts of the packed weight {name[:80]} do not fit each other")
    return torch.empty(shape, device="meta")
