"""A search on a cluster whose CPUs others hold: it waits, says so, uses nothing of its budget, and goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from automl.cluster.client import connect
from tests.cluster.conftest import Up
from tests.cluster.test_service import status_of, until
from tests.conftest import write_space

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.xdist_group("cluster")]


def hold(cluster: Up, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two jobs of others that have the cluster's CPUs; gives what ends them."""
    for name in ("RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, cluster.environment.get(name, "token"))
    assert os.environ["RAY_AUTH_TOKEN_PATH"]
    client = connect(cluster.address)
    jobs = [client.submit_job(entrypoint="sleep 1000", entrypoint_num_cpus=1) for _ in range(2)]
    until(lambda: all(client.get_job_status(job).value == "RUNNING" for job in jobs))
    return lambda: [client.stop_job(job) for job in jobs]


def test_a_search_waits_for_what_others_hold(
    cluster: Up, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = write_space(tmp_path / "space.yaml", small_data, trials=3, epochs=2)
    let_go = hold(cluster, monkeypatch)
    budget = ["--time-budget", "30m"]
    late = cluster.automl("submit", space, "--name", "late", *budget, cwd=tmp_path).strip()
    never = cluster.automl("submit", space, "--name", "never", "--set", "resources.wait=5s", cwd=tmp_path).strip()
    until(lambda: status_of(cluster, late, tmp_path)["state"] == "waiting")
    found = status_of(cluster, late, tmp_path)
    assert found["reason"] == "2 CPUs; the cluster's 2 are in use"
    assert (found["trials"]["running"], found["trials"]["waiting"]) == (0, 2)
    assert found["used"] == {"seconds": 0.0, "gpu_hours": 0.0}
    states = {each["name"]: each["state"] for each in json.loads(cluster.automl("jobs", "--json", cwd=tmp_path))}
    assert states[late] == "waiting"
    until(lambda: status_of(cluster, never, tmp_path)["state"] == "interrupted")
    ended = status_of(cluster, never, tmp_path)
    assert ended["reason"].startswith("no trial could run within the 5s of resources.wait (it waited for 2 CPUs; ")
    assert ended["trials"]["unfinished"] == 2
    let_go()
    until(lambda: status_of(cluster, late, tmp_path)["state"] == "finished", 200)
    log = cluster.automl("logs", late, cwd=tmp_path)
    lines = [line for line in log.splitlines() if " trials | " in line]
    assert any("0 running, 2 waiting" in line and "waiting for 2 CPUs; the cluster's 2" in line for line in lines)
    assert all(line.startswith("0s of 30m") for line in lines if "2 waiting" in line)
    assert "3 of 3" in cluster.automl("status", late, cwd=tmp_path)
    assert 0 < status_of(cluster, late, tmp_path)["used"]["seconds"] < 1800
