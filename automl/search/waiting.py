"""Trials that wait for resources: how many, for what, and how long they may."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from automl.search.resources import Share
from automl.space.durations import duration_text

WAITED = "no trial could run within"  # how the reason begins why a search ends that has waited for too long
SHOWN_SECONDS = 2.0  # so long a trial may lack a place before that is said: a free one takes no time
LOOK_SECONDS = 5.0  # between two looks at what of a cluster is in use


@dataclass(frozen=True)
class Places:
    """Where the trials are that have been given out.

    `at_work` have their resources and a process that has started; `starting` have their resources; `waiting` have none.
    """

    at_work: int = 0
    starting: int = 0
    waiting: int = 0


NOWHERE = Places()


class Waiting:
    """Looks at the places of trials; `waits_for` is what those that wait lack, empty where none waits."""

    def __init__(self, limit: float | None) -> None:
        """`limit` is for how many seconds no trial may run before the search ends; None for any time."""
        self.limit = limit
        self.places = NOWHERE
        self.waits_for = ""
        self.seconds = 0.0
        """For how long no trial has run although some could."""
        self._idle_since: float | None = None
        self._lacking_since: float | None = None
        self._looked = 0.0

    def see(self, places: Places, now: float, lacks: Callable[[int], str]) -> None:
        """Take a look at time `now` (seconds, of a clock that only grows); `lacks` says what so many trials lack."""
        self.places = places
        idle = places.at_work == 0 and places.starting + places.waiting > 0
        self._idle_since = (now if self._idle_since is None else self._idle_since) if idle else None
        self.seconds = 0.0 if self._idle_since is None else now - self._idle_since
        if places.waiting == 0:
            self._lacking_since, self.waits_for = None, ""
            return
        if self._lacking_since is None:
            self._lacking_since = now
        if now - self._lacking_since >= SHOWN_SECONDS and (not self.waits_for or now - self._looked >= LOOK_SECONDS):
            self._looked = now
            self.waits_for = lacks(places.waiting)

    def idle_since(self) -> float | None:
        """Since when no trial runs as none finds a place; None where one does, or has not been looked for for long."""
        if not self.waits_for or self._idle_since is None or self._lacking_since is None:
            return None
        return max(self._idle_since, self._lacking_since)

    def end(self) -> None:
        """No trial is given out any more; what is given out later has waited for nothing yet."""
        self.places, self.waits_for, self.seconds = NOWHERE, "", 0.0
        self._idle_since = self._lacking_since = None

    def too_long(self) -> str | None:
        """Why the search is to end, where it has waited for too long."""
        if self.limit is None or self.seconds < self.limit:
            return None
        waited = f" (it waited for {self.waits_for})" if self.waits_for else ""
        return f"{WAITED} the {duration_text(self.limit)} of resources.wait{waited}"

    def message(self) -> str:
        """The same for whoever watches."""
        if not self.waits_for:
            return ""
        if self.places.at_work:
            return f"waiting for {self.waits_for}"
        limit = "" if self.limit is None else f" of at most {duration_text(self.limit)}"
        return f"waiting for {self.waits_for}; for {duration_text(self.seconds)}{limit}"

    def entry(self) -> dict[str, Any] | None:
        """The same as the manifest has it, in `waiting`."""
        if not self.waits_for:
            return None
        running = self.places.at_work + self.places.starting
        return {"trials": self.places.waiting, "running": running, "waits_for": self.waits_for}


def lacking(share: Share, trials: int) -> str:
    """What so many trials wait for, and how much of that the Ray which this process is connected to has."""
    return lack(share, trials, ray.cluster_resources(), ray.available_resources())


def lack(share: Share, trials: int, there: Mapping[str, float], free: Mapping[str, float]) -> str:
    """`2 CPUs; the cluster's 2 are in use`, of resources by Ray's names of which there are `there`, and `free`."""
    asked = {name: each * share.workers for name, each in share.worker_resources().items() if each}
    lacks = [name for name, each in asked.items() if free.get(name, 0.0) < each]
    if not lacks:  # there is enough in all, but not on one node
        return f"{_and(_amount(name, each) for name, each in asked.items())} on one node; none has so much free"
    wanted = [_amount(name, asked[name] * trials) for name in lacks]
    why = [_why(asked[name], there.get(name, 0.0), free.get(name, 0.0)) for name in lacks]
    if len(lacks) == 1:
        return f"{wanted[0]}; {why[0]}"
    return _and(f"{amount} ({cause})" for amount, cause in zip(wanted, why, strict=True))


def _amount(name: str, amount: float) -> str:
    plural = "s" if name in ("CPU", "GPU") and amount != 1 else ""
    return f"{amount:g} {name}{plural}"


def _why(asked: float, there: float, free: float) -> str:
    """Why `asked` of a resource are not to be had."""
    if there < asked:
        return f"the cluster has {there:g}" if there else "the cluster has none"
    used = there - free
    if free <= 0:
        return f"the cluster's {there:g} {'is' if there == 1 else 'are'} in use"
    return f"of the cluster's {there:g}, {used:g} {'is' if used == 1 else 'are'} in use"


def _and(parts: Iterable[str]) -> str:
    return " and ".join(parts)
