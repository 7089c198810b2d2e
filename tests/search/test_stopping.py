"""Every early-stopping rule against a slow definition of it, on random traces with NaN, ties, gaps and restarts."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.models import FAMILIES
from automl.search.stopping import Halving, StoppingRule
from automl.space import SpaceError, parse
from automl.space.search_section import Asha, EarlyStopping, Hyperband, Median, NoStopping, Stopping

Event = tuple[int, int, float]  # trial, epoch, value
Stopped = dict[tuple[int, int], str]
values = st.one_of(st.integers(0, 4).map(float), st.floats(-1, 1, width=16), st.just(math.nan))
curves = st.lists(st.lists(values, min_size=9, max_size=9), min_size=1, max_size=25)
RULES: dict[str, Stopping] = {
    "asha": Asha(max_epochs=9, reduction_factor=3),
    "asha with brackets": Asha(max_epochs=9, reduction_factor=2, brackets=3),
    "hyperband": Hyperband(max_epochs=9, reduction_factor=2),
    "median": Median(max_epochs=9, grace_period=2, min_trials=2),
    "none with patience": NoStopping(max_epochs=9, patience=3, min_delta=0.5),
    "asha with patience": Asha(max_epochs=9, reduction_factor=3, patience=2),
}


# -- the definitions


def expected(way: Stopping, past: list[Event], event: Event, maximize: bool) -> str | None:
    """What the rule says of `event`, from everything that was reported before it."""
    number, epoch, value = event
    mine = {each: other for trial, each, other in past if trial == number} | {epoch: value}
    reason = None
    if isinstance(way, Asha | Hyperband):
        reason = expected_at_rung(way, past, event, maximize)
    elif isinstance(way, Median):
        reason = expected_of_median(way, past, event, mine, maximize)
    return reason or expected_of_patience(way, mine, maximize)


def expected_at_rung(way: Asha | Hyperband, past: list[Event], event: Event, maximize: bool) -> str | None:
    number, epoch, _ = event
    bracket = bracket_of(way, number)
    if epoch not in way.brackets_of_rungs()[bracket]:
        return None
    arrivals = [other for other in past if other[1] == epoch and bracket_of(way, other[0]) == bracket] + [event]
    order = sorted(range(len(arrivals)), key=lambda i: (rank_key(arrivals[i][2], maximize), i))
    share = math.ceil(len(arrivals) / way.reduction_factor)
    goes_on = not math.isnan(event[2]) and order.index(len(arrivals) - 1) < share
    return None if goes_on else f"{'asha' if isinstance(way, Asha) else 'hyperband'}: rung {epoch}"


def bracket_of(way: Asha | Hyperband, number: int) -> int:
    return Halving(way.brackets_of_rungs(), way.reduction_factor, "").bracket(number)


def rank_key(value: float, maximize: bool) -> float:
    return math.inf if math.isnan(value) else -value if maximize else value


def expected_of_median(
    way: Median, past: list[Event], event: Event, mine: dict[int, float], maximize: bool
) -> str | None:
    number, epoch, value = event
    means = []
    for other in {trial for trial, each, _ in past if each == epoch and trial != number}:
        mean = statistics.fmean(v for trial, each, v in past if trial == other and each <= epoch)
        means += [] if math.isnan(mean) else [mean]
    best = min((rank_key(v, maximize) for v in mine.values()), default=math.inf)
    enough = epoch >= way.grace_period and len(means) >= way.min_trials
    worse = enough and best > rank_key(statistics.median(means), maximize)
    return f"median: epoch {epoch}" if math.isnan(value) or worse else None


def expected_of_patience(way: Stopping, mine: dict[int, float], maximize: bool) -> str | None:
    if way.patience is None:
        return None
    best, since = math.inf, 0
    for epoch, value in sorted(mine.items()):
        if rank_key(value, maximize) < best - way.min_delta:
            best, since = rank_key(value, maximize), epoch
    return f"patience: no improvement since epoch {since}" if max(mine) - since >= way.patience else None


# -- the traces


@settings(max_examples=50, deadline=None)
@pytest.mark.parametrize("name", RULES)
@given(
    curves=curves,
    seed=st.integers(0, 2**32 - 1),
    gaps=st.sampled_from([0.0, 0.3]),
    crash=st.sampled_from([0.0, 0.1, 0.5]),
    maximize=st.booleans(),
)
def test_decisions_are_those_of_the_definition(
    name: str, curves: list[list[float]], seed: int, gaps: float, crash: float, maximize: bool
) -> None:
    """Trials report in random order, some epochs are not reported, the rule is at times rebuilt from the journal."""
    way, generator = RULES[name], random.Random(seed)
    epochs = [[epoch for epoch in range(1, 10) if generator.random() >= gaps] for _ in curves]
    rule = StoppingRule(way, maximize=maximize)
    past: list[Event] = []
    stopped: Stopped = {}
    while running := [number for number, left in enumerate(epochs) if left]:
        number = generator.choice(running[:4])
        epoch = epochs[number].pop(0)
        event = (number, epoch, curves[number][epoch - 1])
        mine = {each: value for trial, each, value in past if trial == number} | {epoch: event[2]}
        if generator.random() < crash:
            rule = rebuilt(way, past, stopped, generator, maximize)
        told = expected(way, past, event, maximize)
        assert rule.decide(number, epoch, mine) == told
        assert rule.decide(number, epoch, mine) == told, "asked twice it changes its mind"
        past.append(event)
        if told:
            stopped[number, epoch] = told
            epochs[number] = []


def rebuilt(
    way: Stopping, past: list[Event], stopped: Stopped, generator: random.Random, maximize: bool
) -> StoppingRule:
    """A new rule that has taken up the trials of `past` in any order."""
    rule = StoppingRule(way, maximize=maximize)
    numbers = sorted({number for number, _, _ in past})
    for number in generator.sample(numbers, len(numbers)):
        mine = {epoch: value for trial, epoch, value in past if trial == number}
        reason = stopped.get((number, max(mine)), "")
        rule.restore(number, mine, ended=True, reason=reason)
    return rule


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_trial_that_was_killed_before_the_decision_is_decided_on_later(name: str) -> None:
    live, resumed = (StoppingRule(RULES[name], maximize=True) for _ in range(2))
    for rule in (live, resumed):
        for number in range(4):
            rule.restore(number, {1: 0.9, 2: 0.9, 3: 0.9}, ended=True, reason="time budget")
    resumed.restore(9, {1: 0.95, 2: 0.95, 3: 0.1}, ended=False)
    live.restore(9, {1: 0.95, 2: 0.95}, ended=True)
    curve = {1: 0.95, 2: 0.95, 3: 0.1}
    assert resumed.decide(9, 3, curve) == live.decide(9, 3, curve)
    assert resumed.decide(9, 1, curve) is None, "an epoch that is reported again counts twice"


def test_nan_never_goes_on_and_ties_do_not_let_all_go_on() -> None:
    rule = StoppingRule(RULES["asha"], maximize=True)
    assert rule.decide(0, 1, {1: math.nan}) == "asha: rung 1"
    assert sum(rule.decide(number, 1, {1: 0.5}) is None for number in range(1, 31)) == 1


def hyperband_of_the_paper(most: int, factor: int) -> list[tuple[list[int], int]]:
    """Rungs and trials of each bracket (Li et al. 2018, algorithm 1)."""
    last = next(s for s in range(64) if factor ** (s + 1) > most)
    found = []
    for s in range(last, -1, -1):
        count = math.ceil((last + 1) / (s + 1) * factor**s)
        found.append(([int(most / factor ** (s - i)) for i in range(s)], count))
    return found


@pytest.mark.parametrize(("most", "factor"), [(27, 3), (81, 3), (10, 3), (50, 3), (16, 2), (100, 4)])
def test_hyperband_has_the_brackets_of_the_paper(most: int, factor: int) -> None:
    way = Hyperband(max_epochs=most, reduction_factor=factor)
    paper = hyperband_of_the_paper(most, factor)
    assert [list(rungs) for rungs in way.brackets_of_rungs()] == [rungs for rungs, _ in paper]
    halving = Halving(way.brackets_of_rungs(), factor, "hyperband")
    total = sum(count for _, count in paper)
    assert halving.rungs(0) == tuple(paper[0][0]), "the first trial is not in the bracket that stops earliest"
    for begin in (0, 1000, 12345):
        shared = Counter(halving.bracket(begin + i) for i in range(total))
        assert all(abs(shared[bracket] - count) <= 2 for bracket, (_, count) in enumerate(paper)), shared


@pytest.mark.parametrize(
    ("asha", "rungs"), [("{max_epochs: 9}", (1, 3)), ("{max_epochs: 10}", (1, 3, 9)), ("{max_epochs: 1}", ())]
)
def test_rungs_lie_below_the_last_epoch(asha: str, rungs: tuple[int, ...]) -> None:
    assert section(f"{{asha: {asha}}}").rungs() == rungs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{asha: {reduction_factor: 1}}", "at least 2"),
        ("{asha: {max_epochs: 9, brackets: 3}}", "there are 2 (1, 3), so brackets can be at most 2"),
        ("{asha: {max_epochs: 9, patience: 9}}", "patience 9 is not less than max_epochs 9"),
        ("{none: {min_delta: 0.1}}", "min_delta says what patience counts as an improvement; give patience"),
        ("{hyperband: {max_epochs: 2}}", "max_epochs 2 is less than reduction_factor 3"),
        ("{median: {max_epochs: 3, grace_period: 3}}", "grace_period 3 is not less than max_epochs 3"),
        ("{asha: {}, median: {}}", "one way of early stopping, asha, hyperband, median or none, not several"),
    ],
)
def test_what_cannot_be_is_explained(text: str, words: str) -> None:
    with pytest.raises(SpaceError, match=words.replace("(", r"\(").replace(")", r"\)")):
        section(text)


def section(text: str) -> EarlyStopping:
    space = f"name: x\ndata: {{train: t.csv}}\nmodel: {{cnn: {{}}}}\nsearch: {{early_stopping: {text}}}"
    return parse(space, FAMILIES).search.early_stopping
