"""A Ray of our own is nobody else's: it listens on loopback only, and who has no token is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray]

PROGRAM = """
import os, subprocess, sys
import psutil, ray
from automl.search.ray_session import ray_session

with ray_session(None):
    listening = [
        (process.name(), each.laddr.ip)
        for process in psutil.Process().children(recursive=True)
        for each in process.net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 3, listening
    assert {ip for _, ip in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, listening
    address = ray.get_runtime_context().gcs_address
    stranger = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    code = "import ray; ray.init(address=%r); print('inside')" % address
    try:
        found = subprocess.run(
            [sys.executable, "-c", code], env=stranger, capture_output=True, text=True, timeout=8
        ).stdout
    except subprocess.TimeoutExpired as error:
        found = (error.stdout or b"").decode()
    assert "inside" not in found
print("private")
"""


def test_our_own_ray_is_private(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ended.stdout == "private\n", ended.stderr
    assert not (tmp_path / ".ray").exists()
