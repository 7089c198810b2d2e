"""Weights in fewer bytes: eight bits each, and of pruned ones only those that are left.

A matrix `name` is kept as `int8:name` (whole numbers from -127 to 127) and `scale:name` (float32, one for each row, so
that a number times its scale is the weight; symmetric per-channel quantisation, Krishnamoorthi 2018, section 2.2).
Where many weights are zero, `int8:name` holds the others alone, one after another, `mask:name` a bit for each weight,
and `shape:name` the matrix's shape. Vectors stay as they are. Unpacked, a network is as large in memory as before.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

SPARSE_FROM = 0.25  # share of zeros from which a bit for each weight costs less than the zeros


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


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The `state_dict` of tensors that were packed; those that were not stay as they are."""
    weights: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        kind, _, name = key.partition(":")
        if not name:
            weights[key] = tensor
        if kind != "int8":
            continue
        if f"mask:{name}" in tensors:
            shape = tensors[f"shape:{name}"].tolist()
            bits = np.unpackbits(tensors[f"mask:{name}"].numpy(), count=int(np.prod(shape)))
            numbers = torch.zeros(len(bits), dtype=torch.int8)
            numbers[torch.from_numpy(bits.astype(bool))] = tensor
            tensor = numbers.reshape(shape)
        scale = tensors[f"scale:{name}"]
        weights[name] = tensor.float() * scale.reshape(-1, *[1] * (tensor.ndim - 1))
    return weights
