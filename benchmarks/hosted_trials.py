"""Trials by the thousand on one machine: the driver is the real one, its workers are objects of a single process.

Ray Tune starts an actor for each trial that runs; a thousand processes do not fit on a small machine. Under `hosted` it
starts objects inside one actor instead, which wait where real workers compute. All that the driver does stays the same:
placement groups, futures, callbacks, the ledger, the journal.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.air.execution.resources.placement_group import PlacementGroupAcquiredResources, PlacementGroupResourceManager

LAGS_FILE = "SCALE_LAGS"  # names the file with a line for each report: how many seconds its worker waited after it
SECONDS = "SCALE_EPOCH_SECONDS"  # how long an epoch takes on average


class _Host:
    """Many workers in one process. An epoch takes the average time, more or less by a half."""

    def __init__(self, seconds: float, lags: str) -> None:
        self.seconds, self.lags = seconds, os.open(lags, os.O_WRONLY | os.O_APPEND)
        self.workers: dict[int, Any] = {}
        self.idle_since: dict[int, float] = {}

    async def call(self, worker: int, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if method == "__init__":
            cls, settings = args
            self.workers[worker] = cls(**settings)
        elif method == "train":
            if since := self.idle_since.pop(worker, None):
                os.write(self.lags, f"{time.monotonic() - since:.4f}\n".encode())
            await asyncio.sleep(self.seconds * random.uniform(0.5, 1.5))
            result = self.workers[worker].train()
            self.idle_since[worker] = time.monotonic()
            return result
        elif method == "__ray_terminate__":
            self.workers.pop(worker, None)
        elif not method.startswith("__"):
            return getattr(self.workers[worker], method)(*args, **kwargs)
        return None


class _Handle:
    """What the driver takes for an actor."""

    def __init__(self, host: Any, worker: int) -> None:
        self._host, self._worker = host, worker

    def __getattr__(self, method: str) -> _Method:
        return _Method(self._host, self._worker, method)


class _Method:
    def __init__(self, host: Any, worker: int, method: str) -> None:
        self._host, self._worker, self._method = host, worker, method

    def options(self, **_: Any) -> _Method:
        return self

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        return self._host.call.remote(self._worker, self._method, args, kwargs)


class _HostedClass:
    """What the driver takes for an actor class."""

    def __init__(self, host: Any, cls: type) -> None:
        self._host, self._cls = host, cls
        self._started = 0

    def remote(self, **settings: Any) -> _Handle:
        self._started += 1
        handle = _Handle(self._host, self._started)
        handle.__getattr__("__init__").remote(self._cls, settings)
        return handle


@contextmanager
def hosted(concurrent: int) -> Iterator[None]:
    """Within the block Ray Tune's actors are objects of one host, which starts with the first of them."""
    classes: dict[type, _HostedClass] = {}

    class HostedResources(PlacementGroupAcquiredResources):
        """A placement group whose actors run elsewhere."""

        def annotate_remote_entities(self, entities: list[Any]) -> list[Any]:
            (entity,) = entities
            cls = entity.__ray_metadata__.modified_class
            if cls not in classes:
                host = ray.remote(num_cpus=0, max_concurrency=2 * concurrent + 10)(_Host)
                classes[cls] = _HostedClass(host.remote(float(os.environ[SECONDS]), os.environ[LAGS_FILE]), cls)
            return [classes[cls]]

    PlacementGroupResourceManager._resource_cls = HostedResources
    try:
        yield
    finally:
        PlacementGroupResourceManager._resource_cls = PlacementGroupAcquiredResources
