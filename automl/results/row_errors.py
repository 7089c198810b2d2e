"""The error of a row that fails, without losing the results of the rows beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from automl.data.tokenizer_file import TokenizerError
from automl.space import UserError

SHOWN_CHARACTERS = 200
# No row is to blame for an interrupt, or for a mistake about the whole file. It may be for a panic in Rust, which is a
# BaseException, too.
NOT_OF_A_ROW = (KeyboardInterrupt, SystemExit, GeneratorExit, UserError)

R = TypeVar("R")


def isolate_failures(work: Callable[[int, int], R], rows: int) -> Iterator[tuple[int, int, R | None, str | None]]:
    """`work(start, end)` for all of `rows` rows at once or, where that raises, for halves of them, down to single rows.

    Gives start, end, the result and None of each part that worked, in order, and of each row that did not start, end,
    None and what was raised, in one line. What `work` gives may not be None. UserError (but a tokenizer's) and
    interrupts go through.
    """
    parts = [(0, rows)] if rows else []
    while parts:
        start, end = parts.pop()
        try:
            found = work(start, end)
        except BaseException as error:
            if isinstance(error, NOT_OF_A_ROW) and not isinstance(error, TokenizerError):
                raise
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
