"""A search as most write it with Optuna alone: `python optuna_script.py DATA OUT --trials 12 --seed 0`."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import optuna
import torch
import typer
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from text_classifier import TextData, load_data, note, suggest, train, write_result

PROCESSES = 2


def storage(out: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(out / "study.journal")))


def search(data: TextData, out: Path, trials: int, seed: int, process: int) -> None:
    """Run trials in this process until the study has enough."""

    def objective(trial: optuna.Trial) -> float:
        config = suggest(trial)
        trial.set_user_attr("config", config)

        def after_epoch(epoch: int, score: float) -> bool:
            note(out, trial.number, epoch, score)
            trial.report(score, epoch)
            return not trial.should_prune()

        best = train(config, data, seed + trial.number, out / f"{trial.number}.pt", after_epoch)
        trial.set_user_attr("best", best)
        return best

    study = optuna.load_study(
        study_name="search",
        storage=storage(out),
        sampler=optuna.samplers.TPESampler(seed=seed * PROCESSES + process),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    )
    counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    study.optimize(objective, callbacks=[optuna.study.MaxTrialsCallback(trials, states=counted)])


def main(data: Path, out: Path, trials: int = 12, seed: int = 0) -> None:
    """Search in two processes over one journal file, then measure the best model on the test set."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.create_study(study_name="search", storage=storage(out), direction="maximize")
    examples = load_data(data)
    processes = [
        multiprocessing.get_context("fork").Process(target=search, args=(examples, out, trials, seed, number))
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit(process.exitcode)
    ended = optuna.load_study(study_name="search", storage=storage(out)).trials
    best = max((trial for trial in ended if "best" in trial.user_attrs), key=lambda trial: trial.user_attrs["best"])
    write_result(out, best.user_attrs["config"], examples, out / f"{best.number}.pt", best.user_attrs["best"])


if __name__ == "__main__":
    typer.run(main)
