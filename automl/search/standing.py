"""What a ledger hands out, and how far it says a search is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Proposal:
    """A trial to run: its number in the study, its configuration, and the epochs that the study already holds."""

    number: int
    config: dict[str, Any]
    epochs: int


ALONE = "alone"  # the attribute of a trial that is run without neighbours on its GPU
MAX_INFEASIBLE = 1000  # proposals in a row that do not meet the constraints; then there will be no more trials


class Streaks:
    """What went wrong in a row: proposals that did not meet the constraints, and trials that failed."""

    def __init__(self) -> None:
        self.infeasible = 0  # in all
        self._in_a_row = 0
        self._failures: list[str] = []

    def propose(self, *, feasible: bool) -> None:
        """A proposal met the constraints, or did not."""
        self.infeasible += not feasible
        self._in_a_row = 0 if feasible else self._in_a_row + 1

    def fail(self, reason: str) -> None:
        """A trial failed."""
        self._failures.append(reason)

    def succeed(self) -> None:
        """A trial ended without failing."""
        self._failures.clear()

    def exhausted(self) -> str:
        """Why nothing more can be proposed; nothing where that is not so."""
        if self._in_a_row < MAX_INFEASIBLE:
            return ""
        return f"none of the last {self._in_a_row:,} proposals met the constraints"

    def same_failure(self) -> tuple[str, int] | None:
        """The cause and count of the last trials' failures, where all that failed in a row failed of one cause."""
        if self._failures and len(set(self._failures)) == 1:
            return self._failures[0], len(self._failures)
        return None


@dataclass(frozen=True)
class Progress:
    """How far a search is."""

    budget: int
    running: int
    completed: int
    stopped: int
    failed: int
    best: float | None
    best_number: int | None
    best_family: str | None
    paused: int = 0
    """Trials that wait at a rung."""
    infeasible: int = 0
    """Proposals that did not meet the constraints: no trials."""

    def best_entry(self) -> dict[str, Any] | None:
        """The best trial so far as the manifest has it, in `best`."""
        if self.best is None:
            return None
        return {"score": self.best, "trial": self.best_number, "family": self.best_family}

    @property
    def finished(self) -> int:
        """Trials that will not run again."""
        return self.completed + self.stopped + self.failed
