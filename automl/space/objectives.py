"""What a search may look for, and when one trial is better than another in all of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

# Measured on the validation rows after each epoch.
Metric = Literal["accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "auroc", "loss", "calibration_error"]
# The same, or what the network itself costs, which no epoch changes.
Objective = Literal[
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "micro_f1",
    "auroc",
    "loss",
    "calibration_error",
    "latency_ms",
    "parameters",
    "bytes",
]
METRICS: tuple[str, ...] = get_args(Metric)
LEAST_LIKELIHOOD = 1e-12  # in the log loss
BINS = 15  # of the calibration error, as in Guo et al. 2017
LESS_IS_BETTER = ("loss", "calibration_error", "latency_ms", "parameters", "bytes")

Point = tuple[float, ...]


def mode(objective: str) -> str:
    """`max` where more of it is better, else `min`."""
    return "min" if objective in LESS_IS_BETTER else "max"


def point(objectives: Sequence[str], values: Sequence[float]) -> Point:
    """The values of the objectives with their signs such that less is better."""
    signed = zip(objectives, values, strict=True)
    return tuple(value if mode(objective) == "min" else -value for objective, value in signed)


def dominates(one: Point, other: Point) -> bool:
    """Whether `one` is nowhere worse than `other` and somewhere better, where less is better."""
    return one != other and all(mine <= yours for mine, yours in zip(one, other, strict=True))


def pareto_front(points: Iterable[Point]) -> set[Point]:
    """The points that no other dominates, where less is better."""
    front: set[Point] = set()
    for each in sorted(set(points)):  # what dominates a point comes before it
        if not any(dominates(better, each) for better in front):
            front.add(each)
    return front
