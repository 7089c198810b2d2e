"""Asynchronous successive halving that pauses trials at rungs and takes up the best of them again."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence

from automl.search.brackets import Brackets
from automl.training.run_directory import PAUSED

Arrival = tuple[float, int]  # key and number of a trial: the smaller the better


class Promotion:
    """ASHA as published (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2).

    Every trial pauses at a rung. A free worker takes up a paused trial that is among the best 1/factor, rounded down,
    of all that have arrived at its rung, from the highest rung down, and begins a new one where there is none. No more
    than that share go on, or all would where each is better than those before (delayed ASHA, Li et al. 2022,
    "Hyper-Tune"). Where nothing more will arrive at a rung the share is rounded up: of a few trials one still goes on.

    `trials` is how many a search may have: what can be promoted no more, whatever is still to come, is given up. So no
    more than 1/factor of them, rounded up, wait at a rung.
    """

    def __init__(self, brackets: Sequence[tuple[int, ...]], factor: int, name: str, trials: int) -> None:
        self._brackets = Brackets(brackets, factor)
        self._rungs: list[dict[int, _Rung]] = []
        for rungs in brackets:
            reachable = [-(-trials // factor**step) for step in range(1, len(rungs) + 1)]
            self._rungs.append({rung: _Rung(most) for rung, most in zip(rungs, reachable, strict=True)})
        self._factor, self._name = factor, name
        self._waits: dict[int, Arrival] = {}
        self._at: dict[int, int] = {}  # the rung at which a trial waits

    def rungs(self, number: int) -> tuple[int, ...]:
        """The rungs of a trial's bracket."""
        return tuple(self._of(number))

    def decide(self, number: int, epoch: int, keys: Mapping[int, float]) -> str | None:
        """Count the arrival of a trial, if there is a rung at `epoch`, where it then waits; NaN ends it."""
        rung = self._of(number).get(epoch)
        if rung is None:
            return None
        if math.isnan(keys[epoch]):
            return self.reason(epoch)
        self._waits[number], self._at[number] = (keys[epoch], number), epoch
        insort(rung.arrivals, self._waits[number])
        insort(rung.waiting, self._waits[number])
        return PAUSED

    def restore(self, number: int, keys: Mapping[int, float], *, stopped: bool = False) -> None:
        """Count the arrivals of a trial that was decided on before, and that went on from each rung.

        From the last not, where it `stopped` there.
        """
        for epoch, rung in self._of(number).items():
            if epoch in keys and not math.isnan(keys[epoch]):
                insort(rung.arrivals, (keys[epoch], number))
                rung.promoted += not (stopped and epoch == max(keys))

    def end(self, number: int, *, finished: bool) -> None:
        """A trial does not wait any more."""
        if number in self._at:
            rung = self._of(number)[self._at.pop(number)]
            del rung.waiting[bisect_left(rung.waiting, self._waits.pop(number))]

    def promote(self, arriving: float) -> int | None:
        """The trial to take up, which then waits no more; None where none is good enough.

        Trials that run or are yet to come have done at least `arriving` epochs.
        """
        for rungs in self._rungs:
            for rung in reversed(rungs.values()):
                if (number := rung.best(len(rung.arrivals) // self._factor)) is not None:
                    return self._promoted(rung, number)
        for rungs in self._rungs:
            for epoch, rung in rungs.items():
                if arriving < epoch:
                    break
                if (number := rung.best(math.ceil(len(rung.arrivals) / self._factor))) is not None:
                    return self._promoted(rung, number)
        return None

    def _promoted(self, rung: _Rung, number: int) -> int:
        rung.promoted += 1
        self.end(number, finished=False)
        return number

    def hopeless(self) -> Iterator[tuple[int, str]]:
        """Trials that can be promoted no more, which then wait no more, and why they stop."""
        for rungs in self._rungs:
            for epoch, rung in rungs.items():
                while rung.waiting and bisect_left(rung.arrivals, rung.waiting[-1]) >= rung.reachable:
                    number = rung.waiting[-1][1]
                    self.end(number, finished=False)
                    yield number, self.reason(epoch)

    def reason(self, epoch: int) -> str:
        """Why a trial stops that waited at the rung `epoch`."""
        return f"{self._name}: rung {epoch}"

    def _of(self, number: int) -> dict[int, _Rung]:
        return self._rungs[self._brackets.of(number)]


class _Rung:
    """What has arrived at a rung and what waits there, best first; the best `reachable` may at last go on."""

    def __init__(self, reachable: int) -> None:
        self.reachable = reachable
        self.promoted = 0
        self.arrivals: list[Arrival] = []
        self.waiting: list[Arrival] = []

    def best(self, share: int) -> int | None:
        """The best that waits, if it is among the best `share` arrivals, and not so many have gone on yet."""
        if self.promoted < share and self.waiting and bisect_left(self.arrivals, self.waiting[0]) < share:
            return self.waiting[0][1]
        return None
