"""The Ray that a search starts: nobody outside this machine reaches it, and nobody without its token gets in."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private import ray_constants

from automl.search.ray_session import ray_session
from automl.space import UserError
from tests.search.test_kills import family

pytestmark = pytest.mark.ray

LISTENING = "0A"

ENTER = """
import sys, ray
print(len(ray._raylet.GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10)), "node")
"""

GARBAGE = """
import gc, threading, time, ray
from automl.search.ray_session import ray_session

class Ring:
    def __init__(self, value):
        self.value, self.ring = value, self

def drop():
    while values and not over.is_set():
        Ring(values.pop())
        time.sleep(0.0004)

gc.set_threshold(10)
over = threading.Event()
with ray_session(None):
    values = [ray.put(0) for _ in range(6000)]
    thread = threading.Thread(target=drop)
    thread.start()
over.set()
thread.join()
print("over")
"""


def listeners(processes: set[int]) -> set[str]:
    """The addresses, as hexadecimal digits, on which these processes listen for TCP connections."""
    sockets = set()
    for process in processes:
        for descriptor in Path(f"/proc/{process}/fd").glob("*"):
            try:
                sockets.add(str(descriptor.readlink()))
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].partition(":")[0])
    return found


def enter(address: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What comes of another process that asks the Ray at `address` for its nodes."""
    return subprocess.run(
        [sys.executable, "-c", ENTER, address],
        env={**{name: value for name, value in os.environ.items() if "RAY_AUTH" not in name}, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_ray_of_our_own_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with ray_session(None):
        assert ray.get(ray.remote(lambda: 7).remote(), timeout=60) == 7
        address, token = ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"]
        addresses = listeners(set(family(os.getpid())))
        assert addresses
        assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}, addresses
        wrong = enter(address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
        assert wrong.returncode != 0 and wrong.stdout == ""
        none = enter(address, RAY_AUTH_MODE="disabled")
        assert none.returncode != 0 and none.stdout == ""
        assert enter(address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token).stdout == "1 node\n"
    assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & {*os.environ}
    assert not (tmp_path / ".ray").exists()  # the token was on no disk


def test_a_ray_that_dies_while_it_starts_is_started_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    real, starts = ray.init, []

    def dies_at_first(**settings: Any) -> Any:
        starts.append(settings)
        if len(starts) == 1:
            raise Exception("The current node timed out during startup.")  # as Ray does where its raylet is killed
        return real(**settings)

    monkeypatch.setattr(ray, "init", dies_at_first)
    with ray_session(None) as capacity:
        assert capacity.cpus >= 1
    assert len(starts) == 2 and not ray.is_initialized()

    monkeypatch.setattr(ray, "init", lambda **settings: [][0])
    with pytest.raises(UserError, match="cannot start on a local Ray: list index out of range"), ray_session(None):
        pass


def test_garbage_that_another_thread_collects_does_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", GARBAGE], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr[-2000:]


def test_nothing_that_was_set_for_it_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_DEDUP_LOGS", "1")
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
    before = dict(os.environ)
    levels = {name: logging.getLogger(name).level for name in ("ray", "ray.tune", "ray.train")}
    with ray_session(None):
        assert os.environ["TUNE_DISABLE_SIGINT_HANDLER"] == "1"
    assert dict(os.environ) == before and not ray_constants.ENABLE_RAY_CLUSTER
    assert {name: logging.getLogger(name).level for name in levels} == levels
