"""Work on many rows of which one may fail: the others get their result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from automl.space import UserError

SHOWN_CHARACTERS = 200
# Not what a row is to blame for. A panic in Rust is a BaseException, too, and that it may be.
OURS = (KeyboardInterrupt, SystemExit, GeneratorExit, UserError)

R = TypeVar("R")


def survivors(work: Callable[[int, int], R], rows: int) -> Iterator[tuple[int, int, R | None, str | None]]:
    """`work(start, end)` for all of `rows` rows at once or, where that raises, for halves of them, down to single rows.

    Gives start, end, the result and None of each part that worked, in order, and of each row that did not start, end,
    None and what was raised, in one line. What `work` gives may not be None. UserError and interrupts go through.
    """
    parts = [(0, rows)] if rows else []
    while parts:
        start, end = parts.pop()
        try:
            found = work(start, end)
        except OURS:
            raise
        except BaseException as error:
            if end - start > 1:
                middle = (start + end) // 2
                parts += [(middle, end), (start, middle)]
                continue
            failed = _in_one_line(error)
        else:
            yield start, end, found, None
            continue
        yield start, end, None, failed


def _in_one_line(error: BaseException) -> str:
    said = " ".join(str(error)[:10_000].split())
    said = "".join(character if character.isprintable() else "\ufffd" for character in said)
    return f"failed: {type(error).__name__}{': ' if said else ''}{said[:SHOWN_CHARACTERS]}"
