"""Trials that several workers train together: Ray Train starts the workers, which run the code of every other trial.

Imported only where trials have several workers: Ray Train costs seconds a trial.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from automl.search.reasons import result_of
from automl.search.trial import Assignment, RunningTrial, begin, hold_folder, let_go, set_threads
from automl.search.watchdog import stall_of, stall_reason, watch
from automl.training.run_directory import TrialDirectory
from automl.training.shard import Shard

# Ray Train asks its workers so often how they are; its 2 s would be added to the end of every trial.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")

import ray.train.torch

from automl.search.loopback_workers import PrivateTorchConfig

HEAD_RESOURCE = "node:__internal_head__"
POLL_SECONDS = 0.5
CLOSE_SECONDS = 60.0  # for workers to end after a trial


def data_parallel_trial() -> Any:
    """What Ray Tune runs; it takes no CPU itself, for Ray Train reserves what the workers have."""
    return tune.with_resources(DataParallelTrial, tune.PlacementGroupFactory([{"CPU": 0, HEAD_RESOURCE: 0.001}]))


class DataParallelTrial(tune.Trainable):  # type: ignore[misc]
    """Like `TrialWorker`, but the work is done by workers that Ray Train starts for each trial.

    They train an epoch for each `step` and none ahead of the decision whether the trial goes on. Told that it does not,
    they end by themselves, and Ray Train gives back what it had reserved; killed in the midst of a run it would not.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first trial."""
        self.run: _Run | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial; its workers start with the first `step`."""
        self.cleanup()
        self.assignment = Assignment(**json.loads(new_config["assignment"]))
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch; gives its metrics line, or `error`, `interrupted`, or `disk_full`.

        Raises RuntimeError where a worker was lost.
        """
        if self.run is None:
            self.run = _Run(self.assignment, False, self._storage.trial_fs_path)
        result = self.run.next_result()
        if "halve" in result:
            self.run.close()
            self.run = _Run(self.assignment, True, self._storage.trial_fs_path)
            result = self.run.next_result()
        if "epoch" in result:
            self.assignment = replace(self.assignment, epochs_known=int(result["epoch"]))
        return result

    def cleanup(self) -> None:
        """End the workers."""
        if self.run is not None:
            self.run.close()
            self.run = None


def torch_trainer(
    loop: Callable[[dict[str, Any]], None], assignment: Assignment, scratch: str, **config: Any
) -> ray.train.torch.TorchTrainer:
    """Workers that each call `loop` with `config` and the assignment as JSON.

    `scratch` is a folder that Ray Train wants; nothing of a trial is in it.
    """
    return ray.train.torch.TorchTrainer(
        loop,
        train_loop_config={"assignment": json.dumps(asdict(assignment)), **config},
        torch_config=PrivateTorchConfig(),
        scaling_config=ray.train.ScalingConfig(
            num_workers=assignment.workers,
            use_gpu=assignment.worker_resources["GPU"] > 0,
            resources_per_worker=assignment.worker_resources,
        ),
        run_config=ray.train.RunConfig(name="workers", storage_path=scratch),
    )


def worker_device(assignment: Assignment) -> torch.device:
    """The GPU that Ray Train has given this worker, or the CPU where it was given none."""
    return ray.train.torch.get_device() if assignment.worker_resources["GPU"] > 0 else torch.device("cpu")


class _Run:
    """Workers of one trial, from their start to their end."""

    def __init__(self, assignment: Assignment, halved: bool, scratch: str) -> None:
        self.assignment = assignment
        self.stop_file = assignment.stop_file()
        self.scratch = scratch
        self.exchange = ray.remote(num_cpus=0)(_Exchange).remote()
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._fit, args=(halved,), daemon=True)
        self.thread.start()

    def _fit(self, halved: bool) -> None:
        try:
            torch_trainer(_train, self.assignment, self.scratch, exchange=self.exchange, halved=halved).fit()
        except BaseException as error:
            self.failure = error

    def next_result(self) -> dict[str, Any]:
        """Let the workers train an epoch and wait for its result."""
        self.exchange.permit.remote(True)
        result = self.exchange.result.remote()
        while True:
            alive = self.thread.is_alive()
            ready, _ = ray.wait([result], timeout=POLL_SECONDS)
            if ready:
                found: dict[str, Any] = ray.get(result)
                return found
            if not alive:
                return self._lost()
            if self._idle() and self.stop_file.is_set():
                return {"interrupted": True}

    def _idle(self) -> bool:
        """Whether no worker has started yet."""
        return not ray.get(self.exchange.started.remote())

    def _lost(self) -> dict[str, Any]:
        folder = self.assignment.directory()
        reasons = [stall_of(folder, _stalled(folder, rank)) for rank in range(self.assignment.workers)]
        # Those that wait for the one that is stuck are stuck in the middle of PyTorch's communication.
        stuck = sorted((reason for reason in reasons if reason), key=lambda reason: "torch/distributed" in reason)
        if stuck:
            return {"error": stuck[0]}
        raise RuntimeError("a worker process of the trial ended unexpectedly") from self.failure

    def close(self) -> None:
        """Tell the workers to end and wait for it."""
        self.exchange.permit.remote(False)
        self.thread.join(CLOSE_SECONDS)
        if self.thread.is_alive():
            return
        ray.kill(self.exchange)
        folder = self.assignment.directory()
        folder.remove(folder.reserved)
        for rank in range(self.assignment.workers):
            if stall_reason(_stalled(folder, rank)) is None:
                _stalled(folder, rank).unlink(missing_ok=True)


class _Exchange:
    """What passes between a trial and its first worker: permission for an epoch, and its result."""

    def __init__(self) -> None:
        self._permits: asyncio.Queue[bool] = asyncio.Queue()
        self._results: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._started = False

    async def permit(self, go_on: bool) -> None:
        await self._permits.put(go_on)

    async def permitted(self) -> bool:
        self._started = True
        return await self._permits.get()

    async def report(self, result: dict[str, Any]) -> None:
        await self._results.put(result)

    async def result(self) -> dict[str, Any]:
        return await self._results.get()

    async def started(self) -> bool:
        return self._started


def _train(config: dict[str, Any]) -> None:
    """What each worker does."""
    assignment = Assignment(**json.loads(config["assignment"]))
    exchange, halved = config["exchange"], config["halved"]
    context = ray.train.get_context()
    shard = Shard(context.get_world_rank(), context.get_world_size())
    device = worker_device(assignment)
    set_threads(assignment.threads)
    folder = assignment.directory()
    stalled = _stalled(folder, shard.rank)
    trial: RunningTrial | None = None
    lock = hold_folder(assignment)
    try:
        if shard.rank == 0:
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.reserved.write_text(ray.util.get_current_placement_group().id.hex(), encoding="utf-8")
            folder.publish(folder.reserved)
        while shard.any(shard.rank == 0 and ray.get(exchange.permitted.remote()), device):
            with watch(stalled, assignment.stall_timeout, folder.publish if folder.url else None) as alive:
                if trial is None:
                    trial = begin(assignment, device=device, alive=alive, shard=shard, halved=halved)
                trial.alive = alive
                result = trial.next_epoch()
            if shard.rank == 0:
                ray.get(exchange.report.remote(result))
    except (Exception, SystemExit) as error:
        if isinstance(error, torch.OutOfMemoryError) and (trial is None or not trial.training.halved):
            result = {"halve": True}
        else:
            result = result_of(error, assignment.folder, halved=halved)
        ray.get(exchange.report.remote(result))
        # The first report counts; what others raise because this one ends comes later.
        raise RuntimeError("a trial ended with an error") from None
    finally:
        let_go(assignment, lock)


def _stalled(folder: TrialDirectory, rank: int) -> Path:
    return folder.stalled if rank == 0 else folder.stalled.with_name(f"stalled-{rank}.txt")
