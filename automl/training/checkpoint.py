"""What a trial writes: the weights of its best epoch, and everything it needs to go on after an interruption."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from automl.data.files import replace_atomically
from automl.training.fit import Training

FORMAT = 1


def save_weights(training: Training, path: Path) -> None:
    """Write the network's weights as safetensors, whole or not at all."""
    weights = {name: value.detach().cpu().contiguous() for name, value in training.module.state_dict().items()}
    with replace_atomically(path) as temporary:
        save_file(weights, temporary)


def save_checkpoint(training: Training, path: Path) -> None:
    """Write network, optimiser and epoch; random numbers need no state, for they follow from seed and epoch."""
    state = {
        "format": FORMAT,
        "epoch": training.epoch,
        "seed": training.seed,
        "module": training.module.state_dict(),
        "optimizer": training.optimizer.state_dict(),
    }
    with replace_atomically(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(training: Training, path: Path) -> None:
    """Put `training`, freshly started from the same configuration, where `save_checkpoint` was called.

    Only tensors and plain values are read (`weights_only`). Raises RuntimeError, ValueError or KeyError where the
    file is damaged or of another trial.
    """
    state = torch.load(path, map_location=training.device, weights_only=True)
    if state["format"] != FORMAT or state["seed"] != training.seed:
        raise ValueError(f"{path} is no checkpoint of this trial")
    training.module.load_state_dict(state["module"])
    training.optimizer.load_state_dict(state["optimizer"])
    training.epoch = state["epoch"]
