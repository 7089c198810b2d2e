"""The mode in which a GPU, too, computes the same numbers each time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# cuBLAS reads it when it is first used: without it sums may come in any order (NVIDIA's manual, section 2.1.4). The
# memory is as much as PyTorch gives cuBLAS on its largest GPUs anyway.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def deterministic(device: torch.device, wanted: bool) -> Iterator[None]:
    """Let a GPU use only kernels that give the same numbers each time, in here and where `wanted`; a CPU always does.

    An operation that has no such kernel raises RuntimeError, which names it.
    """
    if not wanted or device.type != "cuda":
        yield
        return
    options: Any = torch.utils.deterministic
    filling, options.fill_uninitialized_memory = options.fill_uninitialized_memory, False  # nothing here reads such
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        options.fill_uninitialized_memory = filling
