"""CPUs and memory as this process may use them: affinity, quotas of containers of either kind, none at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from automl.data import machine
from automl.data.machine import cpu_count, memory, memory_limit, out_of_memory_kills
from automl.data.workers import MANY_ROWS, workers
from automl.search.resources import local_capacity

GROUPS = {
    "version 2, in a container": ("0::/", {"cpu.max": "150000 100000"}),
    "version 2, a group of its own": ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}),
    "version 1": (
        "4:cpu,cpuacct:/a",
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "150000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
    ),
    "version 1, the path is the host's": (
        "4:cpu,cpuacct:/docker/123\n0::/",
        {"cpu,cpuacct/cpu.cfs_quota_us": "150000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
    ),
}
UNLIMITED = {
    "no groups": ("", {}),
    "version 2": ("0::/", {"cpu.max": "max 100000", "memory.max": "max", "memory.current": "5"}),
    "version 1": (
        "1:cpu:/\n2:memory:/",
        {
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": str(2**63 - 4096),
            "memory/memory.usage_in_bytes": "5",
        },
    ),
}


def lay_out(folder: Path, own: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "own").write_text(own + "\n")
    for name, content in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    monkeypatch.setattr(machine, "OWN_CGROUPS", folder / "own")
    monkeypatch.setattr(machine, "CGROUPS", folder / "cgroup")


@pytest.mark.parametrize("kind", GROUPS)
def test_a_quota_counts(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    lay_out(tmp_path, *GROUPS[kind], monkeypatch)
    assert cpu_count() == 1 and local_capacity().cpus == 1
    with workers(MANY_ROWS) as apply:
        assert apply is map  # one CPU starts no processes


@pytest.mark.parametrize("kind", UNLIMITED)
def test_without_a_quota_it_is_the_affinity(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, *UNLIMITED[kind], monkeypatch)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7})
    assert cpu_count() == 3
    whole = memory()
    assert whole.limit == memory_limit() > 1e9 and 0 < whole.used < whole.limit


def test_a_system_without_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, "", {}, monkeypatch)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cpu_count() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpu_count() == 1


@pytest.mark.parametrize("version", [1, 2])
def test_a_containers_memory_is_the_limit_without_its_cache(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if version == 2:
        files = {
            "memory.max": "1000000",
            "memory.current": "900000",
            "memory.stat": "anon 1\ninactive_file 300000\nactive_file 100000",
            "memory.events": "oom 5\noom_kill 4",
        }
        lay_out(tmp_path, "0::/", files, monkeypatch)
    else:
        files = {
            "memory/memory.limit_in_bytes": "1000000",
            "memory/memory.usage_in_bytes": "900000",
            "memory/memory.stat": "cache 1\ntotal_inactive_file 300000\ntotal_active_file 100000",
            "memory/memory.oom_control": "under_oom 0\noom_kill 4",
        }
        lay_out(tmp_path, "8:memory:/host/path", files, monkeypatch)
    assert memory_limit() == 1_000_000 and out_of_memory_kills() == 4
    assert memory() == machine.Memory(500_000, 1_000_000) or memory().share > 0.5  # of a machine that is fuller
