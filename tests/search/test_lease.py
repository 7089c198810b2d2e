"""One process drives a run in a store, whatever the store and the machines do; one that has lost it writes no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from automl.data.exclusive import create_exclusively
from automl.data.store import Store
from automl.search import lease as lease_module
from automl.search import publishing
from automl.search.lease import (
    LEASE_SECONDS,
    MARGIN_SECONDS,
    SETTLE_SECONDS,
    BeingDrivenError,
    Lease,
    LeaseLostError,
    process_is_gone,
    process_mark,
    take,
)
from automl.search.publishing import driving
from automl.search.stop_file import StopFile
from automl.training.run_directory import RunDirectory, read_json, write_json

MOST_SECONDS = 2.5  # that an answer of the store in `World` takes; some are too late for a store without conditions


class World:
    """A store and a clock for several processes, which take turns as `choices` say: an answer at a time."""

    url = "fake://store/run"

    def __init__(self, choices: list[tuple[int, float]], *, conditional: bool) -> None:
        self.files: dict[str, bytes] = {}
        self.conditional = conditional
        self.time = 1_000_000.0
        self._choices = iter(choices)
        self._waiting: dict[int, float] = {}  # by thread, until when
        self._running = 0
        self._turn: int | None = None
        self._changed = threading.Condition()

    def run(self, *works: Callable[[], Any]) -> list[Any]:
        """What each of `works` gives, or the exception that it raises."""
        results: list[Any] = [None] * len(works)

        def do(number: int) -> None:
            try:
                results[number] = works[number]()
            except Exception as error:
                results[number] = error
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

        self._running = len(works)
        threads = [threading.Thread(target=do, args=(number,), daemon=True) for number in range(len(works))]
        for thread in threads:
            thread.start()
        with self._changed:
            while True:
                assert self._changed.wait_for(lambda: len(self._waiting) == self._running, timeout=60)
                if not self._running:
                    break
                ready = sorted(each for each, until in self._waiting.items() if until <= self.time)
                if not ready:
                    self.time = min(self._waiting.values())
                    continue
                which, seconds = next(self._choices, (0, 0.01))
                self.time += seconds
                self._turn = ready[which % len(ready)]
                del self._waiting[self._turn]
                self._changed.notify_all()
                assert self._changed.wait_for(lambda: self._turn is None, timeout=60)
        return results

    def _wait(self, seconds: float = 0.0) -> None:
        me = threading.get_ident()
        with self._changed:
            if not self._running:  # nobody takes turns
                self.time += seconds
                return
            self._waiting[me] = self.time + seconds
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._turn == me, timeout=60)
            self._turn = None
            self._changed.notify_all()

    def names(self, under: str = "") -> list[str]:
        self._wait()
        return sorted(name for name in self.files if name.startswith(under))

    def content(self, name: str, most: int) -> bytes | None:
        self._wait()
        return self.files.get(name)

    def write(self, content: bytes, name: str) -> None:
        self._wait()
        self.files[name] = content

    def create(self, content: bytes, name: str) -> bool | None:
        self._wait()
        if not self.conditional:
            return None
        return self.files.setdefault(name, content) is content

    def remove(self, name: str) -> None:
        self._wait()
        self.files.pop(name, None)

    def elapsed(self) -> float:
        return self.time

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self._wait(seconds)


CHOICES = st.lists(st.tuples(st.integers(0, 2), st.floats(0, MOST_SECONDS)), max_size=60)
LATE = [(0, 0.0), (1, 0.0)] * 3 + [(0, 0.0)] * 6 + [(1, 0.0)] * 20  # one reads, the other takes it, the first writes


@settings(max_examples=30)
@given(CHOICES, st.booleans(), st.sampled_from(["none", "dead", "alive", "old"]), st.integers(2, 3))
@example(LATE, False, "none", 2)
@example(LATE, True, "dead", 2)
def test_of_several_that_start_at_once_one_has_the_lease(
    choices: list[tuple[int, float]], conditional: bool, before: str, starts: int
) -> None:
    world = World(choices, conditional=conditional)
    if before != "none":
        take(world, world)
        if before == "old":
            world.files = {"driver.json": json.dumps({"host": "h", "pid": 1, "time": world.time}).encode()}
        if before == "dead":
            world.time += LEASE_SECONDS
        else:
            world.time += 0 if before == "alive" else LEASE_SECONDS
    began = world.time
    results = world.run(*[lambda: take(world, world)] * starts)
    winners = [result for result in results if isinstance(result, Lease)]
    assert all(isinstance(result, Lease | BeingDrivenError | LeaseLostError | OSError) for result in results), results
    if before == "alive" and world.time - began < LEASE_SECONDS / 2:
        assert not winners
    if world.time - began < LEASE_SECONDS - MARGIN_SECONDS - SETTLE_SECONDS:
        assert len(winners) <= 1
        assert winners or before == "alive" or any(seconds > 0.1 for _, seconds in choices)
    assert sum(may_write(lease) for lease in winners) <= 1
    assert len({lease.owner for lease in winners}) == len(winners)


def may_write(lease: Lease) -> bool:
    try:
        lease.require()
    except LeaseLostError:
        return False
    return True


@pytest.mark.parametrize("conditional", [True, False])
def test_a_dead_owner_is_given_up_after_a_time_on_its_own_machine_too(conditional: bool) -> None:
    """In a container that is started again the driver has the same host name and process id as the dead one."""
    world = World([], conditional=conditional)
    take(world, world)  # by this very process, which lives
    with pytest.raises(BeingDrivenError, match="given up after 60 seconds"):
        take(world, world)
    world.time += LEASE_SECONDS
    assert take(world, world).epoch == 2


def test_a_lease_that_is_not_renewed_is_lost_to_its_owner_before_others_take_it() -> None:
    world = World([], conditional=True)
    lease = take(world, world)
    world.time += LEASE_SECONDS - MARGIN_SECONDS - 1
    lease.renew()
    world.time += LEASE_SECONDS - MARGIN_SECONDS
    with pytest.raises(BeingDrivenError):
        take(world, world)
    heard: list[str] = []
    lease.on_loss = heard.append
    before = dict(world.files)
    for act in (lease.require, lease.renew, lease.release):
        with pytest.raises(LeaseLostError, match="has not answered for 45 seconds"):
            act()
    assert world.files == before and len(heard) == 1


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["renew", "require", "take", "wait", "release"]), max_size=12), st.booleans())
def test_at_no_time_two_may_write(steps: list[str], conditional: bool) -> None:
    world = World([], conditional=conditional)
    leases = [take(world, world)]
    for step in steps:
        if step == "wait":
            world.time += LEASE_SECONDS / 2
        elif step == "take":
            try:
                leases.append(take(world, world))
            except BeingDrivenError:
                assert may_write(leases[-1]) or leases[-1].lost()
        else:
            for lease in leases:
                try:
                    getattr(lease, step)()
                except LeaseLostError:
                    assert lease.lost()
        assert sum(may_write(lease) for lease in leases) <= 1
        assert not any(may_write(lease) for lease in leases[:-1])
    assert [lease.epoch for lease in leases] == sorted({lease.epoch for lease in leases})


def test_a_process_that_is_gone_is_told_from_others() -> None:
    code = "from automl.search.lease import process_mark; import os; print(os.getpid(), process_mark())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pid, _, mark = done.stdout.strip().partition(" ")
    if not mark:
        pytest.skip("nothing tells processes apart here")
    assert process_is_gone(mark, int(pid))
    boot, space, began = process_mark().split(" ")
    assert not process_is_gone(process_mark(), os.getpid())
    assert process_is_gone(f"{boot} {space} 1{began}", os.getpid())  # another one with its number
    assert not process_is_gone(f"{boot} other {began}", int(pid))  # in another container
    assert not process_is_gone("", int(pid))


def test_stores_write_only_if_there_is_none(bucket: str, tmp_path: Path) -> None:
    store = Store(f"{bucket}/{tmp_path.name}")
    assert store.content("driver/1", 10) is None
    assert [store.create(each, "driver/1") for each in (b"one", b"two")] == [True, False]
    assert store.content("driver/1", 10) == b"one"
    store.write(b"three", "driver/1")
    assert store.content("driver/1", 3) == b"thr"
    local = pyarrow.fs.LocalFileSystem()
    path = str(tmp_path / "folder" / "file")
    assert [create_exclusively(local, "", path, each) for each in (b"one", b"two")] == [True, False]
    assert Path(path).read_bytes() == b"one"
    assert [each.name for each in Path(path).parent.iterdir()] == ["file"]


def test_of_two_starts_in_s3_one_has_the_lease(bucket: str, tmp_path: Path) -> None:
    store = Store(f"{bucket}/{tmp_path.name}/run")
    barrier, found = threading.Barrier(4), list[Any]()

    def start() -> None:
        barrier.wait()
        try:
            found.append(take(store))
        except BeingDrivenError as error:
            found.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (lease,) = (each for each in found if isinstance(each, Lease))
    lease.renew()
    lease.release()
    assert take(store).epoch == 2


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """A run in a store in memory, whose driver publishes at once."""
    monkeypatch.setattr(lease_module, "SETTLE_SECONDS", 0.2)
    monkeypatch.setattr(publishing, "PUBLISH_SECONDS", 0.05)
    monkeypatch.setattr(publishing, "LAST_PAUSES", (0.01, 0.01))
    directory = RunDirectory(tmp_path / "run", f"memory://{uuid.uuid4().hex}/run")
    directory.path.mkdir()
    write_json(directory.manifest, {"id": "x"})
    return directory


def until(there: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not there():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_slow_publishing_round_does_not_lose_the_lease(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "HEARTBEAT_SECONDS", 0.02)
    slow, going = threading.Event(), threading.Event()
    put = Store.put

    def slowly(self: Store, path: Path, name: str) -> None:
        if name == "manifest.json":
            going.set()
            slow.wait()
        put(self, path, name)

    monkeypatch.setattr(Store, "put", slowly)
    store = Store(str(run.url))
    with driving(run) as publisher:
        going.wait()
        seen = {store.content("driver/00000001.json", 10_000)}
        until(lambda: len(seen | {store.content("driver/00000001.json", 10_000)}) > 1)  # it is renewed all the same
        with pytest.raises(BeingDrivenError):
            take(store)
        slow.set()
        assert not publisher.lost()
    assert store.has("manifest.json")


def test_a_fenced_driver_writes_nothing_more(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, heard = Store(str(run.url)), list[str]()
    with driving(run) as publisher:
        until(lambda: store.has("manifest.json"))
        assert publisher.lease is not None
        publisher.lease.on_loss = heard.append
        store.write(b"{}", "driver/00000002.json")  # another one takes over
        run.floor.write_text("{}")
        until(lambda: bool(publisher.lost()))
        before = {name: store.state(name) for name in store.names()}
        stop_file = StopFile(run.path, run.url, publisher.holds)
        stop_file.set()
        folder = run.trial(3)
        publisher.discard(folder, folder.checkpoint)
        with pytest.raises(LeaseLostError):
            publisher.publish()
        stop_file.clear()
    assert {name: store.state(name) for name in store.names()} == before
    assert not store.has("floor.json")
    assert len(heard) == 1 and "does not drive" in heard[0]
    assert "does not drive" in capsys.readouterr().err


class StrangeError(Exception):
    """As gcsfs and adlfs have some of their own."""


@pytest.mark.parametrize("kind", [StrangeError, OSError, RuntimeError, KeyError])
def test_an_error_of_any_kind_ends_no_publishing(
    run: RunDirectory, kind: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put, failed = Store.put, threading.Event()

    def fails_first(self: Store, path: Path, name: str) -> None:
        if not failed.is_set() and not name.startswith("driver/"):
            failed.set()
            raise kind("no answer")
        put(self, path, name)

    monkeypatch.setattr(Store, "put", fails_first)
    with driving(run) as publisher:
        failed.wait()
        until(lambda: Store(str(run.url)).has("manifest.json"))
        run.floor.write_text("{}")
    assert Store(str(run.url)).has("floor.json")
    assert publisher.failure == ""
    assert capsys.readouterr().err == ""


def test_a_store_that_is_not_up_to_date_is_said(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put = Store.put

    def fails(self: Store, path: Path, name: str) -> None:
        if not name.startswith("driver/"):
            raise StrangeError("quota\nand more")
        put(self, path, name)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", fails)
        with driving(run) as publisher:
            until(lambda: publisher.failures > 0)
    said = capsys.readouterr().err
    assert "is not up to date" in said and "StrangeError: quota" in said and said.count("\n") == 1
    assert "StrangeError: quota" in read_json(run.manifest)["store"]
    with driving(run):
        pass
    assert capsys.readouterr().err == ""
    assert read_json(run.manifest)["store"] == ""
    assert Store(str(run.url)).has("manifest.json")


def test_transient_errors_of_any_kind_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automl.data.store.PAUSE_SECONDS", 0.0)
    store = Store("memory://x/run", patience=60)
    asked = 0

    def third(*errors: Exception) -> str:
        nonlocal asked
        asked += 1
        if asked <= len(errors):
            raise errors[asked - 1]
        return "said"

    assert store._patiently(lambda: third(StrangeError(), OSError(), RuntimeError("x"))) == "said"
    forbidden, missing = StrangeError("no"), StrangeError("none")
    forbidden.code, missing.status_code = 403, 404  # type: ignore[attr-defined]
    for error, kind, times in ((forbidden, OSError, 1), (missing, FileNotFoundError, 1), (TypeError(), TypeError, 1)):
        asked = 0
        with pytest.raises(kind):
            store._patiently(lambda error=error: third(error))  # type: ignore[misc]
        assert asked == times
    with pytest.raises(OSError, match="quota"):
        Store("memory://x/run", patience=-1)._patiently(lambda: third(*[StrangeError("quota")] * 9))
