"""What runs on a worker: one warm actor that trains a trial after another, an epoch for each call of Ray Tune."""

from __future__ import annotations

import json
import math
import os
import platform
from contextlib import chdir
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from ray import tune

from automl.data import Prepared, prepare
from automl.data.files import replace_atomically
from automl.models import count_parameters
from automl.space import UserError
from automl.training.checkpoint import load_checkpoint, save_checkpoint, save_weights
from automl.training.fit import Training, start, train_epoch
from automl.training.inference import default_device
from automl.training.run_directory import TrialDirectory, write_json

CHECKPOINT_SECONDS = 10.0  # an interrupted trial loses at most about so much training, and one epoch


@dataclass(frozen=True)
class Assignment:
    """What a worker needs to know of a trial; travels as JSON, for Ray Tune reads meanings into nested configs."""

    number: int
    config: dict[str, Any]
    epochs_known: int
    max_epochs: int
    seed: int  # of the search: decides how data is split
    training_seed: int
    metric: str
    maximize: bool
    folder: str
    stop_file: str
    cache: str
    working_directory: str
    threads: int


class TrialWorker(tune.Trainable):  # type: ignore[misc]
    """A Ray Tune class trainable; `reset_config` lets Ray give the same process its next trial.

    An exception in a trial is a result with `error`, so that the process stays warm; only a CUDA error, after
    which a process cannot be trusted, is raised and ends it.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first trial."""
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial; nothing is computed before the first `step`."""
        self.assignment = Assignment(**json.loads(new_config["assignment"]))
        self.trial: _RunningTrial | None = None
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch; gives its metrics line, or `error`, or `interrupted`."""
        try:
            if self.trial is None:
                self.trial = _begin(self.assignment)
            return self.trial.next_epoch()
        except torch.AcceleratorError:
            raise
        except UserError as error:
            return {"error": str(error)}
        except Exception as error:
            return {"error": first_line(error)}

    def cleanup(self) -> None:
        """Let go of the trial."""
        self.trial = None


@dataclass
class _RunningTrial:
    assignment: Assignment
    folder: TrialDirectory
    training: Training
    lines: list[dict[str, Any]]
    parameters: int
    best: float | None = None
    seconds_at_checkpoint: float = 0.0

    def next_epoch(self) -> dict[str, Any]:
        """The next epoch that the study does not hold: trained now, or read where a killed run had written it."""
        known = self.assignment.epochs_known
        if known < self.training.epoch:
            self.assignment = Assignment(**{**vars(self.assignment), "epochs_known": known + 1})
            return self._result(known + 1)
        line: dict[str, Any] | None = train_epoch(self.training, lambda: Path(self.assignment.stop_file).exists())
        if line is None:
            return {"interrupted": True}
        line["worker"] = f"{platform.node()}-{os.getpid()}"
        self.lines.append(line)
        with self.folder.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(line), allow_nan=False) + "\n")
        self._keep(line)
        return self._result(self.training.epoch)

    def _result(self, epoch: int) -> dict[str, Any]:
        seconds = sum(line["seconds"] for line in self.lines[:epoch])
        return {**self.lines[epoch - 1], "train_seconds": seconds, "parameters": self.parameters}

    def _keep(self, line: dict[str, Any]) -> None:
        value = line[self.assignment.metric] * (1 if self.assignment.maximize else -1)
        if math.isfinite(value) and (self.best is None or value > self.best):
            self.best = value
            save_weights(self.training, self.folder.weights)
        seconds = sum(line["seconds"] for line in self.lines)
        if seconds - self.seconds_at_checkpoint >= CHECKPOINT_SECONDS:
            self.seconds_at_checkpoint = seconds
            save_checkpoint(self.training, self.folder.checkpoint)


def _begin(assignment: Assignment) -> _RunningTrial:
    torch.set_num_threads(assignment.threads)
    data = json.dumps(assignment.config["data"], sort_keys=True)
    with chdir(assignment.working_directory):  # the file names its data relative to there
        prepared = _prepared(data, assignment.seed, assignment.cache)
    folder = TrialDirectory(Path(assignment.folder))
    folder.path.mkdir(parents=True, exist_ok=True)
    write_json(folder.config, assignment.config)
    training = start(
        assignment.config,
        prepared,
        max_epochs=assignment.max_epochs,
        seed=assignment.training_seed,
        device=default_device(),
    )
    lines: list[dict[str, Any]] = []
    if folder.checkpoint.exists():
        load_checkpoint(training, folder.checkpoint)
        lines = _read_lines(folder.metrics)[: training.epoch]
    with replace_atomically(folder.metrics) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    sign = 1 if assignment.maximize else -1
    return _RunningTrial(
        assignment=assignment,
        folder=folder,
        training=training,
        lines=lines,
        parameters=count_parameters(training.module),
        best=max((sign * line[assignment.metric] for line in lines), default=None),
        seconds_at_checkpoint=sum(line["seconds"] for line in lines),
    )


def first_line(error: BaseException) -> str:
    """An exception in one line of at most 500 characters."""
    words = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {words}"[:500]


def _finite(line: dict[str, Any]) -> dict[str, Any]:
    """The line with null for what is not finite, which JSON cannot say."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in line.items()
    }


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file; a line that a crash tore is none."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


@lru_cache(maxsize=4)
def _prepared(data: str, seed: int, cache: str) -> Prepared:
    """Prepared data stays open from trial to trial."""
    return prepare(json.loads(data), seed=seed, cache=Path(cache))
