"""What a warm start is worth to TPE, on a simulated objective: `python benchmarks/warm_start.py [SEEDS]`.

An earlier search of 40 or 80 trials, then one of 30 in the same space that begins with what the earlier one found, in
four ways: not at all, in the order of the scores (the worst first), in the trials' own order, and with weights that do
not fall with age. By default Optuna's TPE gives the latest 25 trials full weight and older ones less. Nothing is
trained: a score depends on family, learning rate, width and dropout, and on the trial's number for noise.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Sequence
from functools import partial
from statistics import mean, stdev
from typing import Any

import numpy as np
import optuna
from optuna.samplers._tpe.sampler import default_weights
from optuna.trial import FrozenTrial, TrialState

from automl.models import FAMILIES
from automl.search import proposals
from automl.search.proposals import Beginning, propose
from automl.search.sampler import make_sampler
from automl.space import SearchSpec, parse

SPACE = """\
name: simulated
data: {train: t.csv}
model:
  cnn: {channels: {int: [16, 256], log: true}, dropout: {float: [0.0, 0.6]}}
  rnn: {hidden: {int: [16, 256], log: true}, dropout: {float: [0.0, 0.6]}}
  cnn_rnn: {hidden: {int: [16, 256], log: true}, dropout: {float: [0.0, 0.6]}}
training:
  optimizer: {adamw: {learning_rate: {float: [1e-4, 3e-2], log: true}}}
search: {trials: 30, sampler: tpe, early_stopping: {none: {max_epochs: 1}}}
"""
BEST_RATE = 0.008
NOISELESS = -1
FAMILY = {"cnn": 0.0, "rnn": 0.012, "cnn_rnn": -0.01}
WAYS = ("without", "worst first", "own order", "equal weights")
EARLIER, LATER = (40, 80), 30


def score(config: dict[str, Any], seed: int, number: int) -> float:
    """Between 0.7 and 0.85, the better the nearer to the family's best settings; with noise of 0.004."""
    ((family, settings),) = config["model"].items()
    rate = config["training"]["optimizer"]["adamw"]["learning_rate"]
    width = settings.get("channels", settings.get("hidden"))
    off = 0.05 * math.log10(rate / BEST_RATE) ** 2 + 0.01 * math.log2(width / 96) ** 2 / 4
    off += 0.3 * (settings["dropout"] - 0.25) ** 2
    noise = 0.0 if number == NOISELESS else np.random.default_rng([seed, number]).normal(0, 0.004)
    return float(max(0.5, 0.82 + FAMILY[family] - off + noise))


def play(spec: SearchSpec, trials: int, seed: int, beginning: Beginning) -> list[tuple[FrozenTrial, dict[str, Any]]]:
    """Trials one after the other, each scored before the next is proposed."""
    history: list[FrozenTrial] = []
    found = []
    for number in range(trials):
        trial, config = propose(spec, number, history, beginning)
        ended = copy.copy(trial)
        ended.number = ended._trial_id = number
        ended.state, ended.values = TrialState.COMPLETE, [score(config, seed, number)]
        history.append(ended)
        found.append((ended, config))
    return found


def begin(earlier: Sequence[FrozenTrial], way: str) -> Beginning:
    """The earlier trials numbered below 0, the first of them the oldest."""
    if way == "without":
        return Beginning()
    order = sorted(earlier, key=lambda trial: trial.values[0]) if way == "worst first" else list(earlier)
    trials = []
    for position, trial in enumerate(order):
        known = copy.copy(trial)
        known.number = known._trial_id = position - len(order)
        trials.append(known)
    return Beginning(trials=trials)


def main(seeds: int) -> None:
    """Print, for each way: the best score, the share of learning rates below 0.002, and of families never tried."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for trials in EARLIER:
        print(f"after {trials} trials   best            rate < 0.002  families not tried")
        for way in WAYS:
            found = [one_search(seed, trials, way) for seed in range(seeds)]
            best, low, untried = zip(*found, strict=True)
            print(f"{way:<17}  {mean(best):.4f} ±{stdev(best):.4f}  {mean(low):.2f}          {mean(untried):.2f}")


def one_search(seed: int, trials: int, way: str) -> tuple[float, float, int]:
    """The best score without noise, the share of low learning rates, and how many families were not tried."""
    first = parse(SPACE.replace("trials: 30", f"trials: {trials}, seed: {100 + seed}"), FAMILIES)
    second = parse(SPACE.replace("trials: 30", f"trials: {LATER}, seed: {seed}"), FAMILIES)
    earlier = [trial for trial, _ in play(first, trials, 100 + seed, Beginning())]
    changes = {} if way == "equal weights" else {"weights": default_weights}
    proposals.make_sampler = partial(_changed, changes)  # type: ignore[assignment]
    configs = [config for _, config in play(second, LATER, seed, begin(earlier, way))]
    rates = [config["training"]["optimizer"]["adamw"]["learning_rate"] for config in configs]
    tried = {next(iter(config["model"])) for config in configs}
    best = max(score(config, seed, NOISELESS) for config in configs)
    return best, mean(rate < 0.002 for rate in rates), len(FAMILY) - len(tried)


def _changed(changes: dict[str, Any], *given: Any, **named: Any) -> optuna.samplers.BaseSampler:
    return make_sampler(*given, **named, **changes)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
