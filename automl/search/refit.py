"""The winner of a search trained once more, on train and validation rows together, through Ray Train."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import ray.train

from automl.data.private_folder import private_folder
from automl.search.data_parallel import torch_trainer, worker_device
from automl.search.reasons import first_line
from automl.search.trial import Assignment, data_of, make_family_importable, set_threads
from automl.search.watchdog import PREPARING, watch
from automl.training.checkpoint import save_weights
from automl.training.fit import train_epoch
from automl.training.identity import config_digest
from automl.training.named_files import require_unchanged
from automl.training.run_directory import RunDirectory, TrialDirectory, write_json
from automl.training.run_files import Refit, read_part
from automl.training.shard import Shard
from automl.training.start import start


def refit(run: RunDirectory, assignment: Assignment, *, losses: Sequence[float]) -> None:
    """Train the configuration of `assignment` for an epoch for each loss and write `refit/`: weights, and `refit.json`.

    `losses` are those of the trial on the validation rows up to its best epoch. These rows are trained on now and can
    no longer say when to stop or, under the schedule `plateau`, when to lower the learning rate: that is done in the
    epochs in which the trial did it. Nothing is done where the trial has been refitted already; nothing is left where
    the stop file ends it. Where a worker fails, `refit.json` says why, and the model that the search trained stays the
    best.
    """
    record = run.refit_record
    wanted: dict[str, Any] = {"trial": assignment.number, "epochs": len(losses)}
    if assignment.run_id:
        wanted |= {"run": assignment.run_id, "config": config_digest(assignment.config)}
    if wanted.items() <= (read_part(record, Refit) or {}).items():
        return
    failure: list[BaseException] = []

    def fit(scratch: str) -> None:
        try:
            torch_trainer(_refit, assignment, scratch, losses=list(losses)).fit()
        except BaseException as error:
            failure.append(error)

    with private_folder() as scratch:
        # Not in this thread, where Ray Train would take over Ctrl-C: the workers look for the stop file.
        thread = threading.Thread(target=fit, args=(str(scratch),), name="refit", daemon=True)
        thread.start()
        thread.join()
    if assignment.stop_file().is_set():
        return
    write_json(record, wanted | ({"error": first_line(failure[0])} if failure else {}))


def validation_losses(trial: TrialDirectory, epochs: int) -> list[float]:
    """The loss of a trial on the validation rows after each of its first epochs; NaN where it was not finite."""
    trial.fetch(trial.metrics)
    lines = [json.loads(line) for line in trial.metrics.read_text(encoding="utf-8").splitlines()[:epochs]]
    return [math.nan if line["loss"] is None else float(line["loss"]) for line in lines]


def _refit(config: dict[str, Any]) -> None:
    """What each worker does."""
    assignment = Assignment(**json.loads(config["assignment"]))
    context = ray.train.get_context()
    shard = Shard(context.get_world_rank(), context.get_world_size())
    set_threads(assignment.threads)
    folder, stop_file = assignment.directory(), assignment.stop_file()
    with watch(
        folder.stalled.with_name(f"stalled-{shard.rank}.txt"),
        assignment.stall_timeout,
        folder.publish if folder.url else None,
    ) as alive:

        def stopped() -> bool:
            alive(1.0)
            return stop_file.is_set()

        alive(PREPARING)
        make_family_importable(assignment)
        with chdir(assignment.beside()):  # a configuration may name files
            require_unchanged(assignment.named_files, Path(assignment.cache))
            prepared = data_of(assignment)
            training = start(
                assignment.config,
                prepared,
                max_epochs=assignment.max_epochs,
                seed=assignment.training_seed,
                device=worker_device(assignment),
                shard=shard,
                with_validation=True,
            )
        for loss in config["losses"]:
            if train_epoch(training, stopped, plateau_loss=loss) is None:
                return
        if shard.rank == 0:
            folder.path.mkdir(parents=True, exist_ok=True)
            save_weights(training, folder.weights, assignment.identity(prepared))
            folder.publish(folder.weights)
