"""A Ray to run on: one of our own, started and stopped here, or a cluster that is named; never one found by chance."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TypeVar

import ray
from ray import PlacementGroupID
from ray.util.placement_group import PlacementGroup, remove_placement_group

from automl.search.growth import greatest_resources
from automl.search.lost_nodes import Losses, RayOutput
from automl.search.own_ray import enter_privacy, leave_privacy
from automl.search.resources import Capacity, local_capacity
from automl.space import UserError
from automl.space.spinner import waiting
from automl.training.run_directory import TrialDirectory

T = TypeVar("T")

STARTS = 2  # of our own Ray, before it is given up
OBJECT_STORE_BYTES = 256 * 1024 * 1024  # trials read data from disk, so little passes through the store
GLANCE_SECONDS = 0.3

# A process that was given no GPU sees none; by itself Ray (2.60) then lets it see all.
HIDE_GPUS = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}

# Read when Ray and Tune start. Trials are in the journal and in their folders, so none of Tune's own files are wanted;
# the memory monitor would end a whole experiment instead of one trial.
_ENVIRONMENT = {
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_DEDUP_LOGS": "0",
    **HIDE_GPUS,
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

PENDING = "TUNE_MAX_PENDING_TRIALS_PG"  # is set for each run of Ray Tune
LOGGERS = ("ray", "ray.tune", "ray.train", "ray.data")

_begun = threading.Event()  # set once `ray_beside` has started Ray, or has failed to
_ahead = False  # whether `ray_beside` has started a Ray that no session has taken over


class LostNodeError(RuntimeError):
    """The node that the driver runs on is gone from its Ray cluster: nothing can be started or heard of any more."""


def node_check(every_seconds: float = 5.0, losses: Losses | None = None) -> Callable[[], None]:
    """A function to be called often, which raises LostNodeError once this process's node is dead.

    Without it a driver whose raylet was killed waits for ever for results. Of other nodes that are lost `losses` hears.
    """
    here = ray.get_runtime_context().get_node_id()
    looked = time.monotonic()
    if losses is not None:
        losses.look(ray.nodes())

    def check() -> None:
        nonlocal looked
        if time.monotonic() - looked >= every_seconds:
            looked = time.monotonic()
            nodes = ray.nodes()
            if not any(node["Alive"] for node in nodes if node["NodeID"] == here):
                raise LostNodeError("this machine's Ray node is dead")
            if losses is not None:
                losses.look(nodes)

    return check


def release_workers(folder: TrialDirectory) -> None:
    """Give back what the workers of a trial have reserved whose own process died before it could do so.

    Ray Train's own way needs Ray's dashboard, and that no other Ray runs on the machine (Ray 2.60).
    """
    folder.fetch(folder.reserved)
    if folder.reserved.exists():
        group = PlacementGroupID(bytes.fromhex(folder.reserved.read_text(encoding="utf-8")))
        remove_placement_group(PlacementGroup(group))
        folder.remove(folder.reserved)


def require_no_ray() -> None:
    """Raise UserError where the program is connected to a Ray already, whose actors and objects would be lost.

    A process has one Ray at a time, and a search starts and stops its own.
    """
    if ray.is_initialized() and not _ahead:
        raise UserError(
            "this program has called ray.init, and a search starts and stops a Ray of its own: call ray.shutdown() "
            "first, or run the search in another process, as `automl run` does"
        )


@contextmanager
def _ours() -> Iterator[None]:
    """Nothing of what is set for a Ray of ours stays behind: variables of the environment, levels of loggers."""
    environment = {name: os.environ.get(name) for name in (*_ENVIRONMENT, PENDING)}
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    try:
        yield
    finally:
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def ray_beside(work: Callable[[], T], address: str | None) -> Iterator[T]:
    """What `work` gives, with Ray started meanwhile for the `ray_session` to come; stopped at the end of the block.

    Ray takes seconds to start and mostly waits; what is wrong with small data is known before. `work` runs in a
    thread: Ray's processes end with the thread that started them.
    """
    global _ahead
    require_no_ray()
    _begun.clear()
    result: Future[T] = Future()

    def compute() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=compute, daemon=True, name="beside Ray").start()
    with _ours():
        try:
            with suppress(TimeoutError):
                result.result(timeout=GLANCE_SECONDS)
            doing = "starting Ray" if address is None else "joining the Ray cluster"
            with redirect_stdout(sys.stderr), waiting(doing):
                _start(address)
            _ahead = True
            _begun.set()
            yield result.result()
        finally:
            _ahead = False
            _stop()
            _begun.set()


def nodes_that_work() -> int:
    """How many nodes with a CPU the Ray has that `ray_beside` starts; asked by its `work`, which waits for it here."""
    _begun.wait()
    if not ray.is_initialized() or ray.util.client.ray.is_connected():
        return 0
    return sum(node["Alive"] and node["Resources"].get("CPU", 0) >= 1 for node in ray.nodes())


@contextmanager
def ray_session(address: str | None, losses: Losses | None = None) -> Iterator[Capacity]:
    """Ray for the time of the block: a local one of our own, stopped at its end, or the cluster at `address`.

    Of nodes that Ray says are gone `losses` hears. Raises UserError where the cluster cannot be reached.
    """
    global _ahead
    require_no_ray()
    output = RayOutput(sys.stderr, losses)
    with _ours(), redirect_stdout(output):  # Ray prints some faults; results alone go to stdout
        if not _ahead:
            _start(address)
        _ahead = False
        # What Ray logs of a trial's fault is in the journal, in words for people; what ends the search is raised.
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            there = ray.cluster_resources() if address is None else _with_growth(ray.cluster_resources())
            known = ("CPU", "GPU", "memory", "object_store_memory")
            other = {
                name: amount for name, amount in there.items() if name not in known and not name.startswith("node:")
            }
            yield Capacity(cpus=there.get("CPU", 0.0), gpus=there.get("GPU", 0.0), other=other)
        finally:
            _stop()
            if losses is not None:
                losses.end()


def _stop() -> None:
    # A reference to one of Ray's objects that is freed while Ray shuts down ends the process (Ray 2.60), and any thread
    # may be the one that collects garbage.
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if collecting:
            gc.enable()
    leave_privacy()


def _with_growth(there: Mapping[str, float]) -> dict[str, float]:
    """The resources of a cluster, counting nodes that its autoscaler may still start.

    Ray Tune asks for all that a search has a use for, so that the autoscaler hears of it.
    """
    most = greatest_resources()
    return {name: max(there.get(name, 0.0), most.get(name, 0.0)) for name in {*there, *most}}


def _start(address: str | None) -> None:
    """Start Ray; once more where a process of our own one dies while it starts. Raises UserError where it cannot be."""
    os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
    for start in range(1, STARTS + 1):
        try:
            _init(address)
            return
        except UserError:
            raise
        except Exception as error:  # which is what Ray raises where its own node does not come up
            _stop()
            if address is not None or start == STARTS:
                where = "a local Ray" if address is None else f"the Ray cluster at {address}"
                reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise UserError(f"cannot start on {where}: {reason}") from error


def _init(address: str | None) -> None:
    if address is not None:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": HIDE_GPUS})
        return
    here = local_capacity()
    enter_privacy()
    ray.init(
        address="local",
        num_cpus=int(here.cpus),
        num_gpus=int(here.gpus),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
    )
