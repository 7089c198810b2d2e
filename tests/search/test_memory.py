"""A trial that takes the memory of the machine fails alone, with the reason, and the search goes on."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

import automl
from automl.data.machine import Memory
from automl.search import memory_watch
from automl.search.memory_watch import GIB, MemoryWatch
from tests.conftest import write_space

HUNGRY = """
import time
import numpy
from typing import Annotated
from torch import nn

class Net(nn.Module):
    def __init__(self, vocabulary, classes, eats):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocabulary, classes)
        self.eats = eats

    def forward(self, tokens, lengths):
        kept = []
        while self.training and self.eats and len(kept) < 60:
            kept.append(numpy.ones(4_000_000))
            time.sleep(0.05)
        return self.embedding(tokens)

def net(vocabulary: int, classes: int, *, eats: Annotated[bool, {"choice": [False, True]}] = False) -> nn.Module:
    return Net(vocabulary, classes, eats)
"""


class FakeProcess:
    def __init__(self, pid: int) -> None:
        self.pid, self.killed = pid, False

    def kill(self) -> None:
        self.killed = True


def processes(monkeypatch: pytest.MonkeyPatch, *sizes: float) -> list[FakeProcess]:
    found = [FakeProcess(number) for number in range(100, 100 + len(sizes))]
    at_work = {process: int(size * GIB) for process, size in zip(found, sizes, strict=True)}
    monkeypatch.setattr(memory_watch, "_trial_processes", lambda: at_work)
    return found


@pytest.mark.parametrize(
    ("used", "sizes", "ended"),
    [(9.0, [1, 5], []), (9.6, [1, 5, 2], [101]), (9.9, [0.1, 0.2], []), (9.9, [], [])],
    ids=["there is memory", "the largest", "others have it", "nothing is at work"],
)
def test_the_largest_process_ends_where_ours_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch, used: float, sizes: list[float], ended: list[int]
) -> None:
    found = processes(monkeypatch, *sizes)
    watch = MemoryWatch(lambda: Memory(int(used * GIB), 10 * GIB))
    assert watch.look() == bool(ended)
    assert [process.pid for process in found if process.killed] == ended


def test_each_end_is_told_once_to_its_own_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    processes(monkeypatch, 1, 8)
    watch = MemoryWatch(lambda: Memory(int(9.9 * GIB), 10 * GIB))
    watch.look()
    assert watch.reason(RuntimeError("The actor died\n\tclass_name: Worker\n\tpid: 100\n")) is None
    said = watch.reason(RuntimeError("The actor died\n\tclass_name: Worker\n\tpid: 101\n"))
    assert said == "out of memory: its process had 8.0 GiB when 9.9 GiB of 10.0 GiB were in use"
    assert watch.reason(RuntimeError("a worker process of the trial ended")) is None
    watch.look()
    assert watch.reason(RuntimeError("a worker process of the trial ended")) == said


def test_what_the_kernel_ended_is_out_of_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    kills = [3]
    monkeypatch.setattr(memory_watch, "out_of_memory_kills", lambda: kills[0])
    watch = MemoryWatch(lambda: Memory(1, 10))
    dead = RuntimeError("pid: 7")
    assert watch.reason(dead) is None
    kills[0] += 1
    assert watch.reason(dead) == "out of memory: the kernel ended its process"
    assert watch.reason(dead) is None


@pytest.mark.ray
@pytest.mark.slow
def test_a_hungry_trial_fails_alone(small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hungry.py").write_text(HUNGRY)
    space = write_space(tmp_path / "space.yaml", small_data, trials=4, epochs=2)
    most = 0

    def measure() -> Memory:
        nonlocal most
        used = sum(memory_watch._trial_processes().values())
        most = max(most, used)
        return Memory(used, 2 * GIB)

    monkeypatch.setattr(memory_watch, "memory", measure)
    overrides = ["model={hungry:net: {eats: {choice: [false, true]}}}", "search.sampler=grid", "search.trials=2"]
    overrides.append("training.optimizer={adamw: {learning_rate: 0.01}}")
    result = automl.run(space, output=tmp_path / "run", overrides=overrides, quiet=True)
    rows: list[dict[str, Any]] = [row for row in automl.leaderboard(result.path) if row["trial"] is not None]
    assert result.status == "finished"
    fed, hungry = sorted(rows, key=lambda row: row["status"])
    assert fed["status"] == "completed" and hungry["status"] == "failed"
    assert hungry["error"].startswith("out of memory: its process had ")
    assert hungry["config"]["model"]["hungry:net"]["eats"] and most < 2.5 * GIB
    assert not [thread for thread in threading.enumerate() if thread.name == "memory"]
    assert not [each for each in psutil.Process().children(recursive=True) if "ray::" in each.name()]
