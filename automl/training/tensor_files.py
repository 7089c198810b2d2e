"""Safetensors files that a stranger may have written: what the header claims is checked before memory is taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from automl.space import UserError
from automl.space.safe_files import open_regular, read_regular, validated
from automl.training.tensor_header import read_content

MOST_BYTES = 16 * 1024**3
MOST_DIMENSIONS = 8

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    dtype: str
    shape: Annotated[list[Annotated[int, Field(ge=0, le=2**40)]], Field(max_length=MOST_DIMENSIONS)]
    data_offsets: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file without their numbers, on PyTorch's `meta` device.

    Raises UserError where the file is not regular, or its header does not say exactly where in it each tensor lies;
    OSError where it cannot be read.
    """
    with open_regular(path) as (file, size):
        return _header(file, size, path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file in memory, none of them mapped. Raises as `read_header` does."""
    read_header(path)
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(read_regular(path, MOST_BYTES))
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    return tensors


def write_tensors(path: Path, tensors: Mapping[str, Tensor | npt.NDArray[Any]]) -> None:
    """Write a safetensors file whose mode follows the umask; the library's own `save_file` lets nobody else read it."""
    made = {
        name: (each if isinstance(each, Tensor) else torch.from_numpy(np.ascontiguousarray(each))).contiguous()
        for name, each in tensors.items()
    }
    path.write_bytes(safetensors.torch.save(made))


def read_some(path: Path, prefix: str) -> dict[str, Tensor]:
    """Of a file that `read_header` has checked, the tensors whose names begin with `prefix`."""
    with safetensors.safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118


def _header(file: BinaryIO, size: int, path: Path) -> dict[str, Tensor]:
    content, start = read_content(file, size, path)
    if isinstance(content, dict):
        content.pop("__metadata__", None)
    entries = validated(content, dict[str, _Entry], path)
    end = 0
    for name, entry in sorted(entries.items(), key=lambda pair: pair[1].data_offsets):
        dtype = DTYPES.get(entry.dtype)
        if dtype is None:
            raise UserError(f"{path} is damaged: {name[:80]} is of the unknown type {entry.dtype[:20]!r}")
        if entry.data_offsets != [end, end + math.prod(entry.shape) * dtype.itemsize]:
            raise UserError(f"{path} is damaged: {name[:80]} does not lie where its header says, or has another size")
        end = entry.data_offsets[1]
    if start + end != size:
        raise UserError(f"{path} is damaged: it has {size:,} bytes, not those that its header says")
    try:
        return {
            name: torch.empty(each.shape, dtype=DTYPES[each.dtype], device="meta") for name, each in entries.items()
        }
    except RuntimeError as error:  # sizes beside a 0 whose product is no number
        raise UserError(f"{path} is damaged: a tensor has an impossible shape") from error


def require_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
    """Raise UserError, which begins with `what`, where tensors are not of the names, shapes and types of `wanted`."""
    for name in [*wanted, *found]:
        if name not in found or name not in wanted:
            raise UserError(
                f"{what}: {name[:80]} {'is missing' if name not in found else 'belongs to another network'}"
            )
        one, other = found[name], wanted[name]
        if one.shape != other.shape or one.dtype != other.dtype:
            kinds = [f"{str(each.dtype).removeprefix('torch.')} {[*each.shape]}" for each in (one, other)]
            raise UserError(f"{what}: {name[:80]} is {kinds[0]}, the network has {kinds[1]}")
