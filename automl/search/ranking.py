"""Which trials are the best so far: those on the Pareto front, then all others by their score."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping, Sequence

from automl.space.objectives import Point, dominates, mode, point


class Ranking:
    """Ranks trials by the first of the `objectives`, whose best epoch is their score; the front comes first.

    With one objective the front is the best trial.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        self._objectives = tuple(objectives)
        self.maximize = mode(self._objectives[0]) == "max"
        self._ended: list[tuple[float, int]] = []  # key and number of trials that have ended with a score, best first
        self._front: dict[int, Point] = {}
        self._families: dict[str, tuple[float, int]] = {}  # key and number of the best of each that has ended
        self.best: tuple[float, int] | None = None  # key and number, over the running trials too
        self.since_best = 0  # trials that have ended since the best score was reached, or one has joined the front

    def score(self, values: Mapping[int, float]) -> float:
        """The best value of a trial over its epochs: that of the epoch whose weights are kept."""
        return max(values.values()) if self.maximize else min(values.values())

    def key(self, score: float) -> float:
        """The score with its sign such that less is better; of a key the score."""
        return -score if self.maximize else score

    def see(self, number: int, values: Mapping[int, float]) -> None:
        """A trial, running or not, has reached these values after its epochs."""
        if not values:
            return
        key = self.key(self.score(values))
        if self.best is None or (key, number) < self.best:
            self.best = (key, number)
            self.since_best = 0

    def recall(self, since_best: int, best: float | None) -> None:
        """Go on counting where `since_best` was counted, unless the key of the `best` score has been beaten since."""
        beaten = self.best is not None and (best is None or self.best[0] < best)
        self.since_best = 0 if beaten else since_best

    def pause(self) -> None:
        """A trial waits, which counts as an end for `since_best`."""
        self.since_best += 1

    def end(
        self, number: int, family: str, values: Mapping[int, float], reached: Sequence[float], *, waited: bool = False
    ) -> float:
        """A trial has ended, where it ran or `waited`, with a score, and `reached` these objectives; gives its key."""
        key = self.key(self.score(values))
        insort(self._ended, (key, number))
        self._families[family] = min(self._families.get(family, (key, number)), (key, number))
        self.since_best += not waited
        mine = point(self._objectives, reached)
        if not any(dominates(other, mine) for other in self._front.values()):
            self._front = {each: other for each, other in self._front.items() if not dominates(mine, other)}
            self._front[number] = mine
            if len(mine) > 1:
                self.since_best = 0
        return key

    def forget(self, number: int, running: Iterable[tuple[int, Mapping[int, float]]]) -> None:
        """A trial that failed does not count, even if it was the best while it ran beside the `running` ones."""
        if self.best is not None and self.best[1] == number:
            self.best = self._ended[0] if self._ended else None
            for other, values in running:
                self.see(other, values)

    @property
    def front(self) -> list[int]:
        """Numbers of the trials on the Pareto front, best first by the first objective."""
        return sorted(self._front, key=lambda number: (self._front[number], number))

    @property
    def best_of_families(self) -> list[int]:
        """Of each family the best trial that has ended without failing, best first."""
        return [number for _, number in sorted(self._families.values())]

    def leaders(self, count: int) -> list[int]:
        """The `count` best trials that have ended without failing: the front first, then by score."""
        front = self.front
        if count <= len(front):
            return front[:count]
        others = (number for _, number in self._ended if number not in self._front)
        return front + [number for number, _ in zip(others, range(count - len(front)), strict=False)]
