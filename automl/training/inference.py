"""A trained network applied to rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from automl.data import DenseRows, Rows, batches
from automl.models import build, lexicon_of
from automl.space import UserError
from automl.training.packed_weights import unpack
from automl.training.shard import ALONE, Shard

CHECK_EVERY = 20  # steps between looks at the loss, the clock and whether to stop


def default_device() -> torch.device:
    """The GPU that this process may use, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 where a GPU computes it natively, else full precision."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


def training_autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """For the setting `precision`: with `auto` bfloat16, of a CPU too, where the device computes it natively.

    On a CPU it is for training only, so what a model says does not depend on the machine.
    """
    if precision == "float32":
        return nullcontext()
    if device.type == "cpu" and _cpu_computes_bfloat16():
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return autocast(device)


@cache
def _cpu_computes_bfloat16() -> bool:
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # PyTorch is too old
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one CPU thread: as fast for these small networks, and far faster where other processes want the cores.

    Measured with 3,554 sentences on two busy cores: 0.3 s with one thread, 1.5 to 9 s with two, which wait for each
    other at every layer.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
def predict_probabilities(
    module: nn.Module,
    rows: Rows | DenseRows,
    *,
    device: torch.device,
    batch_size: int = 256,
    shard: Shard = ALONE,
    look: Callable[[], None] = lambda: None,
) -> npt.NDArray[np.float32]:
    """Class probabilities float32 [rows, classes] in the rows' own order; leaves `module` in evaluation mode.

    The processes of a `shard` compute a batch each in turn, and all get the whole. `look` is called every
    `CHECK_EVERY` batches.
    """
    module.eval()
    probabilities: Tensor | None = None
    for number, batch in enumerate(batches(rows, batch_size, shuffle=None, for_gpu=device.type == "cuda")):
        if number % CHECK_EVERY == 0:
            look()
        mine = number % shard.world == shard.rank
        if not mine and probabilities is not None:
            continue
        with autocast(device):
            logits = module(batch.tokens.to(device, non_blocking=True), batch.lengths.to(device, non_blocking=True))
        if probabilities is None:
            probabilities = torch.zeros(len(rows), logits.shape[1], device=device)
        if mine:
            probabilities[batch.index.to(device, non_blocking=True)] = logits.float().softmax(dim=1)
    assert probabilities is not None  # there is at least one row
    return shard.sum(probabilities).cpu().numpy()


def load_weights(config: Mapping[str, Any], *, vocabulary: int, classes: int, path: Path) -> nn.Module:
    """Build the network of `config["model"]` on the CPU with the weights of a safetensors file.

    Raises UserError where the file is missing, damaged, or of another network.
    """
    try:
        weights = unpack(load_file(path))
        module = build(config["model"], vocabulary=vocabulary, classes=classes, lexicon=lexicon_of(weights))
        module.load_state_dict(weights)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"cannot load the model's weights from {path}: {error}") from error
    return module.eval()
