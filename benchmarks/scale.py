"""How many trials one driver can look after: `python benchmarks/scale.py`.

The driver is the real one: Ray Tune, journal, run directory, live view, the sampler and successive halving. Its trials
wait instead of training (hosted_trials.py), 10 of them at once, then 100, then 1,000.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import null_trial
import numpy as np
import typer
from hosted_trials import LAGS_FILE, SECONDS
from measure import Measured, run_measured, wide_console
from rich.table import Table

HERE = Path(__file__).resolve().parent
EPOCHS = 9


@dataclass(frozen=True)
class Scale:
    """What so many trials at once cost; `lags` are seconds from a worker's report to its next epoch or trial."""

    concurrent: int
    trials: int
    offered: float  # reports/s of workers that never wait
    reports: float  # reports/s, once all workers were busy
    lag_median: float
    lag_95: float
    waiting: float  # share of the workers' time
    cpu_per_report: float  # seconds of the driver
    memory: float  # the driver's, MB, at most
    seconds: float


def main(
    concurrent: Annotated[list[int] | None, typer.Option(help="Trials at once; repeatable.")] = None,
    epoch_seconds: Annotated[float, typer.Option(min=0.1, help="How long an epoch takes on average.")] = 10.0,
    trials_each: Annotated[int, typer.Option(min=1, help="Trials for each of those at once.")] = 4,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Run one search after the other, each in a process of its own."""
    console = wide_console()
    found = []
    for count in concurrent or [10, 100, 1000]:
        console.print(f"{count} trials at once, {count * trials_each} in all", style="dim")
        found.append(_measured(count, count * trials_each, epoch_seconds))
    table = Table(title=f"trials of up to {EPOCHS} epochs of {epoch_seconds:g} s, stopped early; one driver")
    heads = (
        "at once",
        "trials",
        "reports/s offered",
        "taken",
        "lag median",
        "lag 95 %",
        "waiting",
        "CPU a report",
        "MB",
    )
    for head in heads:
        table.add_column(head, justify="right")
    for each in found:
        table.add_row(
            f"{each.concurrent:,}",
            f"{each.trials:,}",
            f"{each.offered:.1f}",
            f"{each.reports:.1f}",
            f"{each.lag_median:.2f} s",
            f"{each.lag_95:.2f} s",
            f"{each.waiting:.1%}",
            f"{each.cpu_per_report * 1000:.1f} ms",
            f"{each.memory:,.0f}",
        )
    console.print(table)
    if output:
        output.write_text(json.dumps([asdict(each) for each in found], indent=1), encoding="utf-8")


def _measured(concurrent: int, trials: int, epoch_seconds: float) -> Scale:
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        lags = folder / "lags.txt"
        lags.touch()
        (folder / "arm").mkdir()
        measured = run_measured(
            [sys.executable, str(HERE / "scale_arm.py"), str(folder / "arm"), str(concurrent), str(trials)],
            reports=folder / "reports",
            log=folder / "log.txt",
            environment={
                null_trial.REPORTS_FILE: str(folder / "reports"),
                LAGS_FILE: str(lags),
                SECONDS: str(epoch_seconds),
                "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
            },
        )
        waited = np.array([float(line) for line in lags.read_text().split()])
    return _figures(concurrent, trials, epoch_seconds, measured, waited)


def _figures(concurrent: int, trials: int, epoch_seconds: float, measured: Measured, waited: np.ndarray) -> Scale:
    """Rates are those between a fifth and four fifths of the reports: all workers are busy then."""
    last = measured.samples[-1].reports
    low, high = 0.2 * last, 0.8 * last
    began, ended = measured.at_reports("seconds", [low, high])
    cpu_began, cpu_ended = measured.at_reports("cpu_seconds", [low, high])
    middle = waited[int(0.2 * len(waited)) : int(0.8 * len(waited))]
    return Scale(
        concurrent=concurrent,
        trials=trials,
        offered=concurrent / epoch_seconds,
        reports=(high - low) / (ended - began),
        lag_median=float(np.median(middle)),
        lag_95=float(np.percentile(middle, 95)),
        waiting=float(middle.mean() / (middle.mean() + epoch_seconds)),
        cpu_per_report=(cpu_ended - cpu_began) / (high - low),
        memory=max(sample.memory for sample in measured.samples) / 2**20,
        seconds=measured.seconds,
    )


if __name__ == "__main__":
    typer.run(main)
