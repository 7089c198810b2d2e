"""Files that a stranger may have written: regular files only, of bounded size, validated before they are used."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from automl.space.errors import UserError

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)

MAX_JSON_BYTES = 64 * 1024 * 1024
SHOWN_CHARACTERS = 200


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file; a link is followed.

    Raises UserError for a pipe, a device or a folder (opening it never blocks) and for more than `max_bytes`,
    FileNotFoundError where there is nothing, another OSError where it cannot be read.
    """
    if path.is_dir():
        raise UserError(f"{path} is not a regular file")
    with open(path, "rb", opener=_open_at_once) as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise UserError(f"{path} is not a regular file")
        if state.st_size > max_bytes:
            raise UserError(f"{path} is too large: {state.st_size:,} bytes, at most {max_bytes:,} are read")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise UserError(f"{path} is too large: at most {max_bytes:,} bytes are read")
    return content


def read_json_file(path: Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """What a JSON file holds. Raises UserError where it is not one; OSError as `read_regular` does."""
    content = read_regular(path, max_bytes)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, no UTF-8, a number of too many digits
        raise UserError(f"{path} is damaged: {_first_line(error)}") from error


def read_as(path: Path, kind: type[Model], max_bytes: int = MAX_JSON_BYTES) -> Model:
    """A JSON file as a pydantic model. Raises UserError that names the field which is wrong; OSError as above."""
    return validated(read_json_file(path, max_bytes), kind, path)


def validated(content: Any, kind: type[T], path: Path) -> T:
    """What a file holds, as `kind`. Raises UserError that names the first field which is wrong."""
    try:
        return TypeAdapter(kind).validate_python(content)
    except (ValidationError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise UserError(f"{path} is damaged: it is nested too deeply") from error
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:SHOWN_CHARACTERS]
        raise UserError(f"{path} is damaged: {f'{where}: ' if where else ''}{_first_line(first['msg'])}") from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _first_line(reason: object) -> str:
    return next(iter(str(reason).splitlines()), type(reason).__name__)[:SHOWN_CHARACTERS]
