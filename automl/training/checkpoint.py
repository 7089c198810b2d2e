"""What a trial writes: the weights of its best epoch, and everything it needs to go on after an interruption."""

from __future__ import annotations

import hashlib
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from automl.data import Streaming
from automl.data.files import replace_atomically
from automl.space import UserError
from automl.space.safe_files import read_regular
from automl.training.identity import Identity, to_metadata
from automl.training.optimization import Plateau
from automl.training.start import Training
from automl.training.torch_files import torch_values

FORMAT = 3
PROGRESS = ("epoch", "step", "rows", "accumulation")
TENSORS = ("module", "average", "optimizer")
EXTRA_BYTES = 64 * 1024 * 1024  # for what is not in proportion to the weights


class CheckpointError(ValueError):
    """A checkpoint that cannot be used."""


def save_weights(training: Training, path: Path, identity: Identity | None = None) -> None:
    """Write the network's weights, averaged where the trial averages them, as safetensors, whole or not at all.

    `identity` says in the file's metadata whose they are.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in training.measured.state_dict().items()}
    with replace_atomically(path) as temporary:
        # Through memory, as below: neither library says of a full disk that it is full.
        temporary.write_bytes(safetensors.torch.save(weights, metadata=to_metadata(identity)))


def save_checkpoint(training: Training, path: Path, identity: Identity | None = None) -> None:
    """Write network, average, optimiser and progress, with a checksum; random numbers follow from seed and progress.

    `identity` says whose it is.
    """
    state = {
        "format": FORMAT,
        "seed": training.seed,
        "identity": None if identity is None else identity.model_dump(),
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


def load_checkpoint(training: Training, path: Path, identity: Identity | None = None) -> None:
    """Put `training`, freshly started from the same configuration, where `save_checkpoint` was called.

    Only tensors and plain values are read (`weights_only`), and no more bytes than a checkpoint of this trial can have.
    Raises CheckpointError where the file is damaged, of another trial or made up, or says another identity than
    `identity` where there is one; `training` is then of no more use.
    """
    kept = _progress(_unpacked(path, training), training, path)
    if identity is not None and (whose := identity.differs(kept.identity)):
        raise CheckpointError(f"{path.name} is of {whose}")
    if identity is None and kept.identity is not None:
        raise CheckpointError(f"{path.name} is of another run")
    state = kept.tensors
    try:
        training.module.load_state_dict(state["module"])
        if training.average is not None:
            training.average.load_state_dict(state["average"])
        training.optimizer.load_state_dict(_as_here(state["optimizer"], training.optimizer))
    except Exception as error:  # of any class, where somebody else has made the file
        raise CheckpointError(f"{path.name} is of another network") from error
    training.plateau = Plateau(**kept.plateau.model_dump())
    # The rows go on in the order in which they came, whatever memory this machine has.
    training.streaming = None if kept.streaming is None else Streaming(**kept.streaming.model_dump())
    for name in PROGRESS:
        setattr(training, name, getattr(kept, name))
    if training.halved:
        training.halve()


class _Plateau(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    share: float = Field(gt=0, le=1)
    best: float
    waited: int = Field(ge=0)


class _Streaming(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    block_rows: int = Field(ge=1, lt=2**62)
    window_blocks: int = Field(ge=1, lt=2**62)


class _Progress(BaseModel):
    """What a checkpoint says beside its tensors."""

    model_config = ConfigDict(strict=True)

    format: int
    seed: int
    epoch: int = Field(ge=0, lt=2**62)
    step: int = Field(ge=0, lt=2**62)
    rows: int = Field(ge=0, lt=2**62)
    accumulation: int = Field(ge=1)
    identity: Identity | None = None
    plateau: _Plateau
    streaming: _Streaming | None = None
    tensors: dict[str, Any]


def _unpacked(path: Path, training: Training) -> dict[str, Any]:
    """What a checkpoint holds; raises CheckpointError where it is damaged or larger than one of this trial can be."""
    try:
        content = read_regular(path, _most_bytes(training))
    except UserError as error:
        raise CheckpointError(str(error)) from error
    digest = hashlib.sha256().digest_size
    if hashlib.sha256(content[digest:]).digest() != content[:digest]:
        raise CheckpointError(f"{path.name} is damaged")
    try:
        state = torch_values(content[digest:], path)
    except UserError as error:
        raise CheckpointError(str(error)) from error
    except Exception as error:  # of any class, where somebody else has made the file
        raise CheckpointError(f"{path.name} is no checkpoint") from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"{path.name} is no checkpoint")
    return state


def _most_bytes(training: Training) -> int:
    """More than a checkpoint of this trial has: weights, their average, and at most three states of the optimiser."""
    weights: int = sum(value.numel() * value.element_size() for value in training.module.state_dict().values())
    return 8 * weights + EXTRA_BYTES


def _progress(state: dict[str, Any], training: Training, path: Path) -> _Progress:
    """The same, checked; raises CheckpointError where it is not of this trial."""
    plain = {name: value for name, value in state.items() if name not in TENSORS}
    tensors = {name: state[name] for name in TENSORS if state.get(name) is not None}
    try:
        kept = _Progress(**plain | {"tensors": tensors})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{path.name} is no checkpoint of this trial: {where}: {first['msg']}") from error
    allowed = training.settings["accumulation"]
    if kept.format != FORMAT or kept.seed != training.seed or kept.accumulation not in (allowed, 2 * allowed):
        raise CheckpointError(f"{path.name} is no checkpoint of this trial")
    return kept


def _as_here(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimiser's state with the options it has here, as the device decides which of PyTorch's updates it uses."""
    _check_shapes(state, optimizer)
    pairs = zip(optimizer.param_groups, state["param_groups"], strict=True)
    return {**state, "param_groups": [{**here, "params": there["params"]} for here, there in pairs]}


def _check_shapes(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Raises ValueError where a state is neither one number nor of its parameter's shape."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    shapes = {number: parameter.shape for number, parameter in zip(numbers, parameters, strict=True)}
    for number, kept in state["state"].items():
        for value in kept.values():
            if isinstance(value, torch.Tensor) and value.numel() != 1 and value.shape != shapes[number]:
                raise ValueError(f"a state of parameter {number} has shape {tuple(value.shape)}")
