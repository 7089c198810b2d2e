"""How soon a search is as good as hand-written ones get: an Optuna script, a Ray Tune script, and ours.

`python benchmarks/time_to_accuracy.py --data DIR`, where DIR holds train, validation and test.parquet with columns
text and label. The same data, space, number of trials and cores for all.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from measure import use_cores, wide_console
from rich.table import Table
from run_timeline import breakdown

HERE = Path(__file__).resolve().parent
CORES = 2
OURS = "ours"
BASELINES = {"optuna": "Optuna script", "ray": "Ray Tune script"}
SCRIPTS = {"optuna": "optuna_script.py", "ray": "ray_tune_script.py"}


@dataclass(frozen=True)
class Search:
    """One search: `curve` has (seconds since the process began, best validation accuracy so far) for each epoch."""

    arm: str
    seed: int
    seconds: float
    validation: float
    test: float
    epochs: int
    curve: list[tuple[float, float]]
    spans: dict[str, float]

    def seconds_to(self, accuracy: float) -> float | None:
        """Seconds until the best validation accuracy so far was at least that; None where it never was."""
        return next((seconds for seconds, best in self.curve if best >= accuracy - 1e-9), None)


def main(
    data: Annotated[Path, typer.Option(help="Folder with train, validation and test.parquet (text, label).")],
    seeds: Annotated[int, typer.Option(min=1, help="Searches of each arm.")] = 3,
    trials: Annotated[int, typer.Option(min=1, help="Trials of each search.")] = 12,
    space: Annotated[Path, typer.Option(help="The search-space file of ours.")] = HERE / "time_to_accuracy.yaml",
    output: Annotated[Path | None, typer.Option(help="Write figures and curves as JSON.")] = None,
) -> None:
    """Run every arm with every seed, each in a process of its own, one after the other."""
    use_cores(CORES)
    console = wide_console()
    searches: list[Search] = []
    for seed in range(seeds):
        for arm in (*BASELINES, OURS):
            with tempfile.TemporaryDirectory(prefix="time-to-accuracy-") as scratch:
                if arm == OURS:
                    found = _ours(data.resolve(), space.resolve(), Path(scratch), trials, seed)
                else:
                    found = _baseline(arm, data.resolve(), Path(scratch), trials, seed)
            searches.append(found)
            console.print(
                f"seed {seed}, {arm}: {found.seconds:.0f} s, {found.epochs} epochs, validation "
                f"{found.validation:.4f}, test {found.test:.4f}",
                style="dim",
            )
            if output is not None:
                output.write_text(json.dumps([asdict(search) for search in searches], indent=1) + "\n")
    console.print(_comparison(searches))
    console.print(_spans([search for search in searches if search.arm == OURS]))


def _baseline(arm: str, data: Path, out: Path, trials: int, seed: int) -> Search:
    script = HERE / "baselines" / SCRIPTS[arm]
    command = [sys.executable, str(script), str(data), str(out), "--trials", str(trials), "--seed", str(seed)]
    started, ended = _run(command, out, {})
    result = json.loads((out / "result.json").read_text())
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    curve = _curve([(event["time"], event["validation"]) for event in events], started)
    return Search(arm, seed, ended - started, result["validation"], result["test"], len(events), curve, {})


def _ours(data: Path, space: Path, out: Path, trials: int, seed: int) -> Search:
    run, cache = out / "run", out / "cache"
    command = [sys.executable, "-m", "automl", "run", str(space), "--output", str(run)]
    command += ["--trials", str(trials), "--seed", str(seed)]
    started, ended = _run(command, data, {"AUTOML_CACHE": str(cache)}, log=out / "log")
    best = json.loads((run / "leaderboard.json").read_text())["trials"][0]
    lines = [json.loads(line) for path in run.glob("trials/*/metrics.jsonl") for line in path.read_text().splitlines()]
    curve = _curve([(line["started"] + line["seconds"], line["accuracy"]) for line in lines], started)
    spans = breakdown(run, cache, started, ended, CORES)
    return Search(OURS, seed, ended - started, best["score"], best["test_score"], len(lines), curve, spans)


def _run(
    command: list[str], folder: Path, environment: Mapping[str, str], log: Path | None = None
) -> tuple[float, float]:
    """Run a command in a folder; gives the times (Unix seconds) when it began and ended."""
    log = log or folder / "log"
    started = time.time()
    with log.open("wb") as output:
        subprocess.run(command, cwd=folder, env={**os.environ, **environment}, stdout=output, stderr=output, check=True)
    return started, time.time()


def _curve(epochs: list[tuple[float, float]], started: float) -> list[tuple[float, float]]:
    best, curve = 0.0, []
    for moment, accuracy in sorted(epochs):
        best = max(best, accuracy or 0.0)
        curve.append((moment - started, best))
    return curve


def _comparison(searches: list[Search]) -> Table:
    """Medians over the seeds; ratios are of each seed's pair of searches."""
    table = Table(
        title=f"Time to accuracy, median of {max(search.seed for search in searches) + 1} seeds, {CORES} cores",
        caption="target: the best validation accuracy that the script of the same seed reached in the end",
    )
    table.add_column("", no_wrap=True)
    for heading in (
        "seconds", "epochs", "validation", "test", "seconds to its best", "ours to the target", "ours sooner",
        "of all its time",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    ours = {search.seed: search for search in searches if search.arm == OURS}
    for arm, name in {**BASELINES, OURS: OURS}.items():
        found = [search for search in searches if search.arm == arm]
        own = [search.seconds_to(search.validation) for search in found]
        row = [
            f"{statistics.median(search.seconds for search in found):.0f}",
            f"{statistics.median(search.epochs for search in found):.0f}",
            f"{statistics.median(search.validation for search in found):.4f}",
            f"{statistics.median(search.test for search in found):.4f}",
            _median(own, "{:.0f}"),
        ]
        if arm != OURS:
            reached = [ours[search.seed].seconds_to(search.validation) for search in found]
            row.append(_median(reached, "{:.0f}"))
            row.append(_median([_ratio(mine, sooner) for mine, sooner in zip(own, reached, strict=True)], "{:.1f} x"))
            whole = [_ratio(search.seconds, sooner) for search, sooner in zip(found, reached, strict=True)]
            row.append(_median(whole, "{:.1f} x"))
        table.add_row(name, *row)
    return table


def _ratio(seconds: float | None, ours: float | None) -> float | None:
    return None if seconds is None or ours is None else seconds / ours


def _median(values: list[Any], form: str) -> str:
    """The median where a search that never got there counts as the worst."""
    worst = float("inf") if "x" not in form else 0.0
    middle = statistics.median(worst if value is None else value for value in values)
    return "never" if middle == worst else form.format(middle)


def _spans(searches: list[Search]) -> Table:
    table = Table(title="Where ours spends its time, seconds", caption="training and what follows: sums over the cores")
    table.add_column("", no_wrap=True)
    for search in searches:
        table.add_column(f"seed {search.seed}", justify="right")
    table.add_column("median", justify="right")
    for name in searches[0].spans:
        values = [search.spans[name] for search in searches]
        table.add_row(name, *(f"{value:.1f}" for value in values), f"{statistics.median(values):.1f}")
    return table


if __name__ == "__main__":
    typer.run(main)
