"""Trials that wait for resources are not running: their time is not the budget's, and has a limit of its own."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import automl
from automl.search.budget import INTERRUPTED, Stop, Usage
from automl.search.engine import _outcome
from automl.search.lost_nodes import DRAINED_AS_IDLE, GOES_ON, Losses, RayOutput
from automl.search.progress import Status, panel, plain_line, show
from automl.search.resources import Capacity, Share
from automl.search.standing import Progress
from automl.search.stop_file import StopFile
from automl.search.tune_adapters import BookScheduler
from automl.search.waiting import LOOK_SECONDS, SHOWN_SECONDS, Places, Waiting, lack
from automl.space import SpaceError
from automl.verbs import load_space
from tests.conftest import write_space
from tests.search.test_gpu_hours import trial

AT_WORK, LACKING, STARTING, NONE = Places(at_work=1), Places(waiting=2), Places(starting=1), Places()
BUDGET, LIMIT, STEP = 30.0, 60.0, 0.5


class Search:
    """A search of which a test says where its trials are, and the time."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, limit: float | None = LIMIT) -> None:
        self.now = 100.0
        monkeypatch.setattr("automl.search.budget.time.monotonic", lambda: self.now)
        spec = SimpleNamespace(search=SimpleNamespace(time_budget_seconds=BUDGET, gpu_hours=None, plateau=None))
        ledger = SimpleNamespace(same_failure=lambda: None, leaders=lambda count: [])
        self.usage = Usage.resumed({"seconds": 0.0, "gpu_hours": 0.0})
        self.usage.hold(self.now)
        self.stop = Stop(spec, ledger, self.usage, StopFile(folder, None), Waiting(limit))  # type: ignore[arg-type]
        self.stop.lacks = lambda trials: f"{trials} CPUs"

    def spend(self, seconds: float, places: Places) -> bool:
        """Let time pass with the trials there; whether the search is to end."""
        self.stop.places = lambda: places
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            if self.stop.stop_all():
                return True
        return False


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    return Search(tmp_path, monkeypatch)


def test_the_time_budget_begins_with_the_first_trial_that_runs(search: Search) -> None:
    assert not search.spend(50, LACKING)
    assert search.usage.entry()["seconds"] == 0
    assert not search.spend(5, STARTING)
    assert search.usage.entry()["seconds"] == 0
    assert not search.spend(BUDGET, AT_WORK)
    assert search.usage.entry()["seconds"] == pytest.approx(BUDGET, abs=STEP)
    assert search.spend(1, AT_WORK) and search.stop.reason == "time budget"


def test_waiting_after_a_lost_node_uses_no_budget_either(search: Search) -> None:
    search.spend(10, AT_WORK)
    used = search.usage.seconds()
    assert not search.spend(50, LACKING)
    assert search.usage.seconds() == pytest.approx(used, abs=STEP)
    assert not search.spend(5, STARTING)  # the one that has found a place
    assert search.usage.seconds() == pytest.approx(used, abs=STEP)
    assert not search.spend(10, AT_WORK)
    assert search.usage.seconds() == pytest.approx(used + 10, abs=STEP)


def test_a_worker_that_starts_again_where_there_is_room_uses_the_budget(search: Search) -> None:
    search.spend(10, AT_WORK)
    for _ in range(3):
        search.spend(STEP, LACKING)  # until Ray gives the place that is free
        search.spend(3, STARTING)
    assert search.usage.seconds() == pytest.approx(10 + 3 * (3 + STEP), abs=STEP)


def test_what_others_run_beside_those_that_wait_uses_the_budget(search: Search) -> None:
    assert not search.spend(20, Places(at_work=1, waiting=1))
    assert search.usage.seconds() == pytest.approx(20, abs=STEP)
    assert search.stop.waiting.entry() == {"trials": 1, "running": 1, "waits_for": "1 CPUs"}
    search.spend(5, LACKING)  # now none runs
    assert search.usage.seconds() == pytest.approx(20, abs=STEP)


@given(where=st.lists(st.sampled_from([AT_WORK, LACKING, STARTING, NONE]), max_size=40))
@settings(max_examples=30)
def test_what_is_used_is_at_least_the_time_at_work_and_nothing_of_long_waits(
    where: list[Places], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        search = Search(tmp_path_factory.mktemp("search"), patch, limit=None)
        search.stop.search.time_budget_seconds = None
        before, last = 0.0, where[:1]
        for each in where:
            search.spend(4, each)
            seconds = search.usage.seconds()
            assert seconds >= before - SHOWN_SECONDS - STEP
            assert each != AT_WORK or seconds >= before + 4 - STEP
            assert each != LACKING or seconds <= before + STEP
            before, last = seconds, [each]
        total = 4 * len(where)
        assert 0 <= search.usage.seconds() <= total and (last or not total)
        assert AT_WORK in where or search.usage.seconds() == 0


@pytest.mark.parametrize("places", [LACKING, STARTING])
def test_waiting_has_a_limit_after_which_the_run_can_go_on(search: Search, places: Places) -> None:
    assert not search.spend(LIMIT, places)
    assert search.spend(2, places)
    reason = search.stop.reason or ""
    assert reason.startswith("no trial could run within the 1m 00s of resources.wait")
    assert ("it waited for 2 CPUs" in reason) == (places == LACKING)
    found = _outcome(search.stop, search.stop.ledger)
    assert (found.status, found.reason) == (INTERRUPTED, reason)


def test_the_limit_is_on_each_wait_and_may_be_none(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        assert not search.spend(LIMIT - 5, LACKING)
        assert not search.spend(2, AT_WORK)
        assert not search.spend(LIMIT + 5, NONE) or search.stop.reason == "time budget"
        search.usage.started = search.now
        search.usage.waited, search.stop.reason = 0.0, None
    patient = Search(tmp_path, monkeypatch, limit=None)
    assert not patient.spend(5000, LACKING)


def test_what_a_trial_waits_for_is_looked_up_seldom(search: Search) -> None:
    asked = []
    search.stop.lacks = lambda trials: asked.append(trials) or "it"  # type: ignore[func-returns-value]
    search.spend(50, Places(at_work=1, waiting=1))
    assert 2 <= len(asked) <= 50 / LOOK_SECONDS + 1
    search.spend(STEP, AT_WORK)
    assert search.stop.waiting.message() == "" and search.stop.waiting.entry() is None


def share(cpus: float = 1.0, gpus: float = 0.0, workers: int = 1, **other: float) -> Share:
    return Share(cpus, gpus, other, 2, Capacity(8, 8), None, workers=workers)


@pytest.mark.parametrize(
    ("asked", "trials", "there", "free", "words"),
    [
        (share(), 2, {"CPU": 2}, {}, "2 CPUs; the cluster's 2 are in use"),
        (share(), 1, {"CPU": 1}, {"CPU": 0.0}, "1 CPU; the cluster's 1 is in use"),
        (share(2), 1, {"CPU": 4}, {"CPU": 1}, "2 CPUs; of the cluster's 4, 3 are in use"),
        (share(2), 1, {"CPU": 4}, {"CPU": 4}, "2 CPUs on one node; none has so much free"),
        (share(), 1, {}, {}, "1 CPU; the cluster has none"),
        (share(workers=4), 1, {"CPU": 2}, {"CPU": 2}, "4 CPUs; the cluster has 2"),
        (share(1, 0.5), 3, {"CPU": 9, "GPU": 1}, {"CPU": 8}, "1.5 GPUs; the cluster's 1 is in use"),
        (share(1, 1), 2, {"CPU": 2}, {}, "2 CPUs (the cluster's 2 are in use) and 2 GPUs (the cluster has none)"),
        (share(1, 0, licence=1.0), 1, {"CPU": 2, "licence": 1}, {"CPU": 2}, "1 licence; the cluster's 1 is in use"),
    ],
)
def test_it_is_said_for_what_trials_wait(
    asked: Share, trials: int, there: dict[str, float], free: dict[str, float], words: str
) -> None:
    assert lack(asked, trials, there, free) == words


def places(trials: list[Any], pending_actors: int, workers: int = 1, resetting: tuple[Any, ...] = ()) -> Places:
    scheduler = BookScheduler(SimpleNamespace(), lambda _: None, lambda _: None)  # type: ignore[arg-type]
    assert scheduler.places(workers) == NONE
    scheduler.begin(4)
    manager = SimpleNamespace(num_pending_actors=pending_actors)
    controller = SimpleNamespace(
        get_trials=lambda: trials,
        get_live_trials=lambda: trials,
        _actor_manager=manager,
        _resetting_trials=resetting,
    )
    scheduler.choose_trial_to_run(controller)
    return scheduler.places(workers)


def test_a_trial_runs_once_its_process_has_started(tmp_path: Path) -> None:
    three = [trial(tmp_path, 0, "RUNNING"), trial(tmp_path, 1, "PENDING"), trial(tmp_path, 2, "PENDING")]
    assert places(three, 2) == Places(1, 0, 2)
    assert places(three, 1) == Places(1, 1, 1)
    assert places(three, 0, resetting=(three[2],)) == Places(2, 1, 0)  # a warm worker takes it
    assert places(three[1:], 2) == Places(0, 0, 2)


def test_a_trial_of_several_workers_waits_until_they_have_their_places(tmp_path: Path) -> None:
    two = [trial(tmp_path, number, "RUNNING", workers=2) for number in (0, 1)]
    assert places(two, 0, workers=2) == Places(0, 0, 2)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "placement_group").touch()
    assert places(two, 0, workers=2) == Places(1, 0, 1)


def status(places: Places, message: str = "", news: tuple[str, ...] = ()) -> Status:
    progress = Progress(40, places.at_work + places.starting + places.waiting, 0, 0, 0, None, None, None)
    return Status(progress, "accuracy", 0.0, BUDGET, None, message, places, news)


def test_the_line_and_the_panel_count_trials_that_wait_apart() -> None:
    message = "waiting for 2 CPUs; the cluster's 2 are in use; for 12s of at most 1h 00m"
    said = plain_line(status(LACKING, message))
    assert "0 running, 2 waiting, 0 completed" in said and said.endswith(message)
    assert said.startswith("0s of 30s (30s left) | 0/40 trials")
    assert "1 running, 1 starting, 2 waiting," in plain_line(status(Places(1, 1, 2)))
    assert "1 running, 0 completed" in plain_line(status(AT_WORK))
    out = io.StringIO()
    Console(file=out, width=80).print(panel(status(LACKING, message, ("a node was lost",))))
    assert "0 running, 2 waiting" in out.getvalue() and "a node was lost" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 80


def test_news_are_said_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automl.search.progress.PLAIN_SECONDS", 0.01)
    news: list[str] = []
    looks = iter(range(1000))

    def look() -> Status:
        if next(looks) == 2:
            news.append("the node 10.0.0.7 was lost")
        return status(AT_WORK, news=tuple(news))

    with show(look):
        while not news:
            pass
    said = capsys.readouterr().err
    assert said.count("the node 10.0.0.7 was lost") == 1


def node(number: int, *, alive: bool, reason: int = 0, **resources: float) -> dict[str, Any]:
    """As `ray.nodes` has it: of a dead node no resources."""
    address = f"10.0.0.{number}"
    found = {"NodeID": str(number), "Alive": alive, "DeathReason": reason, "NodeManagerAddress": address}
    return {**found, "Resources": resources if alive else {}}


def test_a_lost_node_is_told_in_a_sentence() -> None:
    said: list[str] = []
    losses = Losses(said.append)
    losses.look([node(number, alive=True, CPU=2.0, GPU=1.0) for number in range(3)] + [node(3, alive=True)])
    now = [
        node(0, alive=True, CPU=2.0),
        node(1, alive=False, reason=2),
        node(2, alive=False, reason=DRAINED_AS_IDLE),
        node(3, alive=False),
        node(4, alive=False),  # of another time
    ]
    losses.look(now)
    losses.look(now)
    first, second = said
    assert first.startswith("the node 10.0.0.1 was lost, with 2 CPUs and 1 GPU; trials that ran there go on")
    assert second.startswith("the node 10.0.0.3 was lost; ")


def test_pages_of_a_lost_node_are_one_sentence() -> None:
    said: list[str] = []
    losses, stream = Losses(said.append), io.StringIO()
    output = RayOutput(stream, losses)  # type: ignore[arg-type]
    dump = "\x1b[33m(raylet)\x1b[0m Raylet is terminated. Termination is unexpected.\n    [state-dump] a\n    b\n"
    dead = "(raylet) The node with node id: 2c and address: 10.0.0.1 has been marked dead because it"
    for page in (dump, dead):
        print("before", file=output)
        print(page, file=output)
        print("after", file=output)
    assert stream.getvalue() == "before\nafter\n" * 2
    losses.end()
    losses.end()
    assert said == [f"a node was lost; {GOES_ON}"]
    losses.look([node(1, alive=True, CPU=1.0)])
    print(dump, file=output)
    losses.look([node(1, alive=False)])
    print(dump, file=output)  # Ray says it more than once
    losses.end()
    assert said[1:] == [f"the node 10.0.0.1 was lost, with 1 CPU; {GOES_ON}"]


def test_the_limit_is_a_setting(tmp_path: Path, small_data: Path) -> None:
    space = write_space(tmp_path / "space.yaml", small_data)
    assert load_space(space).resources.wait_seconds == 3600
    assert load_space(space, ["resources.wait=90s"]).resources.wait_seconds == 90
    assert load_space(space, ["resources.wait=null"]).resources.wait_seconds is None
    for wrong, words in (("20", "say the unit of 20"), ("soon", "expected a time such as")):
        with pytest.raises(SpaceError, match=words):
            load_space(space, [f"resources.wait={wrong}"])
    section = automl.schema()["$defs"]["Resources"]["properties"]["wait"]
    assert section["default"] == "1h" and "resume" in section["description"]
    checked = automl.check(space, overrides=["resources.wait=90s"])
    assert checked.as_json()["plan"]["wait"] == "90s"
    assert "where others hold them, trials wait for at most 90s" in " ".join(dict(checked.plan.lines()).values())


def test_trials_that_are_given_out_later_have_not_waited_before(search: Search) -> None:
    """As those that train the best again: between the last trial and them the best are measured."""
    search.spend(2, LACKING)
    search.stop.waiting.end()
    search.now += 2 * LIMIT
    assert not search.spend(LIMIT / 2, STARTING)
    assert search.stop.reason is None and search.stop.waiting.seconds < LIMIT
