"""The Ray that a search starts: nobody outside this machine reaches it, and nobody without its token gets in."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private import ray_constants

from automl.data.private_folder import private_folder
from automl.search.ray_session import ray_session
from automl.space import UserError
from tests.data.test_private_folder import PREFIX, as_root, refused_to_strangers
from tests.search.test_kills import alive, family

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


STAYS = """
import os, sys, time
from automl.search.ray_session import ray_session
with ray_session(None):
    print(os.environ["RAY_TMPDIR"], file=sys.__stdout__, flush=True)
    time.sleep(600)
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


@as_root
def test_another_user_reaches_neither_files_nor_sockets_of_our_own_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / ("a temporary folder that is too long for sockets" * 2)
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    with ray_session(None):
        session = Path(ray._private.worker._global_node.get_session_dir_path())
        folder = session.parent.parent
        assert folder.name.startswith(PREFIX) and folder.parent != place
        assert (stat.S_IMODE(folder.stat().st_mode), folder.stat().st_uid) == (0o700, os.geteuid())
        assert stat.S_IMODE(session.stat().st_mode) == 0o777  # which is why it lies in there
        sockets = [path for path in folder.rglob("*") if path.is_socket()]
        assert len(sockets) >= 2 and max(len(os.fsencode(path)) for path in sockets) <= 107
        refused_to_strangers([folder, session, *sockets])
        bound = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if session.name in line]
        assert bound and all(Path(each).is_relative_to(folder) for each in bound)
    assert not folder.exists() and "RAY_TMPDIR" not in os.environ


@pytest.mark.slow
def test_the_next_ray_removes_what_a_killed_one_left_beside_one_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as place:  # short, as sockets want it
        monkeypatch.setenv("TMPDIR", place)
        process = subprocess.Popen([sys.executable, "-c", STAYS], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        started = family(process.pid)
        assert left.parent == Path(place) and (left / "ray").exists() and len(started) > 1
        with ray_session(None):  # two at once
            assert left.exists()
            assert len(list(Path(place).iterdir())) == 2
        process.kill()
        process.wait()
        # Some processes of Ray end a minute later; none of them has a hold on the folder.
        deadline = time.monotonic() + 60
        while any(alive(each) for each, name in started.items() if name.split(" ")[0].endswith("/raylet")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert left.exists()
        with ray_session(None):
            while left.exists():
                assert time.monotonic() < deadline
                with private_folder():  # the next start again: something may have been written meanwhile
                    pass
        assert list(Path(place).iterdir()) == []


def test_no_place_for_its_files_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automl.data.private_folder._usual", lambda: ["/nowhere"])
    with (
        pytest.raises(UserError, match=r"temporary files .*set TMPDIR to one \(/nowhere: No such file"),
        ray_session(None),
    ):
        pass
    assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_TMPDIR"} & {*os.environ}


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
