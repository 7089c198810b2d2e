"""How fast trials follow each other, and whether that lasts: ours beside Ray Tune and Optuna, trials that do nothing.

python benchmarks/turnaround.py                    about 10 minutes on 2 quiet cores
python benchmarks/turnaround.py --long 0           without the long run: about 2 minutes
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from measure import Measured, run_measured, size_on_disk, use_cores, wide_console
from null_trial import REPORTS, REPORTS_FILE
from rich.table import Table

ARMS = {
    "ray-default": "Ray Tune, default",
    "ray-tuned": "Ray Tune, tuned",
    "ray-tuned-optuna": "Ray Tune, tuned, OptunaSearch",
    "optuna-journal": "Optuna alone, journal",
    "ours": "ours",
    "ours-asha": "ours, stopping early",
}
ARMS_FILE = Path(__file__).with_name("turnaround_arms.py")
CORES = 2
RESUMED_TRIALS = 20
SHORTEST = 0.01  # seconds: samples are no closer to each other


def main(
    trials: Annotated[int, typer.Option(min=2, help="Trials of each arm.")] = 200,
    default_trials: Annotated[int, typer.Option(min=2, help="Trials of Ray Tune's default, a second each.")] = 40,
    long: Annotated[int, typer.Option(min=0, help="Trials of the long run of ours; 0 for none.")] = 10_000,
    arms: Annotated[list[str] | None, typer.Option("--arm", help=f"Only these: {', '.join(ARMS)}.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Measure every arm in a process of its own, one after the other."""
    use_cores(CORES)
    console = wide_console()
    figures: dict[str, Any] = {"cores": CORES, "arms": {}}
    with tempfile.TemporaryDirectory(prefix="turnaround-") as scratch:
        folder = Path(scratch)
        for arm in arms or ARMS:
            count = min(trials, default_trials) if arm == "ray-default" else trials
            console.print(f"{ARMS[arm]}: {count} trials ...", style="dim")
            figures["arms"][arm] = _figures(_measure(folder, arm, count), count, folder / arm)
        console.print(_comparison(figures["arms"]))
        if long:
            console.print(f"ours: {long} trials ...", style="dim")
            measured = _measure(folder, "ours", long, name="long")
            figures["long"] = _figures(measured, long, folder / "long")
            figures["long"]["deciles"] = _deciles(measured, long)
            figures["long"]["leaderboard_seconds"] = _leaderboard(folder / "long")
            console.print(f"ours: resumed with {RESUMED_TRIALS} trials more ...", style="dim")
            resumed = _measure(folder, "ours", long + RESUMED_TRIALS, name="long")
            figures["long"]["resume_seconds"] = resumed.first_report
            console.print(_long_run(figures["long"]))
    if output is not None:
        output.write_text(json.dumps(figures, indent=2) + "\n")


def _measure(scratch: Path, arm: str, trials: int, name: str | None = None) -> Measured:
    folder = scratch / (name or arm)
    folder.mkdir(exist_ok=True)
    reports = scratch / "reports"
    return run_measured(
        [sys.executable, str(ARMS_FILE), arm, str(folder), str(trials)],
        reports=reports,
        log=scratch / f"{folder.name}.log",
        environment={REPORTS_FILE: str(reports), "FORCE_COLOR": "1"},  # ours then shows the panel of a terminal
    )


def _figures(measured: Measured, trials: int, folder: Path) -> dict[str, Any]:
    """The rate leaves out the start, up to the first report, and the end, from the last."""
    reports = measured.samples[-1].reports
    (first, last), (cpu_first, cpu_last) = (
        measured.at_reports(field, [1, reports]) for field in ("seconds", "cpu_seconds")
    )
    files, size = size_on_disk(folder)
    return {
        "trials": trials,
        "reports": reports,
        "trials_per_second": trials / max(last - first, SHORTEST),
        "cpu_ms_per_report": 1000 * (cpu_last - cpu_first) / reports,
        "start_seconds": first,
        "end_seconds": measured.seconds - last,
        "seconds": measured.seconds,
        "memory_mb": max(sample.memory for sample in measured.samples) / 1e6,
        "files": files,
        "disk_mb": size / 1e6,
    }


def _ratio(value: float, base: float) -> str:
    """A short run's tenth may take less CPU time than the kernel's clock tells apart."""
    return f"{value / base:.2f}" if base else "-"


def _deciles(measured: Measured, trials: int) -> list[dict[str, float]]:
    bounds = [max(1.0, trials * REPORTS * tenth / 10) for tenth in range(11)]
    seconds, cpu, memory = (measured.at_reports(field, bounds) for field in ("seconds", "cpu_seconds", "memory"))
    return [
        {
            "trials_per_second": trials / 10 / max(seconds[tenth + 1] - seconds[tenth], SHORTEST),
            "cpu_ms_per_report": 1000 * (cpu[tenth + 1] - cpu[tenth]) / (bounds[tenth + 1] - bounds[tenth]),
            "memory_mb": memory[tenth + 1] / 1e6,
        }
        for tenth in range(10)
    ]


def _leaderboard(folder: Path) -> float:
    command = [sys.executable, str(ARMS_FILE), "leaderboard", str(folder)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(said)["seconds"])


def _comparison(arms: dict[str, dict[str, Any]]) -> Table:
    table = Table(
        title=f"Trials that do nothing and report {REPORTS} times, {CORES} cores",
        caption="tuned: warm actors, no loggers; CPU and memory are the driver's; the rate leaves out start and end",
    )
    table.add_column("", no_wrap=True)
    for heading in (
        "trials", "trials/s", "ratio", "CPU ms/report", "start s", "end s", "memory MB", "files", "disk MB",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    base = next(iter(arms.values()))["trials_per_second"]
    for arm, found in arms.items():
        table.add_row(
            ARMS[arm],
            str(found["trials"]),
            f"{found['trials_per_second']:.2f}",
            f"{found['trials_per_second'] / base:.1f}",
            f"{found['cpu_ms_per_report']:.2f}",
            f"{found['start_seconds']:.1f}",
            f"{found['end_seconds']:.1f}",
            f"{found['memory_mb']:.0f}",
            str(found["files"]),
            f"{found['disk_mb']:.2f}",
        )
    return table


def _long_run(found: dict[str, Any]) -> Table:
    deciles = found["deciles"]
    table = Table(
        title=f"Ours, {found['trials']} trials: {found['trials_per_second']:.1f} trials/s",
        caption=f"{found['files']} files, {found['disk_mb']:.1f} MB; leaderboard read in "
        f"{found['leaderboard_seconds']:.1f} s; resumed: first report after {found['resume_seconds']:.1f} s "
        f"(a fresh run: {found['start_seconds']:.1f} s); end {found['end_seconds']:.1f} s",
    )
    for heading in ("tenth", "trials/s", "driver CPU ms/report", "ratio to the first tenth", "driver memory MB"):
        table.add_column(heading, justify="right")
    for number, decile in enumerate(deciles, start=1):
        table.add_row(
            str(number),
            f"{decile['trials_per_second']:.1f}",
            f"{decile['cpu_ms_per_report']:.2f}",
            _ratio(decile["cpu_ms_per_report"], deciles[0]["cpu_ms_per_report"]),
            f"{decile['memory_mb']:.0f}",
        )
    return table


if __name__ == "__main__":
    typer.run(main)
