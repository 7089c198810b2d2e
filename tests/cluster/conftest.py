from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest


@dataclass
class Up:
    """A local cluster: its process, and what reaches it needs in the environment."""

    process: subprocess.Popen[str]
    folder: Path
    environment: dict[str, str]

    @property
    def address(self) -> str:
        return self.environment["AUTOML_ADDRESS"]

    def automl(self, *arguments: object, cwd: Path, code: int = 0, **changes: str) -> str:
        """The standard output of a command that is to end with `code`; with another code, its standard error."""
        ended = subprocess.run(
            [sys.executable, "-m", "automl", *map(str, arguments)],
            cwd=cwd,
            env={**self.environment, **changes},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert ended.returncode == code, ended.stderr
        return ended.stdout if code == 0 else ended.stderr

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def called(self, name: str) -> list[psutil.Process]:
        """Those of its processes that have this name; others come and go meanwhile."""
        found = []
        for each in self.family():
            with suppress(psutil.NoSuchProcess):
                found += [each] if each.name() == name else []
        return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with local_cluster(tmp_path_factory.mktemp("cluster")) as up:
        yield up


@contextmanager
def local_cluster(folder: Path) -> Iterator[Up]:
    """`make local-cluster`; at its end no process of it is left."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "AUTOML_RUNS"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "automl.cluster.local", "--folder", str(folder)],
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    said = "".join(process.stdout.readline() for _ in range(3))
    exported = dict(re.findall(r"export (\w+)=(.*)", said))
    assert exported.keys() == {"AUTOML_ADDRESS", "RAY_AUTH_TOKEN_PATH"}, said
    started = psutil.Process(process.pid).children(recursive=True)
    up = Up(process, folder, {**clean, **exported, "COLUMNS": "80"})
    try:
        yield up
    finally:
        if process.poll() is None:
            started += up.family()
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
    deadline = time.monotonic() + 20
    while left := [each for each in started if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
