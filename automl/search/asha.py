"""When a trial stops: asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel
Hyperparameter Tuning", section 3), in the variant that stops trials and never pauses them.

Pure functions: what is decided depends on the values at a rung and on nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def survives(value: float, earlier: Sequence[float], reduction_factor: int, *, maximize: bool) -> bool:
    """Whether a trial with `value` goes on beyond a rung that trials with `earlier` values have reached before.

    It does if it is among the best 1/reduction_factor of all of them, itself included. That share is rounded up: a
    trial that is stopped cannot be taken up again when more have arrived, as it can where trials are paused. NaN never
    goes on, nor does a value that only equals the last one that may.
    """
    if math.isnan(value):
        return False
    finite = [other for other in earlier if not math.isnan(other)]
    ahead = sum(other >= value if maximize else other <= value for other in finite)
    return ahead < math.ceil((len(earlier) + 1) / reduction_factor)
