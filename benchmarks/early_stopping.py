"""Which early stopping finds the most in the same time: variants of asynchronous successive halving and no stopping.

    python benchmarks/early_stopping.py --data DIR          DIR holds logs.zip of rnn_curves

Each search runs in virtual time until its budget of seconds is used (see simulation.py); rules that are compared meet
the same arrivals: random ones; ones that improve, trial i being the best of 1 + i // 10 draws; or what our sampler
proposes. Regret is (incumbent - best) / (typical - best): 0 for the best there is, 1 for what a random trial reaches.
"""

from __future__ import annotations

import json
import math
from bisect import insort
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from rich.console import Console
from rich.table import Table
from samplers import PARTS, PROBLEMS, Ours, PackageStopping, epoch_seconds, problem, quiet, run_all
from scipy.stats import rankdata
from simulation import Arrivals, Decision, Policy, RandomArrivals, simulate

FACTOR = 3
FULL_TRAININGS = {2: 5.0, 8: 3.0, 64: 1.5}  # workers, and the budget of each in trainings of all epochs
ARRIVALS = ("random", "improving", "proposed")
TAKE_UP = 0.25  # of an epoch: what it costs to pause a trial and take it up again where that is not free


def rungs_of(epochs: int) -> list[int]:
    found = [1]
    while found[-1] * FACTOR < epochs:
        found.append(found[-1] * FACTOR)
    return found


class NoStopping:
    def __init__(self, epochs: int) -> None: ...

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        return "go"

    def end(self, number: int, *, completed: bool) -> None: ...

    def resume(self, arriving: float) -> int | None:
        return None


class Stopping(NoStopping):
    """The stopping variant: among the best 1/FACTOR of all at the rung, rounded up, a trial goes on.

    With `quota` no more may have gone on than that share of the arrivals: the delayed promotion of D-ASHA (Li et al.
    2022, "Hyper-Tune") applied to stopping.
    """

    def __init__(self, epochs: int, *, quota: bool = False) -> None:
        self.rungs: dict[int, list[float]] = {rung: [] for rung in rungs_of(epochs)}
        self.passed = dict.fromkeys(self.rungs, 0)
        self.quota = quota

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        if epoch not in self.rungs:
            return "go"
        reached = self.rungs[epoch]
        ahead = sum(other <= value for other in reached)
        reached.append(value)
        share = math.ceil(len(reached) / FACTOR)
        goes_on = ahead < share and not (self.quota and self.passed[epoch] >= share)
        self.passed[epoch] += goes_on
        return "go" if goes_on else "stop"


class Promotion(NoStopping):
    """ASHA as published (Li et al. 2020, algorithm 2): each trial pauses at a rung; a free worker takes up the best."""

    def __init__(self, epochs: int) -> None:
        self.rungs: dict[int, list[tuple[float, int]]] = {rung: [] for rung in rungs_of(epochs)}
        self.promoted: dict[int, set[int]] = {rung: set() for rung in self.rungs}

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        if epoch not in self.rungs:
            return "go"
        insort(self.rungs[epoch], (value, number))
        return "pause"

    def resume(self, arriving: float) -> int | None:
        for rung in reversed(self.rungs):
            reached, promoted = self.rungs[rung], self.promoted[rung]
            for _, number in reached[: len(reached) // FACTOR]:
                if number not in promoted:
                    promoted.add(number)
                    return number
        return None


class RayStopping(NoStopping):
    """Ray Tune's AsyncHyperBandScheduler, called as its controller calls it."""

    class Trial:
        def __init__(self, number: int) -> None:
            self.trial_id = str(number)

    def __init__(self, epochs: int) -> None:
        self.scheduler = AsyncHyperBandScheduler(
            time_attr="epoch", metric="loss", mode="min", max_t=epochs, grace_period=1, reduction_factor=FACTOR
        )
        self.trials: dict[int, Any] = {}

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        if number not in self.trials:
            self.trials[number] = self.Trial(number)
            self.scheduler.on_trial_add(None, self.trials[number])
        result = {"epoch": epoch, "loss": value}
        stop = self.scheduler.on_trial_result(None, self.trials[number], result) == TrialScheduler.STOP
        return "stop" if stop else "go"


RULES: dict[str, Callable[[int], Policy]] = {
    "ours": PackageStopping,
    "ours, promotion": lambda epochs: PackageStopping(epochs, promotion=True),
    "ours, promotion at a cost": lambda epochs: PackageStopping(epochs, promotion=True),
    "stopping": Stopping,
    "stopping, quota": lambda epochs: Stopping(epochs, quota=True),
    "promotion": Promotion,
    "Ray's AsyncHyperBand": RayStopping,
    "no stopping": NoStopping,
}
COLUMNS = ("trials", "epochs", "run all, %", "25 %", "50 %", "all of the time", "quartiles", "mean rank")


def search(name: str, data: Path, kind: str, workers: int, rule: str, seed: int) -> list[float]:
    """Trials, epochs, the share of trials that ran all epochs, and the regret after each part of the time."""
    quiet()
    found = problem(name, data)
    seconds_each = epoch_seconds(name, data)
    seconds = FULL_TRAININGS[workers] * found.epochs * seconds_each
    trace = simulate(
        found,
        arrivals_of(kind, name, data, seed),
        RULES[rule](found.epochs),
        workers=workers,
        seconds=seconds,
        seed=seed + 1,
        stop_nan=rule != "Ray's AsyncHyperBand",
        take_up=TAKE_UP * seconds_each if rule.endswith("at a cost") else 0.0,
    )
    regrets = [found.regret(trace.at(seconds * part)) for part in PARTS]
    return [trace.trials, trace.epochs, trace.completed / trace.trials, *regrets]


def arrivals_of(kind: str, name: str, data: Path, seed: int) -> Arrivals:
    if kind == "proposed":
        return Ours(problem(name, data), seed)
    return RandomArrivals(problem(name, data), seed, improving=10 if kind == "improving" else None)


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="Folder with logs.zip of rnn_curves.")],
    seeds: Annotated[int, typer.Option(help="Searches of each rule in each setting.")] = 20,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 2,
    output: Annotated[Path | None, typer.Option(help="Write the figures of every search as JSON.")] = None,
    rules: Annotated[list[str] | None, typer.Option(help="Only this rule; may be given again.")] = None,
    each: Annotated[bool, typer.Option(help="A table for each problem, not only over all.")] = False,
) -> None:
    """Compare early-stopping rules on the same arrivals."""
    for name in PROBLEMS:
        epoch_seconds(name, data)
    compared = rules or list(RULES)
    settings = [
        (kind, workers) for kind in ARRIVALS for workers in FULL_TRAININGS if (kind, workers) != ("proposed", 64)
    ]
    cells = [
        (name, data, kind, workers, rule, seed)
        for kind, workers in settings
        for name in PROBLEMS
        for rule in compared
        for seed in range(seeds)
    ]
    found = np.array(run_all(search, cells, jobs)).reshape(len(settings), len(PROBLEMS), len(compared), seeds, -1)
    console = Console(width=150)
    for row, name in enumerate(PROBLEMS if each else ()):
        console.print(_table(name, settings, compared, found[:, row : row + 1]))
    console.print(_table("All problems", settings, compared, found))
    if output is not None:
        keys = ["trials", "epochs", "run_all", *(f"regret_{part}" for part in PARTS)]
        rows = [
            {"problem": name, "arrivals": kind, "workers": workers, "rule": rule, "seed": seed}
            | dict(zip(keys, row, strict=True))
            for (name, _, kind, workers, rule, seed), row in zip(
                cells, found.reshape(len(cells), -1).tolist(), strict=True
            )
        ]
        output.write_text(json.dumps(rows))


def _table(title: str, settings: list[tuple[str, int]], rules: list[str], found: np.ndarray) -> Table:
    """`found` by settings, problems, rules, seeds and what `search` gives."""
    table = Table(title=f"{title}: regret in %, median over seeds, mean over problems")
    for heading in ("arrivals", "workers", "rule"):
        table.add_column(heading)
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    for (kind, workers), rows in zip(settings, found, strict=True):
        low, middle, high = np.percentile(rows, [25, 50, 75], axis=2).mean(axis=1)
        ranks = rankdata(rows[..., -1], axis=1).mean(axis=(0, 2))
        for i, rule in enumerate(rules):
            trials, epochs, full, *regrets = middle[i]
            table.add_row(
                kind,
                str(workers),
                rule,
                f"{trials:.0f}",
                f"{epochs:.0f}",
                f"{100 * full:.1f}",
                *(f"{100 * regret:.1f}" for regret in regrets),
                f"{100 * low[i][-1]:.1f}-{100 * high[i][-1]:.1f}",
                f"{ranks[i]:.2f}",
            )
        table.add_section()
    return table


if __name__ == "__main__":
    app()
