"""Faults that trials meet on their workers, where Python finds this file at its start.

`AUTOML_TEST_FAULTS` is JSON: trial number to fault, or `start` to what is wrong with every worker. Real code is wrapped
as it is imported, nothing is replaced.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import os
import re
import signal
import sys
import threading
import time
from typing import Any

FAULTS = json.loads(os.environ.get("AUTOML_TEST_FAULTS", "{}"))


class UnpicklableError(Exception):
    def __init__(self) -> None:
        super().__init__("it holds a lock")
        self.lock = threading.Lock()


class UnshowableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no message")


def before(fault: str, training: Any) -> None:
    """Faults in the midst of training."""
    import torch

    def too_large(rows: int) -> None:
        def hook(module: Any, inputs: Any) -> None:
            if len(inputs[0]) > rows and module.training:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has ...")

        training.module.register_forward_pre_hook(hook)

    if fault == "error":
        raise KeyError("first line\nsecond line")
    if fault == "long message":
        raise RuntimeError("x" * 10_000_000)
    if fault == "unpicklable":
        raise UnpicklableError
    if fault == "unshowable":
        raise UnshowableError
    if fault == "exit":
        sys.exit(3)
    if fault == "python memory":
        bytearray(1 << 60)
    if fault == "tensor memory":
        torch.empty(1 << 50)
    if fault == "gpu memory once":
        too_large(16)
    if fault == "gpu memory twice":
        too_large(8)
    if fault == "nan":
        with torch.no_grad():
            next(training.module.parameters()).fill_(float("nan"))
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "sleep":
        time.sleep(1000)
    if fault == "busy":
        re.match(r"(a+)+$", "a" * 64 + "b")  # a loop in C that holds the interpreter lock for ages


def after(fault: str, line: dict[str, Any]) -> None:
    """Faults of what training gives."""
    if fault == "metric none":
        line["accuracy"] = None
    if fault == "metric missing":
        del line["accuracy"]


def install(module: Any) -> None:
    real = module.train_epoch

    def faulty(training: Any, *arguments: Any) -> Any:
        fault = FAULTS.get(str(training.seed % 1_000_003))
        if training.epoch == 0:
            before(fault, training)
        line = real(training, *arguments)
        if line is not None:
            after(fault, line)
        return line

    module.train_epoch = faulty


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "automl.training.fit":
            return None
        if "start" in FAULTS and sys.argv[0].endswith("default_worker.py"):
            raise ImportError(FAULTS["start"])
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        load = spec.loader.exec_module

        def load_and_install(module: Any) -> None:
            load(module)
            install(module)

        spec.loader.exec_module = load_and_install  # type: ignore[method-assign]
        return spec


if FAULTS:
    sys.meta_path.insert(0, Finder())
