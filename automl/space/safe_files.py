"""Files that a stranger may have written: regular files only, of bounded size, validated before they are used."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from automl.space.errors import UserError

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)

MAX_JSON_BYTES = 64 * 1024 * 1024
MAX_VALUES = 3_000_000  # of a file: empty lists of two bytes each take thirty times their size in memory
MAX_DEPTH = 100  # of lists and mappings in each other
MAX_WHOLE = 2**63  # what tables and sums hold
SHOWN_CHARACTERS = 200
BLOCK_BYTES = 1 << 20
_END = object()


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file, open for reading, and its size in bytes; a link is followed.

    Raises UserError for a pipe, a device or a folder (opening it never blocks), FileNotFoundError where there is
    nothing, another OSError where it cannot be read.
    """
    if path.is_dir():
        raise UserError(f"{path} is not a regular file")
    with open(path, "rb", opener=_open_at_once) as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise UserError(f"{path} is not a regular file")
        yield file, state.st_size


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file, in about the memory that it takes on disk.

    Raises UserError for more than `max_bytes`, and what `open_regular` raises.
    """
    with open_regular(path) as (file, size):
        if size > max_bytes:
            raise UserError(f"{path} is too large: {size:,} bytes, at most {max_bytes:,} are read")
        # Python takes the memory for as many bytes as are asked for before it reads, so never ask for `max_bytes`.
        content = file.read(size)
        while len(content) <= max_bytes and (block := file.read(min(BLOCK_BYTES, max_bytes + 1 - len(content)))):
            content += block  # files in /proc say that they have no bytes; others may have grown
    if len(content) > max_bytes:
        raise UserError(f"{path} is too large: at most {max_bytes:,} bytes are read")
    return content


def read_json_file(path: Path, max_bytes: int = MAX_JSON_BYTES, max_values: int = MAX_VALUES) -> Any:
    """What a JSON file holds. Raises UserError where it is not one; OSError as `read_regular` does."""
    return parse_json(read_regular(path, max_bytes), path, max_values=max_values)


def parse_json(content: bytes, path: Path, *, line: int | None = None, max_values: int = MAX_VALUES) -> Any:
    """The JSON value in `content`, which stands in `path` (in this `line` of it).

    Raises UserError where it is none, has more than `max_values` values (commas and brackets, in texts too), is nested
    deeper than `MAX_DEPTH`, or holds a number or a text that no file of this package holds: NaN, infinity, beyond 64
    bits, half of a surrogate pair.
    """
    where = f"{path} is damaged" if line is None else f"{path} is damaged in line {line}"
    if sum(map(content.count, (b",", b"[", b"{"))) > max_values:
        raise UserError(f"{where}: it has more than {max_values:,} values")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, no UTF-8, a number of too many digits
        raise UserError(f"{where}: {first_line(error)}") from error
    if wrong := _unsound(found, surrogates=b"\\ud" in content or b"\\uD" in content):
        raise UserError(f"{where}: {wrong}")
    return found


def _unsound(content: Any, *, surrogates: bool) -> str:
    """Why what a file holds cannot be used; empty where it can."""
    open_at: list[Iterator[Any]] = [iter((content,))]  # of each list or mapping around the next value, what follows
    while open_at:
        value = next(open_at[-1], _END)
        if value is _END:
            open_at.pop()
        elif isinstance(value, dict | list):
            if len(open_at) > MAX_DEPTH:
                return f"it is nested deeper than {MAX_DEPTH} levels"
            if surrogates and isinstance(value, dict) and not all(map(_is_text, value)):
                return "a text is not valid Unicode"
            open_at.append(iter(value.values() if isinstance(value, dict) else value))
        elif isinstance(value, float) and not math.isfinite(value):
            return f"{value} is not a finite number"
        elif isinstance(value, int) and abs(value) >= MAX_WHOLE:
            return "a whole number is too large"
        elif surrogates and isinstance(value, str) and not _is_text(value):
            return "a text is not valid Unicode"
    return ""


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_as(path: Path, kind: type[Model], max_bytes: int = MAX_JSON_BYTES, max_values: int = MAX_VALUES) -> Model:
    """A JSON file as a pydantic model. Raises UserError that names the field which is wrong; OSError as above."""
    return validated(read_json_file(path, max_bytes, max_values), kind, path)


def validated(content: Any, kind: type[T], path: Path) -> T:
    """What a file holds, as `kind`. Raises UserError that names the first field which is wrong."""
    try:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind.model_validate(content)  # an adapter takes longer to make than most files to check
        return TypeAdapter(kind).validate_python(content)
    except (ValidationError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise UserError(f"{path} is damaged: it is nested too deeply") from error
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:SHOWN_CHARACTERS]
        raise UserError(f"{path} is damaged: {f'{where}: ' if where else ''}{first_line(first['msg'])}") from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def first_line(reason: object) -> str:
    """The first line of what an exception says, at most `SHOWN_CHARACTERS`; its class where it says nothing."""
    return next(iter(str(reason).splitlines()), type(reason).__name__)[:SHOWN_CHARACTERS]
