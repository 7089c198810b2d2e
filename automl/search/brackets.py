"""How trials are shared out to the brackets of successive halving."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


class Brackets:
    """The brackets share the trials as those of Hyperband do (Li et al. 2018, algorithm 1).

    One of s rungs, of at most S, gets (S + 1) / (s + 1) * factor^s parts, rounded up, so that all use about as many
    epochs.
    """

    def __init__(self, brackets: Sequence[tuple[int, ...]], factor: int) -> None:
        most = len(brackets[0])
        parts = [-(-(most + 1) * factor ** len(rungs) // (len(rungs) + 1)) for rungs in brackets]
        self._shares = [share / sum(parts) for share in accumulate(parts)]

    def of(self, number: int) -> int:
        """The bracket of a trial: any run of consecutive numbers is shared out nearly in proportion."""
        return min(bisect_right(self._shares, van_der_corput(number)), len(self._shares) - 1)


def van_der_corput(number: int) -> float:
    """The binary digits of a number mirrored at the point: fills [0, 1) evenly (van der Corput 1935)."""
    mirrored, place = 0.0, 0.5
    while number:
        mirrored += place * (number & 1)
        number >>= 1
        place /= 2
    return mirrored
