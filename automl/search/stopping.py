"""When a trial stops: the early stopping of a search-space file as one object that decides."""

from __future__ import annotations

import math
from collections.abc import Mapping

from automl.search.asha import survives
from automl.space import SearchSpec


class StoppingRule:
    """Asynchronous successive halving over the rungs of `spec`."""

    def __init__(self, spec: SearchSpec) -> None:
        self._rungs: dict[int, dict[int, float]] = {rung: {} for rung in spec.search.early_stopping.rungs()}
        self._maximize = spec.search.mode == "max"
        self._spec = spec

    def restore(self, number: int, values: Mapping[int, float], *, ended: bool) -> None:
        """Take up a trial of the journal; what it did at the rungs that it reached counts."""
        for rung, reached in self._rungs.items():
            if rung in values and (ended or max(values) > rung):
                reached[number] = values[rung]

    def decide(self, number: int, epoch: int, values: Mapping[int, float]) -> str | None:
        """Why trial `number` stops after `epoch`, with `values` after each epoch so far; None where it goes on."""
        if epoch not in self._rungs:
            return None
        reached = self._rungs[epoch]
        asha = self._spec.search.early_stopping.asha
        assert asha is not None
        others = [value for other, value in reached.items() if other != number]
        goes_on = survives(values.get(epoch, math.nan), others, asha.reduction_factor, maximize=self._maximize)
        reached[number] = values[epoch]
        return None if goes_on else f"asha: rung {epoch}"


def stopping_rule(spec: SearchSpec) -> StoppingRule:
    """The rule that the file asks for."""
    return StoppingRule(spec)
