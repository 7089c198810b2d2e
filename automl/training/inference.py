"""A trained network applied to rows."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import nn

from automl.data import Rows, batches
from automl.models import build
from automl.space import UserError


def default_device() -> torch.device:
    """The GPU that this process may use, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 where a GPU computes it natively, else full precision."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


@torch.inference_mode()
def predict_probabilities(
    module: nn.Module, rows: Rows, *, device: torch.device, batch_size: int = 256
) -> npt.NDArray[np.float32]:
    """Class probabilities float32 [rows, classes] in the rows' own order; leaves `module` in evaluation mode."""
    module.eval()
    parts, order = [], []
    for batch in batches(rows, batch_size, shuffle=None):
        with autocast(device):
            logits = module(batch.tokens.to(device), batch.lengths.to(device))
        parts.append(logits.float().softmax(dim=1).cpu())
        order.append(batch.index)
    found = torch.cat(parts)
    probabilities = torch.empty_like(found)
    probabilities[torch.cat(order)] = found
    return probabilities.numpy()


def load_weights(config: Mapping[str, Any], *, vocabulary: int, classes: int, path: Path) -> nn.Module:
    """Build the network of `config["model"]` on the CPU with the weights of a safetensors file.

    Raises UserError where the file is missing, damaged, or of another network.
    """
    module = build(config["model"], vocabulary=vocabulary, classes=classes)
    try:
        module.load_state_dict(load_file(path))
    except Exception as error:
        raise UserError(f"cannot load the model's weights from {path}: {error}") from error
    return module.eval()
