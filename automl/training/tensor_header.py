"""The header of a safetensors file that a stranger may have written, read without loading PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

from automl.space import UserError
from automl.space.safe_files import open_regular, validated

MOST_HEADER = 16 * 1024 * 1024
LENGTH_BYTES = 8  # of the header's length, which stands first


def read_content(file: BinaryIO, size: int, path: Path) -> tuple[Any, int]:
    """What the header of a file of `size` bytes holds, unchecked JSON, and where the header ends, in bytes.

    Raises UserError where there is none.
    """
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if length > min(MOST_HEADER, size - LENGTH_BYTES):
        raise UserError(f"{path} is damaged: its header is longer than it may be")
    try:
        return json.loads(file.read(length)), LENGTH_BYTES + length
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: its header is no JSON") from error


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, which need not be true.

    Raises UserError where the file is not regular or its header is damaged, OSError where it cannot be read.
    """
    with open_regular(path) as (file, size):
        content, _ = read_content(file, size, path)
    found = content.get("__metadata__") if isinstance(content, dict) else None
    return validated({} if found is None else found, dict[str, str], path)
