"""When a trial stops: the early stopping of a search-space file as one object that decides.

What is decided depends on the values that trials have reached and on the order of their numbers, never on a clock or on
chance, so it can be taken up again from the journal. A decision costs the logarithm of the trials that came as far (and
moving a few kilobytes in a sorted list).
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Protocol

from automl.search.brackets import Brackets
from automl.search.promotion import Promotion
from automl.space import SearchSpec
from automl.space.early_stopping import Asha, Hyperband, Median, Stopping
from automl.training.run_directory import PAUSED

PLACES = 1.5  # of a rung, for each trial that ought to go on
_CONVERGED = "patience:"
Keys = Mapping[int, float]  # the metric after each epoch, its sign such that less is better


class StoppingRule:
    """Early stopping as a file asks for it, with the patience it gives to trials that have converged."""

    def __init__(self, way: Stopping, *, maximize: bool, trials: int = 0) -> None:
        """`trials` is how many the search may have, which promotion needs to know."""
        self._comparison = _comparison(way, trials)
        self._promotion = self._comparison if isinstance(self._comparison, Promotion) else None
        self._max_epochs = way.max_epochs
        self._patience = way.patience
        self._min_delta = way.min_delta
        self._sign = -1.0 if maximize else 1.0
        self._decided: dict[int, tuple[int, str | None]] = {}  # of each trial the last epoch decided on, and how

    def rungs(self, number: int) -> tuple[int, ...]:
        """Epochs after which trial `number` is compared with the others of its bracket; none under other rules."""
        return self._comparison.rungs(number)

    def restore(self, number: int, values: Mapping[int, float], *, ended: bool, reason: str = "") -> None:
        """Take up a trial of the journal; the order in which trials are taken up does not matter.

        A trial that has not ended is yet to be decided on after its last epoch. `reason` is why one was stopped.
        """
        epochs = sorted(values)
        settled = epochs if ended else epochs[:-1]
        if settled:
            keys = {epoch: self._sign * values[epoch] for epoch in settled}
            if self._promotion is None:
                self._comparison.restore(number, keys)
            else:
                self._promotion.restore(number, keys, stopped=ended and reason.startswith(("asha:", _CONVERGED)))
            self._decided[number] = (settled[-1], reason or None)
        if ended:
            self.end(number, finished=self._max_epochs in values or reason.startswith(_CONVERGED))

    def promote(self, arriving: float) -> int | None:
        """A trial that waits at a rung and is to go on now; those that run or come have done `arriving` epochs."""
        number = None if self._promotion is None else self._promotion.promote(arriving)
        if number is not None:
            self._decided[number] = (self._decided[number][0], None)
        return number

    def pauses(self, number: int) -> list[int]:
        """The epochs after which trial `number` may have to wait."""
        return [] if self._promotion is None else list(self.rungs(number))

    def hopeless(self) -> Iterator[tuple[int, str]]:
        """Trials that wait at a rung and will never go on, and why they stop."""
        return iter(()) if self._promotion is None else self._promotion.hopeless()

    def stopped_at(self, epoch: int) -> str:
        """Why a trial stops that waits at the rung `epoch`."""
        assert self._promotion is not None
        return self._promotion.reason(epoch)

    def end(self, number: int, *, finished: bool) -> None:
        """A trial runs no more: it has `finished` if it ran all its epochs or had converged."""
        self._comparison.end(number, finished=finished)

    def decide(self, number: int, epoch: int, values: Mapping[int, float]) -> str | None:
        """Why trial `number` stops after `epoch`, with `values` after each epoch so far; None where it goes on.

        PAUSED is where it waits for `promote`.

        Asked again about the same epoch or an earlier one it gives the same answer and counts nothing twice.
        """
        last, reason = self._decided.get(number, (0, None))
        if epoch > last:
            keys = {each: self._sign * value for each, value in values.items() if each <= epoch}
            reason = self._comparison.decide(number, epoch, keys)
            if reason in (None, PAUSED) and (converged := self._converged(epoch, keys)):
                self.end(number, finished=True)
                reason = converged
            self._decided[number] = (epoch, reason)
        return reason if epoch >= last else None

    def _converged(self, epoch: int, keys: Keys) -> str | None:
        if self._patience is None:
            return None
        best, since = math.inf, 0
        for each in sorted(keys):
            if keys[each] < best - self._min_delta:
                best, since = keys[each], each
        if epoch - since < self._patience:
            return None
        return f"{_CONVERGED} no improvement since epoch {since}"


def stopping_rule(spec: SearchSpec) -> StoppingRule:
    """The rule that the file asks for."""
    way = spec.search.early_stopping.way
    return StoppingRule(way, maximize=spec.search.mode == "max", trials=spec.search.trials)


class _Comparison(Protocol):
    """Decides by comparing trials with each other."""

    def rungs(self, number: int) -> tuple[int, ...]: ...

    def decide(self, number: int, epoch: int, keys: Keys) -> str | None: ...

    def restore(self, number: int, keys: Keys) -> None: ...

    def end(self, number: int, *, finished: bool) -> None: ...


def _comparison(way: Stopping, trials: int) -> _Comparison:
    if isinstance(way, Asha) and way.promotion:
        return Promotion(way.brackets_of_rungs(), way.reduction_factor, "asha", trials)
    if isinstance(way, Asha):
        return Halving(way.brackets_of_rungs(), way.reduction_factor, "asha")
    if isinstance(way, Hyperband):
        return Halving(way.brackets_of_rungs(), way.reduction_factor, "hyperband")
    if isinstance(way, Median):
        return _MedianRule(way.grace_period, way.min_trials)
    return Halving(((),), 2, "none")


class Halving:
    """Asynchronous successive halving that stops trials and never pauses them, in one bracket or several.

    After Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", section 3: a trial goes on from a
    rung if it is among the best 1/factor of all that have arrived there, itself included, rounded up. That alone lets
    every trial go on where each is better than those before, as a sampler that learns makes them. So a rung also has
    places, for PLACES/factor of its arrivals, rounded up. A trial that goes on has one; it is used up once the trial
    reaches the next rung or finishes. Until then a better trial may take it: then the first stops after its next epoch.
    """

    def __init__(self, brackets: Sequence[tuple[int, ...]], factor: int, name: str) -> None:
        self._brackets = [{rung: Rung(factor) for rung in rungs} for rungs in brackets]
        self._shared_out = Brackets(brackets, factor)
        self._name = name
        self._last: dict[int, int] = {}  # of trials that are under way, the rung they went on from

    def bracket(self, number: int) -> int:
        """The bracket of a trial."""
        return self._shared_out.of(number)

    def rungs(self, number: int) -> tuple[int, ...]:
        """The rungs of a trial's bracket."""
        return tuple(self._brackets[self.bracket(number)])

    def decide(self, number: int, epoch: int, keys: Keys) -> str | None:
        """Count the arrival of a trial, if there is a rung at `epoch`, and say whether it stops after that epoch."""
        rungs = self._brackets[self.bracket(number)]
        if epoch in rungs:
            self.end(number, finished=True)
            if rungs[epoch].arrive(number, keys[epoch]):
                self._last[number] = epoch
                return None
            return f"{self._name}: rung {epoch}"
        last = self._last.get(number)
        if last is None or rungs[last].has_place(number, keys[last]):
            return None
        self.end(number, finished=False)
        return f"{self._name}: outdone at rung {last}"

    def restore(self, number: int, keys: Keys) -> None:
        """Count the arrivals of a trial that was decided on before, and went on from each but perhaps the last."""
        for epoch, rung in self._brackets[self.bracket(number)].items():
            if epoch in keys:
                self.end(number, finished=True)
                rung.arrive(number, keys[epoch], went_on=True)
                self._last[number] = epoch

    def end(self, number: int, *, finished: bool) -> None:
        """A trial is under way from its last rung no more; it has used its place up if it has `finished`."""
        last = self._last.pop(number, None)
        if last is not None:
            rung = self._brackets[self.bracket(number)][last]
            del rung.under_way[number]
            rung.used += finished


class Rung:
    """What has arrived at a rung, and what became of it."""

    def __init__(self, factor: int) -> None:
        self.factor = factor
        self.keys: list[float] = []  # finite ones, in order
        self.arrived = 0
        self.used = 0  # places
        self.under_way: dict[int, float] = {}  # trials that hold a place, and their keys

    def arrive(self, number: int, key: float, *, went_on: bool = False) -> bool:
        """Count an arrival and give it a place if it is to have one (or `went_on` before); true if it has.

        NaN gets none, nor does a key that only equals the last one of the best share.
        """
        self.arrived += 1
        best = went_on or (not math.isnan(key) and bisect_right(self.keys, key) < math.ceil(self.arrived / self.factor))
        if not math.isnan(key):
            insort(self.keys, key)
        if went_on or (best and self.has_place(number, key)):
            self.under_way[number] = key
            return True
        return False

    def has_place(self, number: int, key: float) -> bool:
        """Whether there is a place for a trial besides those used up and those of better trials."""
        better = sum((other, each) < (key, number) for each, other in self.under_way.items())
        return self.used + better < math.ceil(PLACES * self.arrived / self.factor)


class _MedianRule:
    """The median stopping rule (Golovin et al. 2017, "Google Vizier", section 3.2.2).

    A trial stops if its best value so far is worse than the median of the means, up to the same epoch, of the other
    trials that came as far; of all of them, not only of those that have ended, so that it works from the start.
    """

    def __init__(self, grace_period: int, min_trials: int) -> None:
        self._grace_period = grace_period
        self._min_trials = min_trials
        self._means: dict[int, list[float]] = {}

    def rungs(self, number: int) -> tuple[int, ...]:
        return ()

    def decide(self, number: int, epoch: int, keys: Keys) -> str | None:
        means = self._means.setdefault(epoch, [])
        best = min((key for key in keys.values() if not math.isnan(key)), default=math.inf)
        stops = math.isnan(keys[epoch]) or (
            epoch >= self._grace_period and len(means) >= self._min_trials and best > _median(means)
        )
        self._add(epoch, _means(keys)[-1][1])
        return f"median: epoch {epoch}" if stops else None

    def restore(self, number: int, keys: Keys) -> None:
        for epoch, mean in _means(keys):
            self._add(epoch, mean)

    def end(self, number: int, *, finished: bool) -> None:
        pass

    def _add(self, epoch: int, mean: float) -> None:
        if not math.isnan(mean):
            insort(self._means.setdefault(epoch, []), mean)


def _means(keys: Keys) -> list[tuple[int, float]]:
    """The mean of all values up to each epoch."""
    epochs = sorted(keys)
    sums = accumulate(keys[epoch] for epoch in epochs)
    return [(epoch, total / count) for count, (epoch, total) in enumerate(zip(epochs, sums, strict=True), start=1)]


def _median(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
