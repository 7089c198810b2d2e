"""Stop decisions against the definition: the best 1/eta of all that have reached the rung, rounded up, go on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.models import FAMILIES
from automl.search.asha import survives
from automl.space import SpaceError, parse

values = st.one_of(st.integers(0, 5).map(float), st.floats(-1, 1), st.just(math.nan))


def reference(arrivals: list[float], eta: int, maximize: bool) -> bool:
    """Sort everything that has arrived, later ones behind earlier ones of the same value, NaN last."""
    sign = -1 if maximize else 1
    order = sorted(range(len(arrivals)), key=lambda i: (math.inf if math.isnan(arrivals[i]) else sign * arrivals[i], i))
    last = len(arrivals) - 1
    return not math.isnan(arrivals[last]) and order.index(last) < math.ceil(len(arrivals) / eta)


@given(st.lists(values, min_size=1, max_size=40), st.integers(2, 5), st.booleans())
def test_decisions_are_those_of_the_definition(arrivals: list[float], eta: int, maximize: bool) -> None:
    for count in range(1, len(arrivals) + 1):
        seen = arrivals[:count]
        assert survives(seen[-1], seen[:-1], eta, maximize=maximize) == reference(seen, eta, maximize)


def test_nan_never_goes_on_and_ties_do_not_let_all_go_on() -> None:
    assert not survives(math.nan, [], 3, maximize=True)
    passed = [survives(0.5, [0.5] * count, 3, maximize=True) for count in range(30)]
    assert sum(passed) == 1


@pytest.mark.parametrize(
    ("asha", "expected"), [("{max_epochs: 9}", (1, 3)), ("{max_epochs: 10}", (1, 3, 9)), ("{max_epochs: 1}", ())]
)
def test_rungs_lie_below_the_last_epoch(asha: str, expected: tuple[int, ...]) -> None:
    text = f"name: x\ndata: {{train: t.csv}}\nmodel: {{cnn: {{}}}}\nsearch: {{early_stopping: {{asha: {asha}}}}}"
    assert parse(text, FAMILIES).search.early_stopping.rungs() == expected
    with pytest.raises(SpaceError):
        parse(text.replace(asha, "{reduction_factor: 1}"), FAMILIES)
