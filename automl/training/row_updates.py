"""Updates of word vectors whose cost does not grow with the vocabulary: a step touches the rows of its batch alone.

The optimiser is PyTorch's own, and the weights it arrives at are its own too: a row without a gradient would go on
moving by its momentum, and since nothing new comes to it, how far is known in closed form. So a row is left alone until
it is needed again, and is then moved by all that it has missed. (What PyTorch calls `SparseAdam` forgets that part.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from automl.models.embedding import TokenEmbedding

LARGE = 6.0  # rows of a table for each token of a batch, from which on the batch's rows alone are updated
NEGLIGIBLE = 1e-9  # share of a row's momentum that is left when it counts as at rest


@dataclass(frozen=True)
class Coasting:
    """How rows move in a step without a gradient.

    Each state is multiplied by its factor in `decays`; the row moves against `direction` of its states and of its last
    step [U, 1] times `reach(group, step)`, and a step later by a share `ratio` of the same direction.
    """

    decays: Mapping[str, float]
    ratio: float = 0.0
    direction: Callable[[Mapping[str, Tensor], Tensor], Tensor] | None = None
    reach: Callable[[Mapping[str, Any], float], float] = lambda group, step: 0.0


def coasting_of(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> Coasting:
    """That of an optimiser without weight decay, as `build_optimizer` makes them."""
    if isinstance(optimizer, torch.optim.Adam):  # AdamW is one, too
        first, second = group["betas"]

        def reach(group: Mapping[str, Any], step: float) -> float:
            share: float = math.sqrt(1 - second**step) / (1 - first**step) * group["lr"]
            return share

        def direction(states: Mapping[str, Tensor], step: Tensor) -> Tensor:
            # That eps would grow against the moment that fades is left out: where it matters, the row hardly moves.
            divisor: Tensor = states["exp_avg_sq"].sqrt() + group["eps"] * (1 - second**step).sqrt()
            return states["exp_avg"] / divisor

        return Coasting(
            decays={"exp_avg": first, "exp_avg_sq": second},
            ratio=first / math.sqrt(second),
            direction=direction,
            reach=reach,
        )
    if isinstance(optimizer, torch.optim.Adagrad):
        return Coasting(decays={})
    momentum = group["momentum"]
    decays = {"momentum_buffer": momentum}
    if isinstance(optimizer, torch.optim.RMSprop):
        decays["square_avg"] = group["alpha"]
    if momentum == 0:
        return Coasting(decays=decays)
    share = momentum if group.get("nesterov") else 1.0
    return Coasting(
        decays=decays,
        ratio=momentum,
        direction=lambda states, step: states["momentum_buffer"],
        reach=lambda group, step: float(group["lr"]) * share,
    )


@dataclass
class RowTable:
    """A table of vectors [V, E], of which the optimiser is given those of the batch, `rows` [U, E], in its place.

    A step is `take`, the gradients, `hand_over`, the optimiser's own step, `put_back`. Between steps the optimiser's
    states of `rows` are those of the whole table; after `settle` they and the table are what the optimiser would have
    made of all of it, so a checkpoint needs nothing else. `moved` [at least steps + 1] is how far rows have gone since
    each step, in units of their direction then; `last` int64 [V] is each row's last step.
    """

    table: Tensor
    rows: nn.Parameter = field(init=False)
    steps: int = 0
    last: Tensor = field(init=False)
    moved: Tensor = field(init=False)
    _numbers: Tensor = field(init=False)
    _states: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = nn.Parameter(self.table.data)
        self.last = torch.zeros(len(self.table), dtype=torch.int64)
        self.moved = torch.zeros(1024, dtype=torch.float64)

    def take(self, tokens: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Bring the rows of the batch `tokens` up to date and keep them at hand."""
        numbers = self._numbers = torch.unique(tokens)
        self._states = {
            name: value.index_select(0, numbers) if _of_rows(value) else value
            for name, value in optimizer.state[self.rows].items()
        }
        self.rows.grad = None
        self.rows.data = self.table.data.index_select(0, numbers)
        self._catch_up(self.rows.data, self._states, self.last[numbers], optimizer)
        self.table.data.index_copy_(0, numbers, self.rows.data)

    def hand_over(self, optimizer: torch.optim.Optimizer) -> None:
        """Give the optimiser the gradients and the states of these rows."""
        gradient = self.table.grad
        if gradient is not None:
            places = torch.searchsorted(self._numbers, gradient._indices()[0])
            self.rows.grad = torch.zeros_like(self.rows).index_add_(0, places, gradient._values())
        self._states, optimizer.state[self.rows] = optimizer.state[self.rows], self._states

    def put_back(self, optimizer: torch.optim.Optimizer) -> None:
        """Write down what the step has made of them."""
        whole = self._states
        for name, value in optimizer.state[self.rows].items():
            if not _of_rows(value):
                whole[name] = value
                continue
            if name not in whole:
                whole[name] = torch.zeros_like(self.table.data)
            whole[name].index_copy_(0, self._numbers, value)
        optimizer.state[self.rows] = whole
        self.table.data.index_copy_(0, self._numbers, self.rows.data)
        if self.rows.grad is not None:
            self.steps += 1
            self._note_reach(optimizer)
        self.last[self._numbers] = self.steps

    def settle(self, optimizer: torch.optim.Optimizer) -> None:
        """Move all rows to where they belong."""
        if self.steps:
            self._catch_up(self.table.data, optimizer.state[self.rows], self.last, optimizer)
            self.steps = 0
            self.last.zero_()
            self.moved.zero_()

    def _catch_up(
        self, vectors: Tensor, states: Mapping[str, Tensor], last: Tensor, optimizer: torch.optim.Optimizer
    ) -> None:
        coasting = coasting_of(optimizer, self._group(optimizer))
        if not self.steps or not coasting.decays:
            return
        missed = (self.steps - last)[:, None]
        if coasting.direction is not None:
            direction = coasting.direction(states, (states.get("step", self.steps) - missed).clamp(min=1))
            vectors.addcmul_(direction, self.moved[last].to(vectors.dtype)[:, None], value=-1)
        for name, factor in coasting.decays.items():
            if _of_rows(states.get(name)):
                states[name].mul_(torch.pow(factor, missed).to(vectors.dtype))

    def _note_reach(self, optimizer: torch.optim.Optimizer) -> None:
        """Count the step that was just made for all rows that had no part in it."""
        group = self._group(optimizer)
        coasting = coasting_of(optimizer, group)
        if coasting.direction is None:
            return
        if self.steps >= len(self.moved):
            self.moved = torch.cat([self.moved, torch.zeros_like(self.moved)])
        step = optimizer.state[self.rows].get("step", self.steps)
        first = max(0, self.steps - math.ceil(math.log(NEGLIGIBLE) / math.log(coasting.ratio)))
        missed = torch.arange(self.steps - first, 0, -1, dtype=torch.float64)
        self.moved[first : self.steps] += coasting.reach(group, float(step)) * coasting.ratio**missed

    def _group(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        return next(group for group in optimizer.param_groups if any(each is self.rows for each in group["params"]))


def _of_rows(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 2


def find_tables(module: nn.Module, tokens_of_batch: float) -> list[RowTable]:
    """The trained tables of `module` with a row for each word that are large beside a batch of so many tokens.

    Their gradients are sparse from now on.
    """
    found = []
    for part in module.modules():
        if isinstance(part, TokenEmbedding):
            for embedding in (part.embedding, part.tuned):
                if embedding is not None and embedding.num_embeddings >= LARGE * tokens_of_batch:
                    embedding.sparse = True
                    found.append(RowTable(embedding.weight))
    return found
