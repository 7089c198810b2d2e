"""The arms of `turnaround.py`, each in a process of its own: `python turnaround_arms.py ARM FOLDER TRIALS`."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False)
Folder = Annotated[Path, typer.Argument(help="An empty folder for all that the arm writes.")]
CONCURRENT = 2


@app.command()
def optuna_journal(folder: Folder, trials: int) -> None:
    """Plain Optuna in one process with a journal file."""
    import null_trial
    import optuna
    from optuna.storages.journal import JournalFileBackend

    def objective(trial: optuna.Trial) -> float:
        null_trial.suggest(trial)
        value = 0.0
        for epoch in range(1, null_trial.REPORTS + 1):
            value = null_trial.accuracy(trial.params["learning_rate"], epoch)
            trial.report(value, epoch)
            null_trial.count_report()
        return value

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    optuna.create_study(storage=storage, direction="maximize").optimize(objective, n_trials=trials)


@app.command()
def ray_default(folder: Folder, trials: int) -> None:
    """Ray Tune as it comes: an actor for each trial, three loggers."""
    _ray_tune(folder, trials, reuse_actors=False)


@app.command()
def ray_tuned(folder: Folder, trials: int) -> None:
    """Ray Tune with warm actors and without loggers."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    _ray_tune(folder, trials, reuse_actors=True)


@app.command()
def ray_tuned_optuna(folder: Folder, trials: int) -> None:
    """The same with Ray's OptunaSearch."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    _ray_tune(folder, trials, reuse_actors=True, optuna_search=True)


def _ray_tune(folder: Path, trials: int, *, reuse_actors: bool, optuna_search: bool = False) -> None:
    import null_trial
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    def objective(config: dict[str, Any]) -> None:
        for epoch in range(1, null_trial.REPORTS + 1):
            tune.report({"accuracy": null_trial.accuracy(config["learning_rate"], epoch)})
            null_trial.count_report()

    ray.init(address="local", num_cpus=CONCURRENT, include_dashboard=False, log_to_driver=False)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    settings = tune.TuneConfig(metric="accuracy", mode="max", num_samples=trials, reuse_actors=reuse_actors)
    space = {}
    if optuna_search:
        settings.search_alg = OptunaSearch(null_trial.suggest, metric="accuracy", mode="max")
        settings.max_concurrent_trials = CONCURRENT
    else:
        space = {"learning_rate": tune.loguniform(1e-4, 1e-1), "dropout": tune.uniform(0.0, 0.6)}
    tune.Tuner(
        tune.with_resources(objective, {"cpu": 1}),
        param_space=space,
        tune_config=settings,
        run_config=tune.RunConfig(name="null", storage_path=str(folder.resolve()), verbose=0),
    ).fit()


@app.command()
def ours(folder: Folder, trials: int) -> None:
    """The whole engine: journal, run directory, live view; every trial reports three times."""
    search_null_trials(folder, trials, "{none: {max_epochs: 3}}")


@app.command()
def ours_asha(folder: Folder, trials: int) -> None:
    """The same with trials stopped early."""
    search_null_trials(folder, trials, "{asha: {max_epochs: 3, grace_period: 1, reduction_factor: 2}}")


def search_null_trials(folder: Path, trials: int, early_stopping: str, address: str | None = None) -> None:
    """A search whose workers train nothing; goes on with the run in `folder` where there is one."""
    import null_trial

    from automl.data import prepare
    from automl.search.engine import search
    from automl.search.manifest import create_manifest
    from automl.search.publishing import driving
    from automl.search.resources import local_capacity
    from automl.space import sample_configs
    from automl.training.run_directory import RunDirectory, write_json
    from automl.verbs import load_space

    directory = RunDirectory(folder / "run")
    data = folder.with_name(f"{folder.name}-data")
    data.mkdir(exist_ok=True)
    rows = "".join(json.dumps({"text": f"word {number}", "label": number % 2}) + "\n" for number in range(40))
    for split in ("train", "validation"):
        (data / f"{split}.jsonl").write_text(rows)
    space = data / "space.yaml"
    space.write_text(null_trial.SPACE.format(folder=data, trials=trials, early_stopping=early_stopping))
    spec = load_space(space)
    settings = sample_configs(spec, 1, seed=0)[0]["data"]
    prepared = prepare(settings, seed=0, cache=data / "cache")
    if not directory.path.exists():
        directory.path.mkdir()
        create_manifest(directory, spec, prepared, local_capacity(), space_file=space, space_hash="", overrides=())
        directory.space.write_bytes(space.read_bytes())
        # The linear floor is no part of a trial's cost: let it be there already.
        figures = {"validation": {"accuracy": 0.5}, "test": None, "parameters": 0, "train_seconds": 0.0}
        write_json(directory.floor, {"name": "none", **figures, "settings": {}})
    with driving(directory) as publisher:
        outcome = search(
            spec,
            directory,
            prepared,
            publisher=publisher,
            prepared_from=settings,
            cache=data / "cache",
            address=address,
            worker=null_trial.NullWorker,
        )
    if outcome.status != "finished":
        raise SystemExit(outcome.reason)


@app.command()
def leaderboard(folder: Folder) -> None:
    """Print the seconds that reading the leaderboard of the run in `folder` takes, imports left out."""
    import automl
    from automl.results.leaderboard import rows  # noqa: F401  its imports are not counted

    clock = time.perf_counter()
    found = automl.leaderboard(folder / "run")
    print(json.dumps({"seconds": time.perf_counter() - clock, "rows": len(found)}))


if __name__ == "__main__":
    app()
