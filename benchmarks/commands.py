"""How long a person waits for the commands that answer at once, beside another version of this project.

python benchmarks/commands.py                               this version alone: 1 minute
python benchmarks/commands.py --beside OTHER/.venv/bin/python        pair by pair with another checkout: 3 minutes
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from measure import wide_console
from rich.table import Table

TRAIN_ROWS, ROWS = 2000, 400
SPACE = """\
name: waits
data: {train: train.csv}
model: {cnn: {channels: {int: [8, 32]}}, rnn: {hidden: {int: [8, 32]}}}
search: {trials: 2, early_stopping: {asha: {max_epochs: 2}}}
"""
SUBMITTED = {"name": "run", "owner": "me", "labels": {}, "submitted": "2026-01-01T00:00:00+00:00", "space": "s.yaml"}
NOBODY = "http://127.0.0.1:9"  # a cluster that does not answer: its runs are read all the same
COMMANDS = {
    "version": ["--version"],
    "help": ["--help"],
    "check": ["check", "space.yaml"],
    "predict, 400 rows": ["predict", "run", "rows.csv"],
    "leaderboard": ["leaderboard", "run"],
    "report": ["report", "run"],
    "jobs --runs": ["jobs", "--runs", "."],
    "status --runs": ["status", "run", "--runs", "."],
}
OF_CLUSTER = {"jobs, of a cluster": ["jobs"]}


def main(
    beside: Annotated[Path | None, typer.Option(help="The Python of another version's environment.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Counted runs of each command; one more comes first.")] = 5,
    address: Annotated[str | None, typer.Option(help="Also ask the cluster with this dashboard.")] = None,
    commands: Annotated[list[str] | None, typer.Option("--command", help=f"Only: {'; '.join(COMMANDS)}.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Time whole processes, those of the two versions in turn; the data of check is prepared before."""
    pythons = {"here": Path(sys.executable)} | ({"beside": beside.absolute()} if beside else {})
    asked = {name: [*each, "--address", address] for name, each in OF_CLUSTER.items()} if address else {}
    words = {**COMMANDS, **asked}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="commands-") as scratch:
        folder = Path(scratch)
        environment = {**os.environ, "AUTOML_CACHE": str(folder / "cache"), "AUTOML_ADDRESS": NOBODY, "COLUMNS": "80"}
        environment.pop("AUTOML_RUNS", None)
        _write(folder, environment)
        for name in commands or words:
            figures[name] = _timed(pythons, words[name], folder, environment, repeats)
    wide_console().print(_table(figures))
    if output:
        output.write_text(json.dumps(figures, indent=2))


def _write(folder: Path, environment: Mapping[str, str]) -> None:
    """A small data set, and a run of it that could have been submitted."""
    random = Random(0)
    for name, count in (("train.csv", TRAIN_ROWS), ("rows.csv", ROWS)):
        with (folder / name).open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["text", "label"])
            for _ in range(count):
                label = random.choice(["good", "bad"])
                table.writerow([" ".join([label, *(f"w{random.randrange(300)}" for _ in range(12))]), label])
    (folder / "space.yaml").write_text(SPACE)
    _run(Path(sys.executable), ["run", "space.yaml", "--output", "run", "--quiet"], folder, environment)
    (folder / ".submissions").mkdir()
    (folder / ".submissions" / "run.json").write_text(json.dumps(SUBMITTED))


def _timed(
    pythons: Mapping[str, Path], words: list[str], folder: Path, environment: Mapping[str, str], repeats: int
) -> dict[str, Any]:
    found: dict[str, list[dict[str, float]]] = {side: [] for side in pythons}
    for turn in range(repeats + 1):
        for side, python in pythons.items():
            taken = _run(python, words, folder, environment)
            if turn:  # the first reads files that the others find in memory
                found[side].append(taken)
    figures: dict[str, Any] = {
        side: {figure: statistics.median(each[figure] for each in runs) for figure in runs[0]}
        for side, runs in found.items()
    }
    if "beside" in found:
        pairs = list(zip(found["here"], found["beside"], strict=True))
        figures["ratio"] = {
            figure: statistics.median(one[figure] / other[figure] for one, other in pairs) for figure in pairs[0][0]
        }
    return figures


def _run(python: Path, words: list[str], folder: Path, environment: Mapping[str, str]) -> dict[str, float]:
    """Seconds until a command has ended, and of CPU; raises RuntimeError with its complaint where it fails."""
    with tempfile.TemporaryFile() as said:
        started = time.monotonic()
        process = subprocess.Popen(
            [python, "-m", "automl", *words], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=said
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(words)}: {said.read().decode(errors='replace')[-2000:]}")
    return {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime}


def _table(figures: Mapping[str, Any]) -> Table:
    table = Table(title="medians; a ratio is that of pairs, here / beside", box=None, padding=(0, 2, 0, 0))
    table.add_column("command")
    for name in ("seconds", "CPU s", "beside", "CPU s", "ratio", "CPU"):
        table.add_column(name, justify="right")
    for name, found in figures.items():
        cells = [
            f"{found[side][figure]:.2f}" if side in found else ""
            for side in ("here", "beside", "ratio")
            for figure in ("seconds", "cpu_seconds")
        ]
        table.add_row(name, *cells)
    return table


if __name__ == "__main__":
    typer.run(main)
