"""cluster.yaml is what Ray takes, and what docs/cluster.md promises of it."""

from __future__ import annotations

import copy
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

from automl.search.growth import greatest_resources

PATH = Path(__file__).parents[2] / "cluster.yaml"


@pytest.fixture
def content() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(PATH.read_text())
    return found


def workers(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: each for name, each in content["available_node_types"].items() if name != content["head_node_type"]}


def test_ray_takes_it(content: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(content))
    validate_config(prepared)
    assert prepared["provider"]["type"] == "aws"
    read = AutoscalingConfig(prepared, skip_content_hash=True)
    types = read.get_node_type_configs()
    assert types["gpu_spot"].priority > types["gpu_on_demand"].priority
    assert read.get_max_num_worker_nodes() == content["max_workers"]


def test_a_mistake_in_it_would_be_found(content: dict[str, Any]) -> None:
    content["available_node_types"]["gpu_spot"]["resource"] = {"GPU": 1}
    with pytest.raises(Exception, match="resource"):
        validate_config(prepare_config(content))


def test_the_head_runs_no_trials_and_workers_come_from_nothing(content: dict[str, Any]) -> None:
    head = content["available_node_types"][content["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert any("--num-cpus=0 --num-gpus=0" in command for command in content["head_start_ray_commands"])
    assert all(each["min_workers"] == 0 for each in workers(content).values())


def test_every_spot_group_has_an_on_demand_twin(content: dict[str, Any]) -> None:
    groups = workers(content)
    assert sum(name.endswith("_spot") for name in groups) == 2
    for name, spot in groups.items():
        if name.endswith("_spot"):
            twin = groups[name.replace("_spot", "_on_demand")]
            assert spot["resources"] == twin["resources"] and spot["priority"] > twin["priority"]
            market = spot["node_config"].pop("InstanceMarketOptions")
            assert market == {"MarketType": "spot"}
            assert spot["node_config"] == twin["node_config"]


def test_nothing_is_open_and_everything_wants_the_token(content: dict[str, Any], tmp_path: Path) -> None:
    assert "security_group" not in content["provider"]  # Ray's own opens port 22 only
    commands = content["head_start_ray_commands"] + content["worker_start_ray_commands"]
    starts = [each for each in commands if "ray start" in each]
    assert len(starts) == 2 and all(each.startswith(". ~/automl-environment && ") for each in starts)
    (environment,) = (each for each in content["setup_commands"] if each.startswith("printf"))
    shell = f"set -e; ({environment}); . ~/automl-environment; echo $RAY_AUTH_MODE ${{PATH%%:*}} $AUTOML_RUNS"
    said = subprocess.run(
        ["bash", "-c", shell], env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["token", f"{tmp_path}/venv/bin", "s3://EDIT-your-bucket/runs"]
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert content["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in content["setup_commands"][0]


def test_it_installs_what_constraints_say(content: dict[str, Any]) -> None:
    installs = [each for each in content["setup_commands"] if "pip install" in each]
    assert len(installs) == 1 and "-c ~/automl/constraints.txt" in installs[0]
    assert content["file_mounts"]["~/automl"] == "." and (PATH.parent / "constraints.txt").is_file()


def test_a_search_asks_for_as_much_as_it_may_grow_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_CLUSTER_CONFIG", str(PATH))
    assert greatest_resources()["GPU"] == 20
