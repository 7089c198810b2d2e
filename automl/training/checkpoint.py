"""What a trial writes: the weights of its best epoch, and everything it needs to go on after an interruption."""

from __future__ import annotations

import hashlib
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from automl.data import Streaming
from automl.data.files import replace_atomically
from automl.space import UserError
from automl.space.safe_files import read_regular
from automl.training.optimization import Plateau
from automl.training.start import Training
from automl.training.torch_files import MOST_BYTES, torch_values

FORMAT = 3
PROGRESS = ("epoch", "step", "rows", "accumulation")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used."""


def save_weights(training: Training, path: Path) -> None:
    """Write the network's weights, averaged where the trial averages them, as safetensors, whole or not at all."""
    weights = {name: value.detach().cpu().contiguous() for name, value in training.measured.state_dict().items()}
    with replace_atomically(path) as temporary:
        # Through memory, as below: neither library says of a full disk that it is full.
        temporary.write_bytes(safetensors.torch.save(weights))


def save_checkpoint(training: Training, path: Path) -> None:
    """Write network, average, optimiser and progress, with a checksum; random numbers follow from seed and progress."""
    state = {
        "format": FORMAT,
        "seed": training.seed,
        "module": training.module.state_dict(),
        "average": None if training.average is None else training.average.state_dict(),
        "optimizer": training.optimizer.state_dict(),
        "plateau": asdict(training.plateau),
        "streaming": None if training.streaming is None else asdict(training.streaming),
        **{name: getattr(training, name) for name in PROGRESS},
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    with replace_atomically(path) as temporary, temporary.open("wb") as file:
        file.write(hashlib.sha256(content).digest())
        file.write(content)


def load_checkpoint(training: Training, path: Path) -> None:
    """Put `training`, freshly started from the same configuration, where `save_checkpoint` was called.

    Only tensors and plain values are read (`weights_only`). Raises CheckpointError where the file is damaged or of
    another trial; `training` is then of no further use.
    """
    try:
        content = read_regular(path, MOST_BYTES)
    except UserError as error:
        raise CheckpointError(f"{path.name} is damaged: it is no file") from error
    digest = hashlib.sha256().digest_size
    if hashlib.sha256(content[digest:]).digest() != content[:digest]:
        raise CheckpointError(f"{path.name} is damaged")
    try:
        state = torch_values(content[digest:], path)
    except Exception as error:  # PyTorch raises many kinds
        raise CheckpointError(f"{path.name} is damaged") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT or state.get("seed") != training.seed:
        raise CheckpointError(f"{path.name} is no checkpoint of this trial")
    try:
        training.module.load_state_dict(state["module"])
        if training.average is not None:
            training.average.load_state_dict(state["average"])
        training.optimizer.load_state_dict(_as_here(state["optimizer"], training.optimizer))
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path.name} is of another network") from error
    training.plateau = Plateau(**state["plateau"])
    # The rows go on in the order in which they came, whatever memory this machine has.
    streaming = state.get("streaming")
    training.streaming = None if streaming is None else Streaming(**streaming)
    for name in PROGRESS:
        setattr(training, name, state[name])
    if training.halved:
        training.halve()


def _as_here(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimiser's state with the options it has here, as the device decides which of PyTorch's updates it uses."""
    pairs = zip(optimizer.param_groups, state["param_groups"], strict=True)
    return {**state, "param_groups": [{**here, "params": there["params"]} for here, there in pairs]}
