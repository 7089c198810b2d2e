"""What a person who uses this package did that cannot work, in words that help them mend it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


class UserError(Exception):
    """A mistake that the user can mend; its text is clear on its own and is printed without a traceback."""


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
        if not self.source.strip():
            return place
        shown = self.source.replace("\t", " ")[:120]
        if self.column > len(shown) + 1:
            return f"{place}\n    {shown}"
        return f"{place}\n    {shown}\n    {' ' * (self.column - 1)}^"


class SpaceError(UserError):
    """A search-space file that is wrong; `problems` are all that was found, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def nearest(name: object, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` where one of `valid` is close to `name`, else `; expected a, b or c`."""
    names = list(valid)
    close = get_close_matches(str(name).lower(), names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; expected {listing(names)}" if names else ""


def listing(names: Iterable[object]) -> str:
    """`a, b or c`."""
    words = [str(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
