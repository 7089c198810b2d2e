"""Where a run will lie, said before anything else is done for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from automl.data.urls import is_url
from automl.space.printable import say
from automl.space.urls import redacted

MOST_AT_ONCE = 1000  # runs of one space that start in the same second


@contextmanager
def named(places: Sequence[str | Path], *, quiet: bool) -> Iterator[Callable[[str | Path], None]]:
    """Say where a run will lie; where the block raises and nothing lies there, say that, too.

    What is given hears where the run does lie, which is said where others were faster.
    """
    free = (each for each in places if is_url(str(each)) or not Path(each).exists())
    place = next(free, None)
    if quiet or place is None:  # the one that was named is taken, as is said in a moment
        yield lambda there: None
        return
    begun = False

    def tell(there: str | Path) -> None:
        nonlocal begun
        begun = True
        if str(there) != str(place):
            say_where(there)

    say_where(place)
    try:
        yield tell
    except BaseException:
        if not begun or not (is_url(str(place)) or Path(place).exists()):
            say(f"nothing was written to {redacted(str(place))}")
        raise


def say_where(place: str | Path) -> None:
    """Say where a run lies, as the first line of what is told of it."""
    say(f"run         {redacted(str(place))}")


def default_places(name: str) -> Iterator[Path]:
    """Where a run may lie that was given no place: the next one is for where the first is taken."""
    first = Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    yield first
    yield from (first.with_name(f"{first.name}-{number}") for number in range(2, MOST_AT_ONCE))
