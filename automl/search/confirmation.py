"""The finalists trained again under seeds that the search did not choose them by: how good are they really?"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from automl.search.ledger import MAX_RESTARTS
from automl.search.standing import Proposal
from automl.space import SearchSpec
from automl.training.confirmed import read_confirmed
from automl.training.run_directory import RunDirectory, write_json


@dataclass(frozen=True)
class Rerun:
    """One training of a finalist: the trial it repeats and which repetition it is (from 1)."""

    trial: int
    repetition: int


class Confirmation:
    """Hands out the reruns of the finalists and writes what they reached to `confirmed.json`.

    A search's best score is the luckiest of many; the mean over fresh seeds at full budget is not. What the file holds
    already is not trained again; what was interrupted goes on from its checkpoint. Reruns are numbered by their place
    in `reruns`.
    """

    def __init__(self, run: RunDirectory, spec: SearchSpec, configs: Mapping[int, dict[str, Any]], seeds: int) -> None:
        self.run = run
        self.spec = spec
        self.configs = configs
        self.reruns = [Rerun(trial, repetition) for repetition in range(1, seeds + 1) for trial in configs]
        self._done = read_confirmed(run)
        self._waiting = deque(number for number, rerun in enumerate(self.reruns) if not self._has(rerun))
        self._alone: set[int] = set()  # those that run without neighbours on their GPU
        self._values: dict[int, dict[int, float]] = {}
        self._restarts: Counter[int] = Counter()

    def next(self, *, alone: bool = False) -> Proposal | None:
        """The next rerun; None where all have been given out. Those that are to have no neighbours come `alone`."""
        number = next((each for each in self._waiting if (each in self._alone) == alone), None)
        if number is None:
            return None
        self._waiting.remove(number)
        self._values[number] = {}
        return Proposal(number, self.configs[self.reruns[number].trial], 0)

    def record(self, number: int, result: Mapping[str, Any]) -> bool:
        """Take the result of an epoch; true until the last. A rerun that fails is written down with its error."""
        if number not in self._values:
            return False
        value = result.get(self.spec.search.metric)
        if "error" in result:
            return self._end(number, {"error": str(result["error"])})
        if value is None or not math.isfinite(value):
            return self._end(number, {"error": f"the loss was not finite in epoch {result['epoch']}"})
        values = self._values[number]
        values[int(result["epoch"])] = float(value)
        if result["epoch"] < self.spec.search.max_epochs:
            return True
        score = max(values.values()) if self.spec.search.mode == "max" else min(values.values())
        return self._end(number, {"score": score, "values": [values[epoch] for epoch in sorted(values)]})

    def restart(self, number: int, reason: str) -> bool:
        """A rerun lost its worker: it is run again, unless that has happened too often."""
        if number not in self._values:
            return False
        self._restarts[number] += 1
        if self._restarts[number] > MAX_RESTARTS:
            return self._end(number, {"error": f"{reason} ({self._restarts[number]} times)"})
        del self._values[number]
        self._waiting.append(number)
        return True

    def retry_alone(self, number: int) -> bool:
        """A rerun ran out of a GPU's memory beside others: it is run again without neighbours, once."""
        if number not in self._values or number in self._alone:
            return False
        self._alone.add(number)
        del self._values[number]
        self._waiting.append(number)
        return True

    def waiting_alone(self) -> int:
        """Reruns that wait for a GPU without neighbours."""
        return sum(number in self._alone for number in self._waiting)

    def running(self) -> int:
        """Reruns that have been given out."""
        return len(self._values)

    def remaining(self) -> int:
        """Reruns still to end."""
        return len(self._values) + len(self._waiting)

    def _has(self, rerun: Rerun) -> bool:
        return str(rerun.repetition) in self._done.get(str(rerun.trial), {})

    def _end(self, number: int, outcome: Mapping[str, Any]) -> bool:
        del self._values[number]
        rerun = self.reruns[number]
        self._done.setdefault(str(rerun.trial), {})[str(rerun.repetition)] = dict(outcome)
        write_json(self.run.confirmed, {"trials": self._done})
        return False
