"""Trials that do nothing and report three times: what they search, and what they leave behind."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import optuna

from automl.data.files import replace_atomically
from automl.search.trainable import TrialWorker
from automl.training.run_directory import TrialDirectory, write_json

REPORTS = 3
REPORTS_FILE = "TURNAROUND_REPORTS"  # names the file that grows by a byte with every report of any trial

SPACE = """
name: null-trials
data: {{train: {folder}/train.jsonl, validation: {folder}/validation.jsonl}}
model:
  cnn: {{channels: {{int: [4, 64], log: true}}, dropout: {{float: [0.0, 0.6]}}, embedding: 8, token_dropout: 0,
         kernel_sizes: [3], activation: relu, pooling: max}}
  rnn: {{hidden: {{int: [4, 64], log: true}}, dropout: {{float: [0.0, 0.6]}}, embedding: 8, token_dropout: 0,
         cell: lstm, bidirectional: false, pooling: max}}
training:
  optimizer: {{adamw: {{learning_rate: {{float: [1e-4, 1e-1], log: true}}}}}}
  batch_size: {{choice: [32, 64, 128]}}
search: {{trials: {trials}, early_stopping: {early_stopping}}}
resources: {{per_trial: {{cpus: 1}}}}
"""


def suggest(trial: optuna.Trial) -> None:
    """The same conditional space for Optuna."""
    family = trial.suggest_categorical("family", ["cnn", "rnn"])
    trial.suggest_int(f"{family}.{'channels' if family == 'cnn' else 'hidden'}", 4, 64, log=True)
    trial.suggest_float(f"{family}.dropout", 0.0, 0.6)
    trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    trial.suggest_categorical("batch_size", [32, 64, 128])


def accuracy(learning_rate: float, epoch: int) -> float:
    """What a trial reports: a curve that rises, higher for some learning rates than for others."""
    return 0.9 - abs(learning_rate - 1e-2) - 0.3 / epoch


def count_report() -> None:
    """Let whoever measures from outside know of a report."""
    with Path(os.environ[REPORTS_FILE]).open("ab", buffering=0) as file:
        file.write(b".")


class NullWorker(TrialWorker):
    """Writes what a trial writes, its configuration and a metrics line for each epoch, and trains nothing."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        super().reset_config(new_config)
        self.epoch = 0
        return True

    def step(self) -> dict[str, Any]:
        started = time.time()
        folder = TrialDirectory(Path(self.assignment.folder))
        if self.epoch == 0:
            folder.path.mkdir(parents=True, exist_ok=True)
            write_json(folder.config, self.assignment.config)
            with replace_atomically(folder.metrics) as temporary:
                temporary.write_text("")
        self.epoch += 1
        value = accuracy(self.assignment.config["training"]["optimizer"]["adamw"]["learning_rate"], self.epoch)
        figures = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), value)
        line = {"epoch": self.epoch, "train_loss": 1 - value, **figures, "loss": 1 - value}
        line |= {"seconds": time.time() - started, "started": started, "worker": str(os.getpid())}
        with folder.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        count_report()
        return {**line, "train_seconds": line["seconds"] * self.epoch, "parameters": 1, "bytes": 4}
