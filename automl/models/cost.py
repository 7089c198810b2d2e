"""What a network costs, known before it is trained: built without memory; a large one is run without arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from automl.models import Lexicon, build, count_parameters, is_user_family
from automl.models.unfilled import Unfilled

SMALL_BYTES = 256 * 2**20  # of weights, hardly any of which are touched
SMALL_INPUT = 12 * 1024  # numbers of a row
NUMBER_BYTES = 4  # of a float32
_KINDS = {2: torch.float32, 3: torch.uint8}  # of series and of images
PROBES = (8, 16)  # tokens: the cost of these families grows linearly with a text's length
# Numbers that PyTorch keeps on a CPU of each token, for each unit and for each input; on a GPU it keeps fewer.
KEPT = {nn.LSTM: (12, 7), nn.GRU: (7, 1)}
STATES = {"adamw": 2, "adam": 2, "rmsprop": 2, "sgd": 1, "adagrad": 1}  # numbers of an optimiser for each weight
GATES = {nn.LSTM: 4, nn.GRU: 3}


@dataclass(frozen=True)
class Cost:
    """Of one configuration: exact for its weights, estimated for memory and operations."""

    parameters: int
    bytes: int
    """Of the weights, in float32."""
    activation_memory: int
    """Bytes that are kept for the backward pass of one batch of texts of the greatest length."""
    flops: int
    """Floating-point operations to label one text of the greatest length."""
    training_memory: int
    """Bytes of weights, gradients, the optimiser's state and activations."""


def estimate_cost(
    config: Mapping[str, Any],
    *,
    vocabulary: int,
    classes: int,
    length: int = 1,
    dimension: int = 0,
    shape: Sequence[int] | None = None,
    measure: bool = True,
) -> Cost:
    """What the network of a configuration costs to train and to use, on texts of at most `length` tokens.

    `dimension` is that of the pretrained vectors, where the settings ask for some. Images have a `shape`, [height,
    width, channels], and series one, [steps, channels], and no vocabulary. Without `measure` only the weights
    are counted (a few milliseconds instead of about thirty) and the rest is 0, as it is for a user's own network.
    """
    model, training = config["model"], config["training"]
    with torch.device("meta"), Unfilled():
        lexicon = Lexicon(torch.empty(vocabulary, dimension), torch.empty(vocabulary, 1, dtype=torch.int32))
        if shape is not None:
            lexicon = Lexicon(mean=torch.empty(shape[-1]), deviation=torch.empty(shape[-1]))
        module = build(model, vocabulary=vocabulary, classes=classes, lexicon=lexicon)
    parameters = count_parameters(module)
    weights = sum(parameter.numel() for parameter in module.parameters()) * NUMBER_BYTES
    (optimizer,) = training["optimizer"]
    copies = 1 + STATES[optimizer] + (training["ema"] is not None)  # gradients, the optimiser's, the average
    held = weights + copies * parameters * NUMBER_BYTES
    if not measure or any(is_user_family(family) for family in model):
        return Cost(parameters, weights, 0, 0, held)
    if _is_small(module, shape or PROBES[1:]):
        _give_memory(module)
    kept_of_row, flops = _measured(module, length) if shape is None else _probe(module, shape, _KINDS[len(shape)])
    activations = round(kept_of_row * training["batch_size"])
    return Cost(parameters, weights, activations, round(flops), held + activations)


def _measured(module: nn.Module, length: int) -> tuple[float, float]:
    """Bytes kept for the backward pass of one row, and operations for it, on `length` tokens."""
    (kept, flops), (kept_longer, flops_longer) = (_probe(module, [tokens], torch.int64) for tokens in PROBES)
    share = (length - PROBES[0]) / (PROBES[1] - PROBES[0])
    return max(0.0, kept + share * (kept_longer - kept)), max(0.0, flops + share * (flops_longer - flops))


def _probe(module: nn.Module, shape: Sequence[int], kind: torch.dtype) -> tuple[float, float]:
    rows = 2
    weights = {_storage(parameter) for parameter in module.parameters()}
    kept: dict[int, int] = {}
    held: list[Tensor] = []  # or the next tensor could be given the identity of one that is gone

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in weights:
            kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
            held.append(tensor)
        return tensor

    with torch.device(next(module.parameters()).device):
        tokens = torch.zeros(rows, *shape, dtype=kind)
        lengths = torch.full((rows,), shape[0], dtype=torch.int64)
        counter = _Operations()  # type: ignore[no-untyped-call]
        with (
            _recurrent_layers(module) as recurrent,
            counter,
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            module(tokens, lengths)
    flops = counter.count + sum(layer_flops for layer_flops, _ in recurrent)
    bytes_kept = sum(kept.values()) + NUMBER_BYTES * sum(numbers for _, numbers in recurrent)
    return bytes_kept / rows, flops / rows


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts floating-point operations by PyTorch's own formulas, without its counter, which loads its compiler."""

    count = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether PyTorch should load its compiler to keep it out of this, as it does by default."""
        return False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.count += formula(*args, **(kwargs or {}), out_val=found)
        return found


def _is_small(module: nn.Module, shape: Sequence[int]) -> bool:
    """Whether it takes less time to run the network with memory than to load what PyTorch needs to go without: 2 s."""
    weights = sum(each.numel() * each.element_size() for each in (*module.parameters(), *module.buffers()))
    return weights <= SMALL_BYTES and math.prod(shape) <= SMALL_INPUT


def _give_memory(module: nn.Module) -> None:
    """Let all weights be 0: NumPy's zeros take memory only where they are touched, as few rows of a table are."""
    kinds = {name: str(each.dtype).removeprefix("torch.") for name, each in module.state_dict().items()}
    zeros = {name: np.zeros(each.shape, kinds[name]) for name, each in module.state_dict().items()}
    module.load_state_dict({name: torch.from_numpy(each) for name, each in zeros.items()}, assign=True)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@contextmanager
def _recurrent_layers(module: nn.Module) -> Iterator[list[tuple[float, float]]]:
    """Replace recurrent layers by their shapes: without a device that has them fused, PyTorch goes token by token.

    Gives a list to which each adds, as it is run, its operations and the numbers that it keeps for the backward pass.
    """
    noted: list[tuple[float, float]] = []
    layers = [layer for layer in module.modules() if isinstance(layer, nn.LSTM | nn.GRU)]
    for layer in layers:
        layer.forward = _shape_of(layer, noted)  # type: ignore[method-assign]
    try:
        yield noted
    finally:
        for layer in layers:
            del layer.forward


def _shape_of(layer: nn.LSTM | nn.GRU, noted: list[tuple[float, float]]) -> Any:
    kind, features, units = type(layer), layer.input_size, layer.hidden_size

    def forward(inputs: Tensor) -> tuple[Tensor, None]:
        tokens = inputs.shape[0] * inputs.shape[1]
        of_unit, of_input = KEPT[kind]
        flops = 2.0 * tokens * GATES[kind] * units * (features + units)
        noted.append((flops, float(tokens * (of_unit * units + of_input * features))))
        return inputs[..., :1].expand(*inputs.shape[:-1], units).clone(), None

    return forward
