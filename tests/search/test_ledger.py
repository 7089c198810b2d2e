"""The ledger without Ray: what it proposes, what the study holds afterwards, that a crash anywhere loses nothing."""

from __future__ import annotations

import math
import random
import resource
import signal
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from automl.models import FAMILIES
from automl.search.cma import GENERATION
from automl.search.journal import Journal, cut_torn_tail, open_journal
from automl.search.ledger import MAX_RESTARTS, Ledger
from automl.search.proposals import History
from automl.search.standing import Proposal
from automl.space import SearchSpec, UserError, parse
from automl.training.run_directory import STAGNATION

SPACE = """
name: x
data: {train: t.csv}
model: {cnn: {}, rnn: {}}
search: {trials: 12, sampler: SAMPLER, early_stopping: {asha: {max_epochs: 4, reduction_factor: 2}}}
"""


def spec_with(sampler: str = "random", *, promotion: bool = False) -> SearchSpec:
    text = SPACE.replace("SAMPLER", sampler)
    return parse(text.replace("{max_epochs", "{promotion: true, max_epochs") if promotion else text, FAMILIES)


@pytest.fixture(scope="module", params=[False, True], ids=["stopping", "promotion"])
def spec(request: pytest.FixtureRequest) -> SearchSpec:
    return spec_with(promotion=request.param)


def result(epoch: int, value: float) -> dict[str, Any]:
    return {"epoch": epoch, "accuracy": value, "train_seconds": 1.0 * epoch, "parameters": 10, "bytes": 40}


def curve(number: int) -> list[float]:
    """What a trial reports: fixed by its number, as training is by its seed; one diverges, one raises."""
    generator = random.Random(number)
    level = generator.random()
    return [math.nan if number == 3 and epoch == 2 else level + epoch / 100 for epoch in range(1, 5)]


def play(ledger: Ledger, stop_after: int | None = None) -> int:
    """Run the ledger's trials one after another; stop dead after so many calls. Gives the calls that were made."""
    calls = 0

    def over() -> bool:
        nonlocal calls
        calls += 1
        return stop_after is not None and calls >= stop_after

    while True:
        if over():
            return calls
        proposal = ledger.next()
        if proposal is None:
            return calls
        for epoch, value in enumerate(curve(proposal.number), start=1):
            if epoch <= proposal.epochs:
                continue
            if over():
                return calls
            news = {"error": "ValueError: boom"} if proposal.number == 5 else result(epoch, value)
            if not ledger.record(proposal.number, news):
                break


def snapshot(study: optuna.Study) -> list[tuple[Any, ...]]:
    return [
        (trial.number, trial.state, trial.params, trial.intermediate_values, trial.value, trial.user_attrs)
        for trial in study.trials
    ]


@pytest.fixture(scope="module")
def undisturbed(spec: SearchSpec, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    journal = open_journal(tmp_path_factory.mktemp("study") / "study.journal", mode="max")
    play(Ledger(journal, spec))
    return snapshot(journal.study)


def test_the_best_of_each_family_is_a_finalist(tmp_path: Path) -> None:
    """Also a family whose trials are all worse than many of another; after a crash too."""
    path = tmp_path / "study.journal"
    ledger = Ledger(open_journal(path, mode="max"), spec_with())
    families: dict[str, list[int]] = {"cnn": [], "rnn": []}
    while (proposal := ledger.next()) is not None:
        (family,) = proposal.config["model"]
        families[family].append(proposal.number)
        epochs = range(1, 5)
        value = (1.0 if family == "cnn" else 0.2) + proposal.number / 1000
        next((epoch for epoch in epochs if not ledger.record(proposal.number, result(epoch, value))), None)
    best = [*families["cnn"][:-4:-1], families["rnn"][-1]]
    assert len(families["cnn"]) > 3
    assert ledger.finalists() == best
    assert Ledger(open_journal(path, mode="max"), spec_with()).finalists() == best


def test_states_are_the_truth(undisturbed: list[tuple[Any, ...]]) -> None:
    assert len(undisturbed) == 12
    for number, state, _, values, value, attributes in undisturbed:
        if number == 5:
            assert (state, attributes["reason"]) == (TrialState.FAIL, "ValueError: boom")
        elif number == 3 and len(values) == 1 and state == TrialState.FAIL:
            assert attributes["reason"] == "the loss was not finite in epoch 2"
        elif state == TrialState.COMPLETE:
            assert len(values) == 4 and value == max(values.values())
        else:
            assert state == TrialState.PRUNED
            assert value == values[max(values)]
            assert max(values) in (1, 2) and attributes["reason"] == f"asha: rung {max(values)}"
    states = [state for _, state, *_ in undisturbed]
    assert states.count(TrialState.PRUNED) >= 4 and states.count(TrialState.COMPLETE) >= 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(crashes=st.lists(st.integers(1, 12), max_size=4), torn=st.booleans())
def test_a_crash_after_any_call_changes_nothing(
    crashes: list[int],
    torn: bool,
    spec: SearchSpec,
    undisturbed: list[tuple[Any, ...]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("crash") / "study.journal"
    for calls in crashes:
        play(Ledger(open_journal(path, mode="max"), spec), stop_after=calls)
        if torn:
            with path.open("ab") as file:
                file.write(b'{"op_code": 8, "worker_id": "tor')
    journal = open_journal(path, mode="max")
    play(Ledger(journal, spec))
    assert snapshot(journal.study) == undisturbed


class CrashError(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("written", [False, True], ids=["before the write", "after the write"])
def test_a_crash_at_any_write_changes_nothing(
    written: bool,
    spec: SearchSpec,
    undisturbed: list[tuple[Any, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every write of a whole search is a place to die at; whichever it is, the search ends the same."""
    commit = Journal.commit
    place, writes = 0, 0

    def crashing(journal: Journal, *, durable: bool = False) -> None:
        nonlocal writes
        writes += bool(journal._file._pending)
        if writes == place and not written:
            raise CrashError
        commit(journal, durable=durable)
        if writes == place:
            raise CrashError

    monkeypatch.setattr(Journal, "commit", crashing)
    while True:
        path, place, writes = tmp_path / f"{place}.journal", place + 1, 0
        try:
            play(Ledger(open_journal(path, mode="max"), spec))
            break  # the search has fewer writes than that
        except CrashError:
            writes = place + 1
            journal = open_journal(path, mode="max")
            play(Ledger(journal, spec))
            assert snapshot(journal.study) == undisturbed
    assert place > 30


def test_a_full_disk_leaves_a_journal_that_goes_on(
    spec: SearchSpec, undisturbed: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    """A real limit on the size of files: writes stop short, then fail."""
    path = tmp_path / "study.journal"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    room, full = 3_001, 0
    try:
        while True:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
            try:
                journal = open_journal(path, mode="max")
                play(Ledger(journal, spec))
                break
            except OSError:
                full, room = full + 1, room + 4_001
                assert not path.exists() or path.read_bytes()[-1:] in (b"\n", b"")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert full > 5
    assert snapshot(journal.study) == undisturbed


def test_a_trial_that_loses_its_worker_runs_again_and_in_the_end_fails(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    ledger = Ledger(open_journal(path, mode="max"), spec_with())
    proposal = ledger.next()
    assert proposal
    assert ledger.record(proposal.number, result(1, 0.5))
    for _ in range(MAX_RESTARTS):
        assert ledger.restart(proposal.number, "its worker died")
        assert ledger.restart(proposal.number, "its worker died")  # news that comes twice
        ledger = Ledger(open_journal(path, mode="max"), spec_with())
        again = ledger.next()
        assert again == Proposal(proposal.number, proposal.config, 1)
    assert not ledger.restart(proposal.number, "its worker died")
    trial = ledger.journal.study.trials[proposal.number]
    assert trial.state == TrialState.FAIL and trial.user_attrs["reason"] == "its worker died (3 times)"


def test_news_that_comes_twice_is_written_once(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "study.journal", mode="max")
    ledger = Ledger(journal, spec_with())
    proposal = ledger.next()
    assert proposal is not None
    for _ in range(2):
        assert ledger.record(proposal.number, result(1, 0.5))
    ledger.fail(proposal.number, "first")
    ledger.fail(proposal.number, "second")
    assert not ledger.record(proposal.number, result(2, 0.9))
    assert journal.study.trials[0].intermediate_values == {1: 0.5}
    assert journal.study.trials[0].user_attrs["reason"] == "first"


def test_progress_and_leaders(tmp_path: Path) -> None:
    ledger = Ledger(open_journal(tmp_path / "study.journal", mode="max"), spec_with())
    play(ledger)
    progress = ledger.progress
    assert progress.finished == progress.budget == 12
    assert progress.running == 0
    trials = ledger.journal.study.trials
    scores = [max(trials[number].intermediate_values.values()) for number in ledger.leaders(3)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == progress.best and 5 not in ledger.leaders(12)


def test_the_end_of_the_time_budget_ranks_what_was_reached(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "study.journal", mode="max")
    ledger = Ledger(journal, spec_with())
    reached, nothing = ledger.next(), ledger.next()
    assert reached and nothing
    ledger.record(reached.number, result(1, 0.5))
    assert ledger.end_of_budget("time budget") == [reached.number]
    assert journal.study.trials[reached.number].state == TrialState.PRUNED
    attributes = journal.study.trials[reached.number].user_attrs
    assert attributes["reason"] == "time budget" and attributes["parameters"] == 10 and attributes["train_seconds"] == 1
    assert ledger.unfinished() == [nothing.number]


def test_failures_in_a_row_of_one_cause_are_counted(tmp_path: Path) -> None:
    ledger = Ledger(open_journal(tmp_path / "study.journal", mode="max"), spec_with())
    for expected, reason in ((("x", 1), "x"), (("x", 2), "x"), (None, "y")):
        proposal = ledger.next()
        assert proposal
        ledger.record(proposal.number, {"error": reason})
        assert ledger.same_failure() == expected


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_proposes_the_same(sampler: str, tmp_path: Path) -> None:
    journals = [open_journal(tmp_path / f"{name}.journal", mode="max") for name in "ab"]
    for journal in journals:
        play(Ledger(journal, spec_with(sampler)))
    studies = [journal.study for journal in journals]
    assert snapshot(studies[0]) == snapshot(studies[1])
    assert len({str(trial.params) for trial in studies[0].trials}) == 12


def test_a_study_with_another_direction_is_refused(tmp_path: Path) -> None:
    open_journal(tmp_path / "study.journal", mode="max")
    with pytest.raises(UserError, match="holds a study to maximize"):
        open_journal(tmp_path / "study.journal", mode="min")


def test_a_torn_tail_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"one\ntwo\nthr")
    assert cut_torn_tail(path) == 3
    assert cut_torn_tail(path) == 0
    assert path.read_bytes() == b"one\ntwo\n"
    path.write_bytes(b"x" * 200_000)
    assert cut_torn_tail(path) == 200_000
    assert path.read_bytes() == b""


def test_of_the_trials_that_wait_the_best_go_on_and_the_hopeless_end(tmp_path: Path) -> None:
    ledger = Ledger(open_journal(tmp_path / "study.journal", mode="max"), spec_with(promotion=True))
    taken_up = []
    while (proposal := ledger.next()) is not None:
        taken_up += [proposal.number] if proposal.epochs else []
        for epoch in range(proposal.epochs + 1, 5):
            if not ledger.record(proposal.number, result(epoch, proposal.number / 10)):  # each better than those before
                break
        assert ledger.progress.paused <= 12 / 2 + 12 / 4
    assert ledger.remaining() == 0
    trials = ledger.journal.study.trials
    completed = [trial.number for trial in trials if trial.state == TrialState.COMPLETE]
    assert 11 in completed
    assert len(completed) <= 4
    reached = [trial.number for trial in trials if max(trial.intermediate_values) >= 2]
    assert len(reached) <= 7 and set(reached) <= set(taken_up)
    assert sorted(ledger.take_ended()) == list(range(12))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), workers=st.integers(2, 5), calls=st.integers(0, 45))
def test_a_resumed_plateau_counts_on_whatever_the_order_in_which_trials_ended(
    seed: int, workers: int, calls: int, spec: SearchSpec, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Several trials run at once and end in another order than that of their numbers."""
    path = tmp_path_factory.mktemp("plateau") / "study.journal"
    ledger, generator = Ledger(open_journal(path, mode="max"), spec), random.Random(seed)
    running: dict[int, int] = {}
    for _ in range(calls):
        if len(running) < workers and (proposal := ledger.next()) is not None:
            running[proposal.number] = proposal.epochs
        elif running:
            number = generator.choice(sorted(running))
            running[number] += 1
            if not ledger.record(number, result(running[number], curve(number)[running[number] - 1])):
                del running[number]
    again = Ledger(open_journal(path, mode="max"), spec)
    assert again.since_best() == ledger.since_best()
    again = Ledger(open_journal(path, mode="max"), spec)
    play(again)
    assert again.since_best() == Ledger(open_journal(path, mode="max"), spec).since_best()


def test_a_journal_of_before_is_ranked_by_the_time_at_which_trials_ended(tmp_path: Path) -> None:
    """The first trial runs longest and is the best: four have ended since the best score, not twelve."""
    path = tmp_path / "study.journal"
    spec = parse(SPACE.replace("SAMPLER", "random").replace("trials: 12", "trials: 30"), FAMILIES)
    ledger = Ledger(open_journal(path, mode="max"), spec)
    first, *others = [proposal.number for _ in range(17) if (proposal := ledger.next())]
    for number in others[:12]:
        ledger.record(number, result(4, 0.5))
    ledger.record(first, result(4, 0.9))
    for number in others[12:]:
        ledger.record(number, result(4, 0.5))
    assert ledger.since_best() == 5 == Ledger(open_journal(path, mode="max"), spec).since_best()
    lines = [line for line in path.read_text().splitlines(keepends=True) if STAGNATION not in line]
    path.write_text("".join(lines))
    assert Ledger(open_journal(path, mode="max"), spec).since_best() == 5


CMAES = """
name: x
data: {train: t.csv}
model: {cnn: {dropout: {float: [0.0, 0.5]}, activation: relu, kernel_sizes: [3], pooling: max}}
training: {optimizer: {adamw: {learning_rate: {float: [0.001, 0.1], log: true}}}}
search: {trials: 100000, sampler: cmaes, early_stopping: {none: {max_epochs: 1}}}
"""


def test_cmaes_never_forgets_a_generation() -> None:
    """With the oldest of them gone it would begin anew."""
    history = History("cmaes")
    for number in range(0, 6000, 2):
        history.end(number, 0.0)
        history.reject(number + 1)
    assert history.numbers() == list(range(6000))


def test_cmaes_goes_on_with_its_generations_when_resumed(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    spec = parse(CMAES, FAMILIES)
    ledger, generations = Ledger(open_journal(path, mode="max"), spec), []
    for _ in range(80):
        proposal = ledger.next()
        assert proposal is not None
        ledger.record(proposal.number, result(1, -abs(proposal.config["model"]["cnn"]["dropout"] - 0.3)))
        generations.append(ledger.journal.trial(proposal.number).system_attrs[GENERATION])
    assert generations == sorted(generations) and generations[-1] >= 8
    at_80 = ledger.next()
    other = Ledger(open_journal(tmp_path / "other.journal", mode="max"), spec)  # which the process is told of between
    assert other.next() is not None
    again = Ledger(open_journal(path, mode="max"), spec)
    assert at_80 is not None
    taken_up = again.next()
    assert taken_up is not None and taken_up.config == at_80.config
    following = again.next(), ledger.next()
    assert following[0] is not None and following[1] is not None and following[0].config == following[1].config
