"""What the preparation cuts, drops or replaces: how much of it, and by which setting of the `data` section."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CUT_BY_DESIGN = 0.02  # `max_length: auto` of texts cuts the longest 1 %


@dataclass(frozen=True)
class Counted:
    """`count` of `of` rows or units were cut, dropped or replaced, as `what` says in words that follow the numbers."""

    what: str
    setting: str
    """Its name in the `data` section of the space file."""
    count: int
    of: int
    row: int | None = None
    """The first such row of the split as prepared, from 1; None where none is known."""
    warn: bool = False
    """Whether it is worth a warning; else it is a plain fact."""

    def sentence(self) -> str:
        """Both numbers, what happened and the setting."""
        return f"{self.count:,} of {self.of:,} {self.what} ({self.setting})"


@dataclass
class Running:
    """A count of rows that goes on over the chunks of a split."""

    count: int = 0
    row: int | None = None
    seen: int = 0

    def add(self, found: npt.NDArray[np.bool_]) -> None:
        """Take in which rows, bool [rows], of the next chunk are counted."""
        if self.row is None and found.any():
            self.row = self.seen + int(found.argmax()) + 1
        self.count += int(found.sum())
        self.seen += len(found)


def source_counts(
    files: Mapping[str, Mapping[str, Any]], removed: Mapping[str, int], read: Mapping[str, int]
) -> list[Counted]:
    """The rows left out of each file, and the repeats removed from the rows that were `read` for each split."""
    left_out = [
        Counted(f"rows of {path} are left out", "on_bad_rows", count, noted["rows"], _first(noted["first_rows"]))
        for path, noted in files.items()
        if (count := sum(noted["counts"].values()))
    ]
    repeats = [
        Counted(f"{split} rows are removed as repeats", "duplicates", count, read[split])
        for split, count in removed.items()
    ]
    return [each for each in (*left_out, *repeats) if each.count]


def add_counted(profile: dict[str, Any], counted: Sequence[Counted]) -> None:
    """Note in a profile what was counted above 0, and warn of what is worth it."""
    found = [each for each in counted if each.count]
    profile["counted"] = [*profile.get("counted", []), *map(asdict, found)]
    profile["warnings"] = [*profile.get("warnings", []), *(each.sentence() for each in found if each.warn)]


def facts(profile: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about what a profile's preparation counted, but for those that are among its warnings."""
    for noted in profile.get("counted") or []:
        if not noted.get("warn"):
            yield Counted(noted["what"], noted["setting"], noted["count"], noted["of"]).sentence()


def _first(rows: Mapping[str, Sequence[int]]) -> int | None:
    return min((numbers[0] for numbers in rows.values() if numbers), default=None)
