"""The `training` section of a configuration, turned into an optimiser, a learning-rate schedule and a loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from automl.data.class_sampling import count_classes
from automl.training.row_updates import RowTable

Loss = Callable[[Tensor, Tensor], Tensor]
Groups = list[dict[str, Any]]

LOWEST_START, LOWEST_END = 1 / 25, 1e-4 / 25  # where a one-cycle schedule begins and ends, as shares of its top


def build_optimizer(
    optimizer: Mapping[str, Any],
    module: nn.Module,
    shares: Mapping[int, float] | None = None,
    tables: Sequence[RowTable] = (),
) -> torch.optim.Optimizer:
    """The optimiser of `{name: settings}` over `module`'s parameters.

    `shares` gives parameters (by id) their share of the learning rate, else 1; each group's is its `share`. Of
    `tables` it gets the rows of each batch.

    Vectors (biases, norms) and embeddings are not decayed: decay pulls a rare token's vector to zero between its
    occurrences. Weights that are not trained are left out. On a CPU with 20,000 x 128 embeddings the fused update takes
    0.2 of the time of the looped one for Adam, 0.3 for Adagrad and 0.7 for SGD; RMSprop has none, and its update of
    many tensors at once takes 0.7.
    """
    ((name, settings),) = optimizer.items()
    embeddings = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    rows = {id(table.table): table.rows for table in tables}
    members: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            decayed = parameter.ndim >= 2 and id(parameter) not in embeddings
            members.setdefault((decayed, (shares or {}).get(id(parameter), 1.0)), []).append(
                rows.get(id(parameter), parameter)
            )
    groups = [
        {"params": parameters, "weight_decay": settings["weight_decay"] if decayed else 0.0, "share": share}
        for (decayed, share), parameters in members.items()
    ]
    return _MAKE[name](groups, settings)


def _adam(groups: Groups, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr=settings["learning_rate"], fused=True)


def _adamw(groups: Groups, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=settings["learning_rate"], fused=True)


def _sgd(groups: Groups, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    momentum = settings["momentum"]
    return torch.optim.SGD(groups, lr=settings["learning_rate"], momentum=momentum, nesterov=momentum > 0, fused=True)


def _rmsprop(groups: Groups, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    # No fused version exists.
    return torch.optim.RMSprop(
        groups, lr=settings["learning_rate"], alpha=settings["smoothing"], momentum=settings["momentum"], foreach=True
    )


def _adagrad(groups: Groups, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    # Its fused version is for CPUs only.
    on_cpu = all(parameter.device.type == "cpu" for group in groups for parameter in group["params"])
    return torch.optim.Adagrad(
        groups, lr=settings["learning_rate"], fused=on_cpu or None, foreach=None if on_cpu else True
    )


_MAKE = {"adamw": _adamw, "adam": _adam, "sgd": _sgd, "rmsprop": _rmsprop, "adagrad": _adagrad}


def begin_momentum(optimizer: torch.optim.Optimizer, tables: Sequence[RowTable] = ()) -> None:
    """Let weights that had no part in earlier steps begin with a momentum of zero.

    That is what they begin with anyway, but PyTorch's fused SGD wants it of all weights of a group or of none.
    """
    if not isinstance(optimizer, torch.optim.SGD):
        return
    whole = {id(table.rows): table.table for table in tables}
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else []:
            weights = whole.get(id(parameter), parameter)
            if weights.requires_grad and "momentum_buffer" not in optimizer.state[parameter]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(weights.data)


def clip_gradients(optimizer: torch.optim.Optimizer, longest: float) -> None:
    """Scale the gradients of an optimiser's weights down to a norm of `longest` where theirs is larger."""
    parameters = [each for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
    if any(parameter.device.type != "cpu" for parameter in parameters):  # to look at the norm is to wait for the GPU
        nn.utils.clip_grad_norm_(parameters, longest)
        return
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters])
    if norm > longest:  # else all gradients would be read and written for nothing
        nn.utils.clip_grads_with_norm_(parameters, longest, norm)


def learning_rate_factor(schedule: Mapping[str, Any], step: int, total_steps: float) -> float:
    """The share of the full learning rate at `step` of `total_steps` (from 0), after `{name: settings}`.

    Warm-up rises linearly over its share of all steps; then `linear` falls to 0 and `cosine` follows half a cosine
    to 0 (Loshchilov and Hutter 2017, section 3, one cycle). `one_cycle` rises from 1/25 along half a cosine and falls
    along another to far less than it began with (Smith and Topin 2018, section 3; the shares are PyTorch's).
    `plateau` is 1 here: what `Plateau` makes of it comes on top.
    """
    ((name, settings),) = schedule.items()
    if name in ("constant", "plateau"):
        return 1.0
    warmup_steps: float = settings["warmup"] * total_steps
    if name == "one_cycle" and step < warmup_steps:
        return _between(LOWEST_START, 1.0, step / warmup_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / max(1.0, total_steps - warmup_steps)
    if name == "linear":
        return max(0.0, 1.0 - done)
    if name == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
    if name == "one_cycle":
        return _between(1.0, LOWEST_END, min(1.0, done))
    raise ValueError(f"no schedule is called {name!r}")


def _between(first: float, last: float, done: float) -> float:
    """Half a cosine from `first` (`done` is 0) to `last` (`done` is 1)."""
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass
class Plateau:
    """Lowers the learning rate where the validation loss has stopped falling; `share` is what is left of it."""

    share: float = 1.0
    best: float = math.inf
    waited: int = 0

    def see(self, loss: float, schedule: Mapping[str, Any]) -> None:
        """Take the validation loss of an epoch; nothing happens under another schedule than `plateau`."""
        settings = schedule.get("plateau")
        if settings is None:
            return
        if loss < self.best:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > settings["patience"]:
            self.share *= settings["factor"]
            self.waited = 0


def build_loss(loss: Mapping[str, Any], weights: Tensor | None = None) -> Loss:
    """The loss of `{name: settings}`: logits float [B, C] and labels int64 [B] to a scalar, the mean of the rows'.

    With `weights` float [C], a row counts as much as its class weighs.
    """
    ((name, settings),) = loss.items()
    if name == "cross_entropy":
        of_rows = partial(nn.functional.cross_entropy, label_smoothing=settings["label_smoothing"], reduction="none")
    elif name == "focal":
        of_rows = partial(focal_loss, gamma=settings["gamma"])
    else:
        raise ValueError(f"no loss is called {name!r}")
    if weights is None:
        return lambda logits, labels: of_rows(logits, labels).mean()
    return lambda logits, labels: (of_rows(logits, labels) * weights[labels]).mean()


def focal_loss(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Focal loss [B] (Lin et al. 2017, equation 4, without class weights); `gamma` 0 is cross entropy."""
    log_probability = logits.log_softmax(dim=-1).gather(1, labels[:, None]).squeeze(1)
    # A row that the network is sure of has a probability of 1, and below gamma 1 the slope of 0 ** gamma is infinite.
    doubt = (-log_probability.expm1()).clamp_min(torch.finfo(logits.dtype).eps)
    return -(doubt**gamma * log_probability)


def class_weights(labels: npt.NDArray[np.integer], classes: int, share: float) -> Tensor | None:
    """Weights float32 [classes], inverse to the rows of a class to the power of `share`; None where all weigh 1.

    Their mean over the rows is 1. With `share` 1 they are scikit-learn's `balanced` ones (King and Zeng 2001).
    """
    if share == 0:
        return None
    rows = count_classes(labels, classes).astype(np.float64)
    weights = np.where(rows > 0, rows, np.inf) ** -share
    return torch.tensor(weights * rows.sum() / (weights * rows).sum(), dtype=torch.float32)
