"""Steps of a GPU recorded as CUDA graphs: what launches a small network's kernels one by one, a graph does at once.

A small network leaves a GPU waiting for Python, which takes about 10 microseconds for each of its hundreds of kernels.
Where batches of a shape have come before, a step is a single launch of what was recorded then.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

STEPS_BEFORE = 3  # of a shape, as they are: libraries choose their algorithms in them, optimisers make their states
MOST = 64  # shapes that are recorded, as each takes some memory

Shape = tuple[torch.Size, torch.dtype]
Step = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Recording:
    """A recorded step: it reads `inputs` and leaves `loss`, always in the same memory."""

    graph: torch.cuda.CUDAGraph
    inputs: Sequence[Tensor]
    loss: Tensor


@dataclass
class Recorder:
    """Runs steps of an optimiser, and records them where they come again and again.

    A step takes inputs, lengths and labels, updates the weights and gives the loss. What it does must depend on the
    shapes alone, not on numbers that Python sees; a recorded one draws the random numbers that it would draw otherwise.
    The learning rates are the exception: they are those that the optimiser's groups have at each call.
    """

    optimizer: torch.optim.Optimizer
    device: torch.device
    recorded: dict[Shape, Recording] = field(default_factory=dict)
    seen: Counter[Shape] = field(default_factory=Counter)
    rates: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        """Put the learning rates, and what the optimiser counts, where a recorded step reads them."""
        self.rates = [torch.zeros((), device=self.device) for _ in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = True

    def run(self, step: Step, *batch: Tensor) -> Tensor:
        """Do the step, or launch what is recorded of it; the loss is to be read before the next one."""
        groups: list[dict[str, Any]] = self.optimizer.param_groups
        numbers = [group["lr"] for group in groups]
        for rate, number in zip(self.rates, numbers, strict=True):
            rate.fill_(number)
        shape = (batch[0].shape, batch[0].dtype)
        if shape not in self.recorded:
            for group, rate in zip(groups, self.rates, strict=True):
                group["lr"] = rate
            try:
                self.seen[shape] += 1
                if self.seen[shape] <= STEPS_BEFORE or len(self.recorded) == MOST:
                    with warnings.catch_warnings():
                        warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")
                        return step(*(each.to(self.device, non_blocking=True) for each in batch))
                self.recorded[shape] = self._record(step, batch)
            finally:
                for group, number in zip(groups, numbers, strict=True):
                    group["lr"] = number
        recording = self.recorded[shape]
        for place, values in zip(recording.inputs, batch, strict=True):
            place.copy_(values, non_blocking=True)
        recording.graph.replay()
        return recording.loss

    def _record(self, step: Step, batch: Sequence[Tensor]) -> Recording:
        """Nothing is computed while it is recorded. After an error other than of memory a process cannot go on."""
        inputs = [torch.empty_like(each, device=self.device) for each in batch]
        pool = next((recording.graph.pool() for recording in self.recorded.values()), None)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            loss = step(*inputs)
        return Recording(graph, inputs, loss)
