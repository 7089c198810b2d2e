"""What this machine has for this process: CPUs and memory, of a container no more than its share."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Memory:
    """Bytes in use, without what the kernel gives back when asked, and how many there are."""

    used: int
    limit: int

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.used / self.limit


def cpu_count() -> int:
    """How many CPUs this process may use: its affinity (Linux) and the quotas of its control groups, at least one."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    there = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, math.floor(min([float(there), *_quotas()])))


def memory() -> Memory:
    """The memory of the machine, or of the control group whose limit is nearest."""
    machine = psutil.virtual_memory()
    return max([Memory(machine.total - machine.available, machine.total), *_limits()], key=lambda each: each.share)


def memory_limit() -> int:
    """The bytes of memory that this process, and what it starts, may use."""
    return min([int(psutil.virtual_memory().total), *(each.limit for each in _limits())])


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for their memory: in our control groups, else on this machine."""
    for folder in (*_folders("memory"), *_folders("")):
        for name in ("memory.events", "memory.oom_control"):
            if (count := _of_lines(folder / name, "oom_kill")) is not None:
                return count
    return _of_lines(Path("/proc/vmstat"), "oom_kill") or 0


def _quotas() -> Iterator[float]:
    for folder in _folders(""):
        quota, _, period = (_read(folder / "cpu.max") or "max 0").partition(" ")
        if quota != "max" and float(period) > 0:
            yield float(quota) / float(period)
    for folder in _folders("cpu"):
        quota, period = (_read(folder / f"cpu.cfs_{name}_us") or "-1" for name in ("quota", "period"))
        if float(quota) > 0 and float(period) > 0:
            yield float(quota) / float(period)


def _limits() -> Iterator[Memory]:
    total = int(psutil.virtual_memory().total)
    for folder in _folders(""):
        yield from _limit(folder, "memory.max", "memory.current", "", total)
    for folder in _folders("memory"):
        yield from _limit(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_", total)


def _limit(folder: Path, limit: str, used: str, prefix: str, total: int) -> Iterator[Memory]:
    most, now = _read(folder / limit), _read(folder / used)
    if most is None or now is None or most == "max" or not 0 < int(most) < total:
        return
    cached = sum(_of_lines(folder / "memory.stat", f"{prefix}{kind}_file") or 0 for kind in ("inactive", "active"))
    yield Memory(max(0, int(now) - cached), int(most))


def _folders(controller: str) -> Iterator[Path]:
    """Folders of this process's control groups, the innermost first: of version 1 by controller, of version 2 by "".

    In a container the own path may be that of the host, of which only the root is there.
    """
    for line in (_read(OWN_CGROUPS) or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller not in controllers.split(",") or (number == "0") != (controller == ""):
            continue
        for root in (CGROUPS / controllers, CGROUPS / controller) if controller else (CGROUPS, CGROUPS / "unified"):
            inside = root / path.lstrip("/")
            found = [inside, *inside.parents]
            yield from (each for each in found[: found.index(root) + 1] if each.is_dir())


def _of_lines(path: Path, name: str) -> int | None:
    """The number beside a name in a file with a name and a number in each line."""
    pairs = (line.split() for line in (_read(path) or "").splitlines())
    return next((int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] == name), None)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
