"""How long a network takes to answer."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from automl.data import DenseRows, Rows, batches
from automl.training.inference import one_thread

WARM_UP = 5  # batches; the first ones make buffers and choose kernels
MEASURED = 50  # batches
MOST_SECONDS = 2.0


@torch.inference_mode()
def latencies(
    module: nn.Module, rows: Rows | DenseRows, *, batch_size: int = 1, clock: Callable[[], float] = time.perf_counter
) -> npt.NDArray[np.float64]:
    """Milliseconds that the network takes for each of up to 50 batches of `rows` on one CPU thread, warmed up.

    The rows are drawn at random, always the same, so their lengths are those of the data; tokenising is not counted.
    `clock` gives seconds: `time.perf_counter` where nothing else runs, `time.thread_time` where other processes take
    turns on the core, whose time then does not count. `module` is left in evaluation mode.
    """
    module.eval()
    if next(module.parameters()).device.type != "cpu":
        module = copy.deepcopy(module).cpu()
    found: list[float] = []
    drawn = batches(rows, batch_size, shuffle=np.random.default_rng(0))
    with one_thread():
        began = time.perf_counter()
        for number, batch in enumerate(islice(drawn, WARM_UP + MEASURED)):
            start = clock()
            module(batch.tokens, batch.lengths)
            if number >= WARM_UP or len(rows) <= WARM_UP * batch_size:
                found.append(1000 * (clock() - start))
            if found and time.perf_counter() - began > MOST_SECONDS:
                break
    return np.array(found)
