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
    infeasible: int = 0
    """Proposals that did not meet the constraints: no trials."""

    @property
    def finished(self) -> int:
        """Trials that will not run again."""
        return self.completed + self.stopped + self.failed
