"""What runs on a worker: one warm actor that trains a trial after another, an epoch for each call of Ray Tune."""

from __future__ import annotations

import gc
import json
from typing import Any

import torch
from ray import tune

from automl.search.reasons import result_of
from automl.search.trial import Assignment, RunningTrial, begin, hold_folder, let_go, set_threads
from automl.search.watchdog import stall_of, watch

__all__ = ["Assignment", "TrialWorker"]


class TrialWorker(tune.Trainable):  # type: ignore[misc]
    """A Ray Tune class trainable; `reset_config` lets Ray give the same process its next trial.

    An exception in a trial is a result with `error`, so that the process stays warm; only a CUDA error, after
    which a process cannot be trusted, is raised and ends it, as does a trial that makes no progress.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first trial."""
        self.trial: RunningTrial | None = None
        self.assignment: Assignment | None = None
        self.lock: int | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial; nothing is computed before the first `step`."""
        self.cleanup()
        self.assignment = Assignment(**json.loads(new_config["assignment"]))
        self.lock = hold_folder(self.assignment)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch; gives its metrics line, or `error`, `interrupted`, or `disk_full`."""
        result = self._epoch()
        if "error" in result or "disk_full" in result:
            self.trial = None
            gc.collect()
            self.cleanup()
        return result

    def _epoch(self) -> dict[str, Any]:
        assert self.assignment is not None  # from `setup` on
        if self.lock is None:  # after an error
            self.lock = hold_folder(self.assignment)
        folder = self.assignment.directory()
        stalled, publish = folder.stalled, folder.publish if folder.url else None
        if publish and self.trial is None and (reason := stall_of(folder, stalled)):
            return {"error": reason}  # it ended a worker on this node, which nobody else could see
        try:
            with watch(stalled, self.assignment.stall_timeout, publish) as alive:
                if self.trial is None:
                    set_threads(self.assignment.threads)
                    self.trial = begin(self.assignment, device=self.assignment.device(), alive=alive)
                self.trial.alive = alive
                return self.trial.next_epoch()
        except torch.AcceleratorError:
            raise
        except (Exception, SystemExit) as error:
            halved = self.trial is not None and self.trial.training.halved
            return result_of(error, self.assignment.folder, halved=halved)

    def cleanup(self) -> None:
        """Let go of the trial, of its folder's copy, and of a GPU's memory, which others may share."""
        self.trial = None
        if self.assignment is not None:
            let_go(self.assignment, self.lock)
            self.lock = None
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
