"""One process's share of data-parallel training: every batch is cut among processes, and sums are taken over all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from automl.data import Batch


@dataclass(frozen=True)
class Shard:
    """Process `rank` of `world`, which have the default group of torch.distributed in common where world > 1."""

    rank: int = 0
    world: int = 1

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes; every process has to call it."""
        if self.world > 1:
            torch.distributed.all_reduce(values)
        return values

    def any(self, value: bool, device: torch.device) -> bool:
        """Whether `value` is true in any process; every process has to call it."""
        return value if self.world == 1 else bool(self.sum(torch.tensor(float(value), device=device)).item())

    def wait(self, device: torch.device) -> None:
        """Wait until every process has called this."""
        self.any(False, device)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The same network, whose gradients are averaged over all processes."""
        return module if self.world == 1 else nn.parallel.DistributedDataParallel(module)

    def pieces(self, batch: Batch, parts: int) -> Iterator[tuple[Batch, float]]:
        """This process's rows of a batch in `parts` pieces, each with its weight.

        The mean loss of each piece times its weight, added up over the pieces and averaged over the processes, is the
        mean loss of the batch. A process that gets no row of it has a piece of one row that weighs nothing.
        """
        pieces = self.world * parts
        if pieces == 1:
            yield batch, 1.0
            return
        rows = len(batch.labels)
        for first in range(self.rank, pieces, self.world):
            if self.world == 1 and first >= rows:
                return  # more pieces than rows; of several processes each has to take part in each piece
            # Rows of a batch may be sorted by length: every piece gets some of each length.
            share = slice(first, None, pieces) if first < rows else slice(1)
            lengths = batch.lengths[share]
            piece = Batch(batch.tokens[share, : int(lengths.max())], lengths, batch.labels[share], batch.index[share])
            yield piece, (len(lengths) * self.world / rows if first < rows else 0.0)


ALONE = Shard()


def unsynchronised(module: nn.Module) -> AbstractContextManager[Any]:
    """Gradients of a backward pass in here stay in this process until the next one outside."""
    return module.no_sync() if isinstance(module, nn.parallel.DistributedDataParallel) else nullcontext()
