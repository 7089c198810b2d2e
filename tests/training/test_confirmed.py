"""Which trial is first by its mean under other seeds."""

from __future__ import annotations

from typing import Any

import pytest

from automl.training.confirmed import by_confirmed_mean, scores_of


def reruns(**scores: list[float | None]) -> dict[str, dict[str, dict[str, Any]]]:
    """By trial (`t3`) its scores, None for a rerun that failed."""
    return {
        name[1:]: {
            str(number): {"error": "it failed"} if score is None else {"score": score, "values": [score]}
            for number, score in enumerate(found, start=1)
        }
        for name, found in scores.items()
    }


@pytest.mark.parametrize(
    ("found", "maximize", "order"),
    [
        (reruns(t3=[0.8, 0.6], t7=[0.7, 0.8], t1=[0.5, 0.5]), True, [7, 3, 1]),
        (reruns(t3=[0.8, 0.6], t7=[0.7, 0.8], t1=[0.5, 0.5]), False, [1, 3, 7]),
        (reruns(t3=[0.5, 0.5], t7=[0.5, 0.5], t1=[0.5, 0.5]), True, [3, 7, 1]),
        (reruns(t3=[None, None], t7=[None, 0.4], t1=[0.5, 0.5]), True, [1, 7, 3]),
        (reruns(t3=[None, None], t7=[None, 0.4], t1=[0.5, 0.5]), False, [7, 1, 3]),
        (reruns(t3=[0.8, 0.6], t7=[0.7], t1=[0.5, 0.5]), True, None),
        (reruns(t3=[0.8, 0.6], t7=[0.7, 0.8]), True, None),
        (reruns(t3=[None, None], t7=[None, None], t1=[None, None]), True, None),
        ({}, True, None),
    ],
)
def test_the_mean_decides_once_all_have_ended(found: dict[str, Any], maximize: bool, order: list[int] | None) -> None:
    assert by_confirmed_mean([3, 7, 1], found, seeds=2, maximize=maximize) == order


def test_others_that_were_confirmed_earlier_do_not_count() -> None:
    found = reruns(t3=[0.8, 0.6], t7=[0.7, 0.8], t9=[0.99, 0.99])
    assert by_confirmed_mean([3, 7], found, seeds=2, maximize=True) == [7, 3]
    assert by_confirmed_mean([], found, seeds=2, maximize=True) is None
    assert scores_of(found, 7) == (0.7, 0.8) and scores_of(found, 4) == ()
