"""PyTorch's own files (.pt, .pth, checkpoints): tensors and plain values, in about the memory that the file takes."""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import torch

from automl.space import UserError
from automl.space.safe_files import read_regular

MOST_BYTES = 16 * 1024**3
PICKLES = (
    5  # of the format before PyTorch 1.6: a magic number, a version, sizes of types, the values, names of storages
)
VALUES = 3  # which of them says how large storages are


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU; of objects only tensors and plain values are made (`weights_only`).

    Raises UserError for a file that is not regular or would take more memory than it is large, and what torch.load
    raises for a damaged one.
    """
    return torch_values(read_regular(path, MOST_BYTES), path)


def torch_values(content: bytes, path: Path) -> Any:
    """The same of a file's content; `path` names it in errors."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise UserError(f"{path} is compressed inside, as PyTorch writes no file")
        if sum(part.file_size for part in parts) > len(content):
            raise UserError(f"{path} is damaged: it says that it holds more than it does")
    else:
        _check_sizes(content, path)
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _check_sizes(content: bytes, path: Path) -> None:
    """Raise UserError where the values of a file of the old format name a size that is larger than the file."""
    file = io.BytesIO(content)
    try:
        for number in range(PICKLES):
            for _, argument, _ in pickletools.genops(file):
                if number == VALUES and isinstance(argument, int) and argument > len(content):
                    raise UserError(f"{path} is damaged: it says that it holds more than it does")
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
