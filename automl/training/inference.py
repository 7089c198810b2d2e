"""A trained network applied to rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from automl.data import DenseRows, Rows, batches
from automl.models import FAMILIES, Lexicon, build, family_section, is_user_family, lexicon_of
from automl.models.unfilled import Unfilled
from automl.space import UserError
from automl.space.fixed import fixed_section
from automl.space.safe_files import first_line
from automl.training.packed_weights import packed_shapes, read_shapes, unpack
from automl.training.shard import ALONE, Shard
from automl.training.tensor_files import read_header, read_some, read_tensors, require_same

CHECK_EVERY = 20  # steps between looks at the loss, the clock and whether to stop


_CPU_ONLY: ContextVar[bool] = ContextVar("cpu only", default=False)


def default_device() -> torch.device:
    """The GPU that this process may use, else the CPU."""
    return torch.device("cuda" if not _CPU_ONLY.get() and torch.cuda.is_available() else "cpu")


@contextmanager
def cpu_only(wanted: bool) -> Iterator[None]:
    """Where it is `wanted`, `default_device` is the CPU for the time of the block."""
    before = _CPU_ONLY.set(wanted or _CPU_ONLY.get())
    try:
        yield
    finally:
        _CPU_ONLY.reset(before)


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


def require_named(model: Mapping[str, Any], families: Sequence[str], what: str) -> None:
    """Raise UserError where a `model` section names a family of the user's own that is not one of `families`.

    To build its network its module is imported, which runs what somebody wrote: only who loads the model may ask so.
    """
    for family in model:
        if is_user_family(family) and family not in families:
            shown = family[:80]
            raise UserError(
                f"{what} needs {shown!r}, which is no family of automl but Python code that would be run; "
                f"if you trust it, say --family {shown}, or families=[{shown!r}] in Python"
            )


def checked_model(model: Mapping[str, Any], path: Path, families: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """The `model` section `{family: settings}` in the file `path`, every setting fixed and within its bounds.

    Raises UserError for other ones, for no known family, and for one of a user's own that `families` does not name.
    """
    if len(model) != 1:
        raise UserError(f"{path} is damaged: a model is of one family, not {len(model)}")
    ((family, settings),) = model.items()
    require_named(model, families, f"the model in {path.parent}")
    if not is_user_family(family) and family not in FAMILIES:
        raise UserError(f"{path} is damaged: there is no family {family[:80]!r}; a later version of automl may know it")
    section = family_section(family) if is_user_family(family) else FAMILIES[family]
    return {family: fixed_section(settings, section, path, family)}


def load_weights(
    config: Mapping[str, Any], *, vocabulary: int, classes: int, path: Path, families: Sequence[str] = ()
) -> nn.Module:
    """Build the network of `config["model"]` on the CPU with the weights of a safetensors file.

    Settings, names, shapes and types are compared with the file before memory is taken for numbers. Raises UserError
    where the file is missing, damaged, or of another network, or where the network is of a family of the user's own
    (`module:function`) that `families` does not name.
    """
    try:
        model = checked_model(config["model"], path, families)
        stored = packed_shapes(read_header(path), read_shapes(read_some(path, "shape:")))
        module = _without_numbers(model, vocabulary, classes, lexicon_of(stored))
        wanted = module.state_dict()
        require_same(stored, wanted, "it is of another network")
        weights = unpack(read_tensors(path))
        require_same(weights, wanted, "it has changed meanwhile")
        _check_numbers(weights, list(model))
        if any(map(is_user_family, model)):
            module = build(
                model, vocabulary=vocabulary, classes=classes
            )  # whose buffers may be more than its state_dict
            module.load_state_dict(weights)
        else:  # not into the memory of `to_empty`, for which PyTorch imports SymPy
            module.load_state_dict({name: each.clone() for name, each in weights.items()}, assign=True)
    except UserError as error:
        raise UserError(f"cannot load the model's weights from {path}: {error}") from error
    except Exception as error:
        raise UserError(
            f"cannot load the model's weights from {path}: {type(error).__name__}: {first_line(error)}"
        ) from error
    return module.eval()


def _without_numbers(model: Mapping[str, Any], vocabulary: int, classes: int, lexicon: Lexicon) -> nn.Module:
    """The network on PyTorch's `meta` device, where it takes no memory, however large it is."""
    try:
        with torch.device("meta"), Unfilled():
            return build(model, vocabulary=vocabulary, classes=classes, lexicon=lexicon)
    except Exception:
        if not any(map(is_user_family, model)):
            raise
        return build(model, vocabulary=vocabulary, classes=classes)  # one whose code looks at its numbers


def _check_numbers(weights: Mapping[str, Tensor], families: Sequence[str]) -> None:
    """Raise UserError for numbers that a network of this package cannot compute with."""
    if any(map(is_user_family, families)):
        return
    for name, tensor in weights.items():
        if name.endswith("standardise.mean") and not tensor.isfinite().all():
            raise UserError(f"{name} is not finite")
        if name.endswith("standardise.deviation") and not (tensor.isfinite() & (tensor > 0)).all():
            raise UserError(f"{name} is not finite and above 0")
    numbers, ngrams = weights.get("embedding.subword_numbers"), weights.get("embedding.ngrams.weight")
    if numbers is not None and ngrams is not None and ((numbers < 0) | (numbers >= len(ngrams))).any():
        raise UserError("embedding.subword_numbers names n-grams that there are not")
