"""Trials of two workers: the numbers of one worker, stopped like any other, and nothing stays reserved behind them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group_table

import automl
from automl.search import engine
from automl.search.resources import Capacity, check_request
from automl.space import UserError
from automl.training.run_directory import RunDirectory
from automl.verbs import load_space
from tests.conftest import write_space

OVERRIDES = [
    "model={cnn: {embedding: 8, channels: 8, kernel_sizes: [1, 2], dropout: 0, token_dropout: 0}}",
    "search.early_stopping={asha: {max_epochs: 3, grace_period: 1, reduction_factor: 2}}",
    "resources.max_concurrent=1",
    "training.precision=float32",
]


def lines_of(run: RunDirectory, number: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.trial(number).metrics.read_text().splitlines()]


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_do_what_one_does_and_leave_nothing_reserved(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = write_space(tmp_path / "space.yaml", small_data, trials=2)
    alone = automl.run(space, output=tmp_path / "alone", overrides=OVERRIDES, quiet=True)
    real, after = engine.ray_session, {}

    @contextmanager
    def watched(*arguments: Any) -> Iterator[Capacity]:
        with real(*arguments) as capacity:
            yield capacity
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                after["groups"] = [group["state"] for group in placement_group_table().values()]
                after["free"], after["all"] = ray.available_resources().get("CPU"), ray.cluster_resources()["CPU"]
                if set(after["groups"]) == {"REMOVED"} and after["free"] == after["all"]:
                    break
                time.sleep(0.5)

    monkeypatch.setattr(engine, "ray_session", watched)
    together = automl.run(
        space,
        output=tmp_path / "together",
        overrides=[*OVERRIDES, "resources.per_trial={workers: 2, cpus: 1}"],
        quiet=True,
    )
    assert (alone.status, together.status) == ("finished", "finished")
    assert len(after["groups"]) >= 2 and set(after["groups"]) == {"REMOVED"}
    assert after["free"] == after["all"]
    rows = [{row["trial"]: row for row in automl.leaderboard(result.path)} for result in (alone, together)]
    assert {row["status"] for row in rows[0].values()} == {"completed", "stopped", "floor"}
    for number in range(2):
        one, two = (found[number] for found in rows)
        assert (one["status"], one["epochs"], one["parameters"]) == (two["status"], two["epochs"], two["parameters"])
        assert two["config"] == one["config"] and two["train_seconds"] > 0
        expected, found = (lines_of(RunDirectory(result.path), number) for result in (alone, together))
        for line, other in zip(found, expected, strict=True):
            assert set(line) == set(other) and line["rows"] == other["rows"]
            assert line["loss"] == pytest.approx(other["loss"], abs=2e-3)
            assert line["train_loss"] == pytest.approx(other["train_loss"], abs=2e-3)
        names = {path.name for path in RunDirectory(together.path).trial(number).path.iterdir()}
        assert names - {"model.safetensors"} == {"config.json", "metrics.jsonl", "validation.safetensors"}


def test_what_several_workers_ask_for_is_counted(small_space: Path) -> None:
    spec = load_space(small_space, ["resources.per_trial={workers: 3, cpus: 2}"])
    assert check_request(spec, Capacity(cpus=13, gpus=0)).concurrent == 2
    each_a_gpu = load_space(small_space, ["resources.per_trial={workers: 2, cpus: 1, gpus: 1}"])
    assert check_request(each_a_gpu, Capacity(cpus=64, gpus=5)).concurrent == 2
    with pytest.raises(UserError, match=r"per_trial.cpus asks for 6 for 3 workers, but there are 4"):
        check_request(spec, Capacity(cpus=4, gpus=0))
    with pytest.raises(UserError, match="each of several workers has one GPU or none"):
        load_space(small_space, ["resources.per_trial={workers: 2, gpus: 0.5}"])


def test_single_workers_do_not_pay_for_it() -> None:
    code = "import sys, automl.search.engine; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "automl.search.trainable" in loaded
    assert not {"automl.search.data_parallel", "ray.train.torch"} & set(loaded)


@pytest.mark.ray
def test_workers_of_a_trial_listen_on_loopback_alone(tmp_path: Path) -> None:
    """PyTorch's store, which wants no token, listens on all interfaces by itself."""
    import ray.train.torch

    from automl.search.loopback_workers import PrivateTorchConfig

    def listen(config: dict[str, Any]) -> None:
        import psutil
        import torch.distributed

        total = torch.ones(1)
        torch.distributed.all_reduce(total)
        rank = torch.distributed.get_rank()
        found = [each.laddr.ip for each in psutil.Process().net_connections() if each.status == psutil.CONN_LISTEN]
        Path(config["folder"], f"{rank}.json").write_text(json.dumps({"total": total.item(), "listens": found}))

    with engine.ray_session(None):
        ray.train.torch.TorchTrainer(
            listen,
            train_loop_config={"folder": str(tmp_path)},
            torch_config=PrivateTorchConfig(),
            scaling_config=ray.train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}),
            run_config=ray.train.RunConfig(name="workers", storage_path=str(tmp_path / "ray")),
        ).fit()
    for rank in range(2):
        said = json.loads((tmp_path / f"{rank}.json").read_text())
        assert said["total"] == 2.0 and said["listens"]
        assert {address.removeprefix("::ffff:") for address in said["listens"]} == {"127.0.0.1"}
