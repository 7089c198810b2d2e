"""When a search ends: at a deadline, after so many GPU hours, on a plateau, at a request, or when nothing works."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray import tune

from automl.search.ledger import Ledger
from automl.search.reasons import advice_on
from automl.search.stop_file import StopFile
from automl.search.waiting import Places, Waiting
from automl.space import SearchSpec

MAX_SAME_FAILURES = 5
ENOUGH = ("time budget", "GPU-hour budget", "plateau")  # reasons that finish a search; others interrupt or fail it
INTERRUPTED = "interrupted"


@dataclass
class Usage:
    """What searching has used over all starts of a run: wall seconds, and GPU seconds held by trials.

    What comes after the search, confirming and refitting, has no budget and counts apart; so does waiting: before the
    first trial runs, and while none runs because none finds a place (`hold`).
    """

    seconds_before: float
    gpu_seconds: float
    started: float
    seconds_after: float = 0.0  # of confirming and refitting
    gpu_seconds_after: float = 0.0
    searched: float | None = None  # the moment when the search was over
    waited: float = 0.0  # seconds that were held, and do not count
    held: float | None = None  # the moment since when they are

    @classmethod
    def resumed(cls, used: dict[str, Any]) -> Usage:
        """Going on from the `used` entry of a manifest."""
        after = used.get("after_search", {"seconds": 0.0, "gpu_hours": 0.0})
        return cls(
            used["seconds"],
            used["gpu_hours"] * 3600,
            time.monotonic(),
            after["seconds"],
            after["gpu_hours"] * 3600,
        )

    def seconds(self) -> float:
        """Wall seconds of searching so far."""
        until = self.searched or time.monotonic()
        until = until if self.held is None else min(until, self.held)
        return self.seconds_before + until - self.started - self.waited

    def hold(self, since: float) -> None:
        """From this moment on no time is used, until it goes on."""
        if self.held is None and self.searched is None:
            self.held = since

    def go_on(self) -> None:
        """Time is used again."""
        if self.held is not None and self.searched is None:
            self.waited += time.monotonic() - self.held
            self.held = None

    def entry(self) -> dict[str, Any]:
        """The same as the manifest has it, in `used`."""
        after = self.seconds_after + (0.0 if self.searched is None else time.monotonic() - self.searched)
        return {
            "seconds": round(self.seconds(), 1),
            "gpu_hours": round(self.gpu_seconds / 3600, 4),
            "after_search": {"seconds": round(after, 1), "gpu_hours": round(self.gpu_seconds_after / 3600, 4)},
        }

    def charge_gpus(self, seconds: float) -> None:
        """Count GPU seconds that trials have held."""
        if self.searched is None:
            self.gpu_seconds += seconds
        else:
            self.gpu_seconds_after += seconds

    def end_search(self) -> None:
        """From now on nothing more of the budget is used."""
        self.searched = self.searched or time.monotonic()


class Stop(tune.Stopper):  # type: ignore[misc]
    """Ends the search; `reason` then says why. Workers learn of it from a file and stop in mid-epoch."""

    def __init__(
        self, spec: SearchSpec, ledger: Ledger, usage: Usage, stop_file: StopFile, waiting: Waiting | None = None
    ) -> None:
        self.search = spec.search
        self.ledger = ledger
        self.usage = usage
        self.stop_file = stop_file
        self.gpus_in_use: Callable[[], float] = lambda: 0.0
        self.places: Callable[[], Places] | None = None  # where the trials are, once they are given out
        self.lacks: Callable[[int], str] = lambda trials: ""  # what so many trials wait for
        self.waiting = waiting or Waiting(None)
        self.check_node: Callable[[], None] = lambda: None
        self.lost: Callable[[], str] = lambda: ""  # why another process has the run, where one has
        self.reason: str | None = None
        self.search_ended: str | None = None  # by what, once it has; "" where all trials have been run
        self.note: str | None = None  # what went wrong after that
        self._interrupted = False
        self._looked = time.monotonic()

    def request(self, reason: str) -> None:
        """Stop as soon as possible; the first reason stays."""
        if self.reason is None:
            self.reason = reason
            self.stop_file.set()

    def interrupt(self) -> None:
        """The user wants the run to end; raises KeyboardInterrupt where that has been asked for before."""
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True
        self.request(INTERRUPTED)

    def finish(self, reason: str = "") -> None:
        """The search is over and used its budget, or can find no more for `reason`.

        What follows has no budget, and ends only at a request, of which there may have been one while the search ended.
        """
        self.search_ended = self.reason or reason
        self.usage.end_search()
        self.reason = INTERRUPTED if self._interrupted else self.lost() or None
        if self.reason is None:
            self.stop_file.clear()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Single trials are the scheduler's business."""
        return False

    def stop_all(self) -> bool:
        """Whether the search is to end now; asked about ten times a second. Raises LostNodeError."""
        self.check_node()
        now = time.monotonic()
        self.usage.charge_gpus(self.gpus_in_use() * (now - self._looked))
        self._looked = now
        self._look_at_places(now)
        if self.reason is None and (lost := self.lost()):
            self.request(lost)
        if self.reason is None and self.search_ended is None and (reason := self._enough()):
            self.request(reason)
        if self.reason is None and (waited := self.waiting.too_long()):
            self.request(waited)
        return self.reason is not None

    def _look_at_places(self, now: float) -> None:
        """Let time be used while a trial runs, and none while all lack a place."""
        if self.places is None:
            return
        places = self.places()
        self.waiting.see(places, now, self.lacks)
        if places.at_work:
            self.usage.go_on()
        elif (since := self.waiting.idle_since()) is not None:
            self.usage.hold(since)

    def _enough(self) -> str | None:
        seconds, gpu_hours, plateau = self.search.time_budget_seconds, self.search.gpu_hours, self.search.plateau
        if seconds is not None and self.usage.seconds() >= seconds:
            return "time budget"
        if gpu_hours is not None and self.usage.gpu_seconds >= gpu_hours * 3600:
            return "GPU-hour budget"
        if plateau is not None and self.ledger.since_best() >= plateau:
            return "plateau"
        same = self.ledger.same_failure()
        if same is not None and same[1] >= MAX_SAME_FAILURES:
            return f"{same[1]} trials in a row failed of one cause: {same[0]}{advice_on(same[0])}"
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {}
