"""A search as most write it with Ray Tune: `python ray_tune_script.py DATA OUT --trials 12 --seed 0`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
import typer
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from text_classifier import EPOCHS, TextData, load_data, note, suggest, train, write_result


def space(trial: Any) -> None:
    """Parameters by name; their meaning is restored in the trial."""
    suggest(trial)


def configuration(parameters: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a trial: the parameters of its family without the family's name."""
    family = parameters["family"]
    return {name.removeprefix(f"{family}_"): value for name, value in parameters.items()}


def trial(parameters: dict[str, Any], data: TextData, out: Path, seed: int) -> None:
    """One trial."""
    number = tune.get_context().get_trial_id()
    best = 0.0

    def after_epoch(epoch: int, score: float) -> bool:
        nonlocal best
        best = max(best, score)
        note(out, number, epoch, score)
        tune.report({"accuracy": score, "best": best})
        return True

    train(configuration(parameters), data, seed, out / f"{number}.pt", after_epoch)


def main(data: Path, out: Path, trials: int = 12, seed: int = 0) -> None:
    """Search with two trials at once, then measure the best model on the test set."""
    out = out.resolve()
    ray.init(num_cpus=2, include_dashboard=False)
    examples = load_data(data)
    found = tune.Tuner(
        tune.with_resources(tune.with_parameters(trial, data=examples, out=out, seed=seed), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            search_alg=OptunaSearch(space, metric="accuracy", mode="max", seed=seed),
            scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=3),
            num_samples=trials,
            max_concurrent_trials=2,
        ),
        run_config=tune.RunConfig(name="search", storage_path=str(out), verbose=1),
    ).fit()
    best = max((result for result in found if result.metrics), key=lambda result: result.metrics["best"])
    weights = out / f"{best.metrics['trial_id']}.pt"
    write_result(out, configuration(best.config), examples, weights, best.metrics["best"])


if __name__ == "__main__":
    typer.run(main)
