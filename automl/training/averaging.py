"""An exponential moving average of a network's weights, which often generalises better than the last of them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def start_average(module: nn.Module) -> nn.Module:
    """A copy of `module` that is not trained; it is measured and kept in the place of `module`."""
    return copy.deepcopy(module).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, decay: float, step: int) -> None:
    """Move `average` towards `module` after update number `step` (from 1).

    The average keeps a share `decay` of itself, at first less, (1 + step) / (10 + step): so the initial weights are
    forgotten whatever the decay. What is no parameter and counts or marks (no floating point) is copied.
    """
    keep = min(decay, (1 + step) / (10 + step))
    averages: list[Tensor] = []
    values: list[Tensor] = []
    for mean, value in zip(_state(average), _state(module), strict=True):
        if value.is_floating_point():
            averages.append(mean)
            values.append(value)
        else:
            mean.copy_(value)
    torch._foreach_lerp_(averages, values, 1.0 - keep)


def _state(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
