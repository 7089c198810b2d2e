"""What a person who uses this package did that cannot work, in words that help them mend it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches

from rich.cells import cell_len

from automl.space.urls import redacted_urls

SHOWN_PROBLEMS = 40
SHOWN_WIDTH = 76  # with the four spaces before it as wide as most terminals: where it wraps, the caret points nowhere


class UserError(Exception):
    """A mistake that the user can mend; its text is clear on its own and is printed without a traceback.

    Nothing secret of a URL stands in the text, whoever raises it: it may end in a log.
    """

    def __str__(self) -> str:
        return redacted_urls(super().__str__())


Place = tuple[str | int, ...]
"""Where a setting stands in a search-space file: `("data", "label")`."""


class DataFaultsError(UserError):
    """What is wrong with the data, each fault with the setting that names what is wrong: `located` adds its line."""

    def __init__(self, faults: Sequence[tuple[Place, str]]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(message for _, message in self.faults))

    def __reduce__(self) -> tuple[type[DataFaultsError], tuple[tuple[tuple[Place, str], ...]]]:
        return type(self), (self.faults,)


@contextmanager
def of_setting(*place: str | int) -> Iterator[None]:
    """A UserError of the block is one about the setting at `place`."""
    try:
        yield
    except DataFaultsError:
        raise
    except UserError as error:
        raise DataFaultsError([(place, str(error))]) from error


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file: where (line and column from 1, 0 where it is the whole file) and what."""

    file: str
    line: int
    column: int
    source: str
    message: str

    def __str__(self) -> str:
        if not self.line:
            return f"{self.file}: {self.message}"
        place = f"{self.file}:{self.line}:{self.column}: {self.message}"
        if not self.source.strip() or self.column > len(self.source) + 1:
            return place
        source, column = redacted_urls(self.source), len(redacted_urls(self.source[: self.column - 1])) + 1
        # Of a long line, only the part around the column is shown.
        start = max(0, column - SHOWN_WIDTH * 3 // 4) if column > SHOWN_WIDTH else 0
        shown = "".join(sign if sign.isprintable() else " " for sign in source[start : start + SHOWN_WIDTH])
        before = shown[: column - 1 - start]
        return f"{place}\n    {shown.rstrip()}\n    {' ' * cell_len(before)}^"


class SpaceError(UserError):
    """A search-space file that is wrong; `problems` are all that was found, file by file in their order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem.line, problem.column)))
        shown = [str(problem) for problem in self.problems[:SHOWN_PROBLEMS]]
        more = len(self.problems) - len(shown)
        super().__init__("\n".join([*shown, f"... and {more} more problems"] if more else shown))

    def __reduce__(self) -> tuple[type[SpaceError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)  # an exception is otherwise unpickled from its text


def closest(name: object, valid: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of `valid` that `name` was probably meant to be; `cutoff` from 0 (anything) to 1 (the same)."""
    written = str(name).lower()[:100]
    close = get_close_matches(written, list(valid), n=3, cutoff=cutoff)
    # Of those that are equally near the one with the same beginning: few mistake the first letter.
    return max(
        close, key=lambda each: (SequenceMatcher(None, each, written).ratio(), each[:1] == written[:1]), default=None
    )


def nearest(name: object, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` where one of `valid` is close to `name`, else `; expected a, b or c`."""
    names = list(valid)
    close = closest(name, names)
    if close:
        return f"; did you mean {close!r}?"
    return f"; expected {listing(names)}" if names else "; nothing can be set here"


def nearest_path(path: str, valid: Iterable[str]) -> str | None:
    """The one of the paths `valid` that `path` was probably meant to be: of the same last name, or spelt alike."""
    names = list(valid)
    last = path.rpartition(".")[2]
    same = [name for name in names if name.rpartition(".")[2] == last]
    return same[0] if same else closest(path, names)


def is_number(text: str) -> bool:
    """Whether a text could be written as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def listing(names: Iterable[object], last: str = "or") -> str:
    """`a, b or c`."""
    words = [str(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
