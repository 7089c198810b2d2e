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
from automl.search.stopping import PLACES, Halving, StoppingRule
from automl.space import SpaceError, parse
from automl.space.early_stopping import Asha, EarlyStopping, Hyperband, Median, NoStopping, Stopping

Event = tuple[int, int, float]  # trial, epoch, value
Ended = dict[int, str]  # finished, failed, or why it was stopped
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


def expected(way: Stopping, past: list[Event], ended: Ended, event: Event, maximize: bool) -> str | None:
    """What the rule says of `event`, from everything that was reported before it and how trials have ended."""
    past = [(trial, epoch, rank_key(value, maximize)) for trial, epoch, value in past]
    number, epoch, key = event[0], event[1], rank_key(event[2], maximize)
    mine = {each: other for trial, each, other in past if trial == number} | {epoch: key}
    reason = None
    if isinstance(way, Asha | Hyperband):
        reason = expected_of_halving(way, past, ended, (number, epoch, key), mine)
    elif isinstance(way, Median):
        reason = expected_of_median(way, past, (number, epoch, key), mine)
    return reason or expected_of_patience(way, mine)


def rank_key(value: float, maximize: bool) -> float:
    return -value if maximize else value


def bracket_of(way: Asha | Hyperband, number: int) -> int:
    return Halving(way.brackets_of_rungs(), way.reduction_factor, "").bracket(number)


def expected_of_halving(
    way: Asha | Hyperband, past: list[Event], ended: Ended, event: Event, mine: dict[int, float]
) -> str | None:
    number, epoch, key = event
    bracket = bracket_of(way, number)
    rungs = way.brackets_of_rungs()[bracket]
    name = "asha" if isinstance(way, Asha) else "hyperband"
    passed = [rung for rung in rungs if rung in mine]
    if not passed:
        return None
    rung = passed[-1]
    others = {t: {e: k for o, e, k in past if o == t} for t in {t for t, _, _ in past} - {number}}
    others = {t: curve for t, curve in others.items() if bracket_of(way, t) == bracket and rung in curve}
    share = math.ceil((len(others) + 1) / way.reduction_factor)
    later = [each for each in rungs if each > rung]
    used = sum(ended.get(t) == "finished" or any(each in curve for each in later) for t, curve in others.items())
    better = sum(
        t not in ended and not any(each in curve for each in later) and (curve[rung], t) < (mine[rung], number)
        for t, curve in others.items()
    )
    has_place = used + better < math.ceil(PLACES * (len(others) + 1) / way.reduction_factor)
    if rung != epoch:
        return None if has_place else f"{name}: outdone at rung {rung}"
    is_best = not math.isnan(key) and sum(curve[rung] <= key for curve in others.values()) < share
    return None if is_best and has_place else f"{name}: rung {rung}"


def expected_of_median(way: Median, past: list[Event], event: Event, mine: dict[int, float]) -> str | None:
    number, epoch, key = event
    means = []
    for other in {trial for trial, each, _ in past if each == epoch and trial != number}:
        mean = statistics.fmean(k for trial, each, k in past if trial == other and each <= epoch)
        means += [] if math.isnan(mean) else [mean]
    best = min((k for k in mine.values() if not math.isnan(k)), default=math.inf)
    enough = epoch >= way.grace_period and len(means) >= way.min_trials
    return f"median: epoch {epoch}" if math.isnan(key) or (enough and best > statistics.median(means)) else None


def expected_of_patience(way: Stopping, mine: dict[int, float]) -> str | None:
    if way.patience is None:
        return None
    best, since = math.inf, 0
    for epoch, key in sorted(mine.items()):
        if key < best - way.min_delta:
            best, since = key, epoch
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
    ended: Ended = {}
    while running := [number for number, left in enumerate(epochs) if left]:
        number = generator.choice(running[:4])
        epoch = epochs[number].pop(0)
        event = (number, epoch, curves[number][epoch - 1])
        if generator.random() < crash:
            rule = rebuilt(way, past, ended, generator, maximize)
        if epoch < way.max_epochs:
            mine = {each: value for trial, each, value in past if trial == number} | {epoch: event[2]}
            told = expected(way, past, ended, event, maximize)
            assert rule.decide(number, epoch, mine) == told
            assert rule.decide(number, epoch, mine) == told, "asked twice it changes its mind"
            if told:
                ended[number] = "finished" if told.startswith("patience") else told
                epochs[number] = []
        past.append(event)
        if not epochs[number] and number not in ended:
            ended[number] = "finished" if epoch == way.max_epochs else "failed"
        if number in ended:
            rule.end(number, finished=ended[number] == "finished")


def rebuilt(way: Stopping, past: list[Event], ended: Ended, generator: random.Random, maximize: bool) -> StoppingRule:
    """A new rule that has taken up the trials of `past` in any order."""
    rule = StoppingRule(way, maximize=maximize)
    numbers = sorted({number for number, _, _ in past})
    for number in generator.sample(numbers, len(numbers)):
        mine = {epoch: value for trial, epoch, value in past if trial == number}
        how = ended.get(number, "")
        reason = "patience: no improvement" if how == "finished" and way.max_epochs not in mine else how
        if how:
            rule.restore(number, mine, ended=True, reason=reason)
        else:  # its last epoch is in the journal, the decision is made again
            rule.restore(number, mine | {way.max_epochs: 0.0}, ended=False)
    return rule


def test_not_all_go_on_where_each_trial_is_better_than_those_before() -> None:
    rule = StoppingRule(Asha(max_epochs=27, reduction_factor=3), maximize=True)
    completed = 0
    for number in range(60):
        curve = {epoch: number + epoch / 100 for epoch in range(1, 28)}
        seen: dict[int, float] = {}
        for epoch, value in curve.items():
            seen[epoch] = value
            if epoch == 27:
                completed += 1
                rule.end(number, finished=True)
            elif rule.decide(number, epoch, seen):
                break
    assert 1 <= completed <= math.ceil(60 * (PLACES / 3) ** 3), f"{completed} of 60 trials ran all epochs"


def test_a_better_trial_takes_the_place_of_one_under_way() -> None:
    rule = StoppingRule(Asha(max_epochs=9, reduction_factor=3), maximize=True)
    assert rule.decide(0, 1, {1: 0.5}) is None
    assert rule.decide(1, 1, {1: 0.6}) is None
    assert rule.decide(0, 2, {1: 0.5, 2: 0.9}) == "asha: outdone at rung 1"
    assert rule.decide(1, 2, {1: 0.6, 2: 0.6}) is None


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_trial_that_was_killed_before_the_decision_is_decided_on_later(name: str) -> None:
    undisturbed, resumed = (StoppingRule(RULES[name], maximize=True) for _ in range(2))
    curve = {1: 0.95, 2: 0.95, 3: 0.1}
    for rule in (undisturbed, resumed):
        for number in range(2):
            rule.restore(number, {1: 0.9, 2: 0.9, 3: 1.2}, ended=True, reason="time budget")
        for number in range(2, 7):
            rule.restore(number, {1: 0.5}, ended=True, reason="asha: rung 1")
    resumed.restore(9, curve, ended=False)
    assert undisturbed.decide(9, 1, curve) is None and undisturbed.decide(9, 2, curve) is None
    assert resumed.decide(9, 2, curve) is None, "an epoch that is reported again counts twice"
    assert (
        undisturbed.decide(9, 3, curve)
        == resumed.decide(9, 3, curve)
        == f"{name}: {'rung' if name == 'asha' else 'epoch'} 3"
    )


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
