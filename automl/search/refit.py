"""The winner of a search trained once more, on train and validation rows together, through Ray Train."""

from __future__ import annotations

import json
import tempfile
import threading
from contextlib import chdir
from typing import Any

import ray.train

from automl.search.data_parallel import torch_trainer
from automl.search.reasons import first_line
from automl.search.trial import Assignment, data_of, make_family_importable, set_threads
from automl.search.watchdog import PREPARING, watch
from automl.training.checkpoint import save_weights
from automl.training.fit import train_epoch
from automl.training.run_directory import RunDirectory, read_json, write_json
from automl.training.shard import Shard
from automl.training.start import start


def refit(run: RunDirectory, assignment: Assignment, *, epochs: int) -> None:
    """Train the configuration of `assignment` for `epochs` epochs and write `refit/`: the weights, and `refit.json`.

    `epochs` are those after which the trial was best on validation, which can no longer say when to stop. Nothing is
    done where the trial has been refitted already; nothing is left where the stop file ends it. Where a worker fails,
    `refit.json` says why, and the model that the search trained stays the best.
    """
    record = run.refit_record
    wanted = {"trial": assignment.number, "epochs": epochs}
    if record.exists() and wanted.items() <= read_json(record).items():
        return
    failure: list[BaseException] = []

    def fit(scratch: str) -> None:
        try:
            torch_trainer(_refit, assignment, scratch, epochs=epochs).fit()
        except BaseException as error:
            failure.append(error)

    with tempfile.TemporaryDirectory(prefix="automl-refit-") as scratch:
        # Not in this thread, where Ray Train would take over Ctrl-C: the workers look for the stop file.
        thread = threading.Thread(target=fit, args=(scratch,), name="refit")
        thread.start()
        thread.join()
    if assignment.stop_file().is_set():
        return
    write_json(record, wanted | ({"error": first_line(failure[0])} if failure else {}))


def _refit(config: dict[str, Any]) -> None:
    """What each worker does."""
    assignment = Assignment(**json.loads(config["assignment"]))
    context = ray.train.get_context()
    shard = Shard(context.get_world_rank(), context.get_world_size())
    set_threads(assignment.threads)
    folder, stop_file = assignment.directory(), assignment.stop_file()
    with watch(folder.stalled.with_name(f"stalled-{shard.rank}.txt"), assignment.stall_timeout) as alive:

        def stopped() -> bool:
            alive(1.0)
            return stop_file.is_set()

        alive(PREPARING)
        make_family_importable(assignment)
        with chdir(assignment.beside()):  # a configuration may name files
            training = start(
                assignment.config,
                data_of(assignment),
                max_epochs=assignment.max_epochs,
                seed=assignment.training_seed,
                device=ray.train.torch.get_device(),
                shard=shard,
                with_validation=True,
            )
        for _ in range(config["epochs"]):
            if train_epoch(training, stopped) is None:
                return
        if shard.rank == 0:
            folder.path.mkdir(parents=True, exist_ok=True)
            save_weights(training, folder.weights)
            folder.publish(folder.weights)
