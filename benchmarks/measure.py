"""A process measured from outside: reports over time, its own CPU seconds and memory, what it leaves on disk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

PAGE, TICK = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """seconds since the start; reports so far; CPU seconds and resident bytes of the process without its children."""

    seconds: float
    reports: int
    cpu_seconds: float
    memory: int


@dataclass(frozen=True)
class Measured:
    """A process that has ended: samples in order of time, and the seconds until it was gone."""

    samples: list[Sample]
    seconds: float

    def at_reports(self, field: str, reports: Sequence[float]) -> list[float]:
        """A field of the samples when there were so many reports for the first time, interpolated."""
        first = {sample.reports: sample for sample in reversed(self.samples) if sample.reports > 0}
        counts = sorted(first)
        found = np.interp(reports, counts, [float(getattr(first[count], field)) for count in counts])
        return [float(value) for value in found]

    @property
    def first_report(self) -> float:
        """Seconds until the first report."""
        return next((sample.seconds for sample in self.samples if sample.reports), self.seconds)


def run_measured(
    command: Sequence[str], *, reports: Path, log: Path, environment: Mapping[str, str], every: float = 0.05
) -> Measured:
    """Run a command to its end; it lets the file `reports` grow by a byte for each report. Its output goes to `log`.

    Raises RuntimeError with the last lines of its output where it fails.
    """
    reports.write_bytes(b"")
    started = time.monotonic()
    samples: list[Sample] = []
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **environment})
        while process.poll() is None:
            sample = _look(process.pid, reports, started)
            if sample is not None:
                samples.append(sample)
            time.sleep(every)
    seconds = time.monotonic() - started
    if process.returncode:
        lines = log.read_text(errors="replace").splitlines()[-20:]
        raise RuntimeError("\n".join([f"{' '.join(command)} ended with {process.returncode}:", *lines]))
    return Measured(samples, seconds)


def _look(pid: int, reports: Path, started: float) -> Sample | None:
    """One sample; None where the process has just ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    if pages == 0:
        return None
    cpu = (int(fields[11]) + int(fields[12])) / TICK
    return Sample(time.monotonic() - started, reports.stat().st_size, cpu, pages * PAGE)


def size_on_disk(folder: Path) -> tuple[int, int]:
    """Files in a folder and all below it, and their bytes."""
    sizes = [(Path(root) / name).stat().st_size for root, _, names in os.walk(folder) for name in names]
    return len(sizes), sum(sizes)


def use_cores(cores: int) -> None:
    """Keep this process and all that it starts to so many cores."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def wide_console() -> Console:
    """A console that gives tables their room where it is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=170)
