"""A cluster without workers: the autoscaler starts nodes for a search, and lets them go after it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import ray
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

from automl.training.run_directory import RunDirectory
from tests.conftest import write_space
from tests.search.conftest import ended

pytestmark = [pytest.mark.ray, pytest.mark.slow]

HEAD = "ray.head.default"  # Ray's autoscaler knows no other name
IDLE_MINUTES = 0.1


def raylets(process: subprocess.Popen[bytes]) -> int:
    return sum(each.name() == "raylet" for each in psutil.Process(process.pid).children(recursive=True))


def test_nodes_come_for_a_search_and_go_after_it(slow_data: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    address = f"{ray.util.get_node_ip_address()}:{port}"
    types = {
        HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
    }
    provider = {
        "type": "external",  # a node is a process here
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "disable_launch_config_check": True,
        "disable_node_updaters": True,
        "foreground_node_launch": True,
        "launch_multiple": True,
        "head_node_id": FAKE_HEAD_NODE_ID,
        "gcs_address": address,
    }
    commands = ["initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray"]
    config = {
        "cluster_name": "elastic",
        "max_workers": 2,
        "idle_timeout_minutes": IDLE_MINUTES,
        "upscaling_speed": 1.0,
        "provider": provider,
        "available_node_types": types,
        "head_node_type": HEAD,
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{f"{name}_commands": [] for name in commands},
        "cluster_synced_files": [],
    }
    (tmp_path / "cluster.json").write_text(json.dumps(config))
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "e" * 64,
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
    }

    options = ["--head", "--block", f"--port={port}", "--num-cpus=0", "--num-gpus=0", "--include-dashboard=false"]
    options += [f"--autoscaling-config={tmp_path / 'cluster.json'}", "--disable-usage-stats"]
    with (tmp_path / "head.log").open("wb") as log:
        cluster = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *options], env=environment, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while f":{port}" not in (tmp_path / "head.log").read_text() or raylets(cluster) < 1:
            assert cluster.poll() is None and time.monotonic() < deadline, (tmp_path / "head.log").read_text()
            time.sleep(0.5)
        time.sleep(3)
        assert raylets(cluster) == 1
        space = write_space(tmp_path / "space.yaml", slow_data, trials=8, epochs=4)
        search = subprocess.run(
            [sys.executable, "-m", "automl", "run", space, "--output", tmp_path / "run", "--address", address],
            env={**environment, "AUTOML_CLUSTER_CONFIG": str(tmp_path / "cluster.json")},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert search.returncode == 0, search.stderr
        run = RunDirectory(tmp_path / "run")
        assert len(ended(run)) == 8
        lines = [line for _, trial in run.trials() for line in trial.metrics.read_text().splitlines()]
        assert len({json.loads(line)["worker"] for line in lines}) == 2
        deadline = time.monotonic() + 60
        while raylets(cluster) > 1:
            assert time.monotonic() < deadline, "idle nodes stay"
            time.sleep(1)
    finally:
        started = psutil.Process(cluster.pid).children(recursive=True)
        cluster.terminate()
        cluster.wait(timeout=60)
        for each in psutil.wait_procs(started, timeout=10)[1]:
            each.kill()
