"""One trial on a worker: begun where its folder says it was, trained an epoch at a time, written down after each."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from automl.data import Prepared, prepare
from automl.data.copies import DRIVEN, hold, remove_if_unused, use_copy
from automl.data.files import replace_atomically
from automl.models import count_parameters
from automl.search.reasons import ONE_CLASS
from automl.search.stop_file import StopFile
from automl.search.watchdog import PREPARING
from automl.training.answers import write_answers
from automl.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint, save_weights
from automl.training.fit import train_epoch
from automl.training.identity import Identity, identity_of, weights_identity
from automl.training.inference import default_device
from automl.training.latency import latencies
from automl.training.named_files import require_unchanged
from automl.training.run_directory import TrialDirectory, write_json
from automl.training.shard import ALONE, Shard
from automl.training.start import Training, start

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
    folder: str  # of the trial
    run_folder: str
    cache: str
    working_directory: str
    threads: int
    url: str | None = None  # of the trial's folder in a store, where nodes share no file system
    run_url: str | None = None
    run_id: str = ""  # of a run of an earlier version there is none
    shared_cache: str | None = None  # the URL where prepared data is kept for all nodes
    measure_latency: bool = False
    family_folder: str | None = None  # where a family of the user's own lies
    keeps_answers: bool = False  # what it says of the validation rows at its best epoch
    pauses: list[int] = field(default_factory=list)  # epochs after which the trial may have to wait
    stall_timeout: float | None = None
    files: str | None = None  # the digest of the data files that the run began with (`Prepared.files`)
    named_files: dict[str, str] = field(default_factory=dict)  # digests of other files, as the run began with them
    workers: int = 1
    worker_resources: dict[str, float] = field(default_factory=dict)  # of each worker, in Ray's names

    def directory(self) -> TrialDirectory:
        """The trial's folder."""
        return TrialDirectory(Path(self.folder), self.url)

    def device(self) -> torch.device:
        """What a worker computes on: never a GPU where it was given none."""
        return default_device() if self.worker_resources.get("GPU", 0) > 0 else torch.device("cpu")

    def held(self) -> dict[str, float]:
        """CPUs and GPUs that the trial's workers hold together."""
        return {f"{name.lower()}s": self.worker_resources.get(name, 0) * self.workers for name in ("CPU", "GPU")}

    def beside(self) -> Path:
        """The folder that relative names of files are relative to; here, on a node that has no such folder."""
        there = Path(self.working_directory)
        return there if there.is_dir() else Path.cwd()

    def stop_file(self) -> StopFile:
        """What says that the search is to end."""
        return StopFile(Path(self.run_folder), self.run_url)

    def identity(self, prepared: Prepared) -> Identity | None:
        """Whose the trial's checkpoint and weights are."""
        return identity_of(self.run_id, self.config, prepared.fingerprint)


@dataclass
class RunningTrial:
    """A trial in progress; of several processes that train it only the first writes."""

    assignment: Assignment
    folder: TrialDirectory
    training: Training
    lines: list[dict[str, Any]]
    costs: dict[str, float]  # of the network: parameters, bytes and, where it is an objective, latency_ms
    alive: Callable[[float], None]
    stop_file: StopFile
    identity: Identity | None = None
    note: str = ""
    best: float | None = None
    seconds_at_checkpoint: float = 0.0

    def next_epoch(self) -> dict[str, Any]:
        """The next epoch that the study does not hold: trained now, or read where a killed run had written it.

        Gives the epoch's metrics line with train_seconds, cpu_hours and gpu_hours (of all epochs), parameters, bytes
        (of the weights), latency_ms where it is asked for and, of a GPU, gpu_memory (the share in use when this trial
        had most of it) and gpu_reserved (the share that this trial itself had then), or `interrupted` where the stop
        file is there, or `error` where the metric is no number.
        """
        known = self.assignment.epochs_known
        if known < self.training.epoch:
            self.assignment = replace(self.assignment, epochs_known=known + 1)
            return self._result(known + 1)
        # All processes end, or none: one alone would leave the others waiting for its gradients.
        stopped = self.training.shard.any(self.stop_file.is_set(), self.training.device)
        line = None if stopped else train_epoch(self.training, self._look)
        if line is None:
            return {"interrupted": True}
        value = line.get(self.assignment.metric)
        if self.assignment.metric not in line and self.assignment.metric == "auroc":
            return {"error": f"{ONE_CLASS}, of which there is no {self.assignment.metric}"}
        if not isinstance(value, int | float):
            return {"error": f"its {self.assignment.metric} after epoch {line['epoch']} is no number: {value!r:.60}"}
        line["worker"] = f"{platform.node()}-{os.getpid()}"
        line |= self.assignment.held()
        if self.note:
            line["note"], self.note = self.note, ""
        self.lines.append(line)
        if self.training.shard.rank == 0:
            _append(self.folder.metrics, json.dumps(_finite(line), allow_nan=False) + "\n")
            self.folder.publish(self.folder.metrics, *self._keep(line, value))
        self.assignment = replace(self.assignment, epochs_known=max(known, self.training.epoch))
        return self._result(self.training.epoch)

    def _look(self) -> bool:
        self.alive(1.0)
        return self.stop_file.is_set()

    def _result(self, epoch: int) -> dict[str, Any]:
        lines = self.lines[:epoch]
        result = {**lines[-1], "train_seconds": sum(line["seconds"] for line in lines), **self.costs}
        for name in ("cpu", "gpu"):
            result[f"{name}_hours"] = sum(line["seconds"] * line.get(f"{name}s", 0) for line in lines) / 3600
        if self.training.device.type == "cuda":
            result |= _gpu_shares(self.training.device)
        return result

    def _keep(self, line: dict[str, Any], value: float) -> list[Path]:
        """Write weights and checkpoint where it is time; gives what was written."""
        written = []
        value *= 1 if self.assignment.maximize else -1
        if math.isfinite(value) and (self.best is None or value > self.best):
            self.best = value
            save_weights(self.training, self.folder.weights, self.identity)
            written.append(self.folder.weights)
            said = self.training.said
            keeps = self.assignment.keeps_answers
            if keeps and write_answers(self.folder.answers, said, line["epoch"], self.identity):
                written.append(self.folder.answers)
        seconds = sum(line["seconds"] for line in self.lines)
        if line["epoch"] in self.assignment.pauses or seconds - self.seconds_at_checkpoint >= CHECKPOINT_SECONDS:
            self.seconds_at_checkpoint = seconds
            save_checkpoint(self.training, self.folder.checkpoint, self.identity)
            written.append(self.folder.checkpoint)
        return written


def begin(
    assignment: Assignment,
    *,
    device: torch.device,
    alive: Callable[[float], None] = lambda factor: None,
    shard: Shard = ALONE,
    halved: bool = False,
) -> RunningTrial:
    """Put a trial where its folder says it was: after its last checkpoint, or at its beginning.

    `alive` is called as a sign of progress. A checkpoint that cannot be used is removed, and the trial begins anew;
    its next line then says so. `halved` says that whole batches are known to be too large for the GPU's memory.
    """
    alive(PREPARING)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    make_family_importable(assignment)
    prepared = data_of(assignment)
    folder = assignment.directory()
    folder.path.mkdir(parents=True, exist_ok=True)
    with chdir(assignment.beside()):  # a configuration may name files
        require_unchanged(assignment.named_files, Path(assignment.cache))
        training, lines, note = _restore(assignment, prepared, folder, device, shard)
    alive(1.0)
    if halved:
        training.halve()
    if shard.rank == 0:
        identity = assignment.identity(prepared)
        if identity is not None and folder.weights.exists() and weights_identity(folder.weights) != identity:
            folder.weights.unlink()  # of an earlier run in this place; what is in a store is compared when it is used
            folder.answers.unlink(missing_ok=True)
        write_json(folder.config, assignment.config)
        with replace_atomically(folder.metrics) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        folder.publish(folder.config, folder.metrics)
    sign = 1 if assignment.maximize else -1
    return RunningTrial(
        assignment=assignment,
        folder=folder,
        training=training,
        lines=lines,
        costs=_costs(training, assignment),
        alive=alive,
        stop_file=assignment.stop_file(),
        identity=assignment.identity(prepared),
        note=note,
        best=max((sign * line[assignment.metric] for line in lines), default=None),
        seconds_at_checkpoint=sum(line["seconds"] for line in lines),
    )


def hold_folder(assignment: Assignment) -> int | None:
    """Let no other process remove the trial's folder where that is a copy of one in a store; for `let_go`."""
    folder = assignment.directory()
    if folder.url is None:
        return None
    copy = Path(assignment.run_folder).parent
    if copy.parent.name.startswith(DRIVEN):
        use_copy(copy)
    return hold(folder.path)


def let_go(assignment: Assignment, lock: int | None) -> None:
    """Remove the copy of a trial's folder, unless another process uses it too: all that counts is in the store."""
    if lock is not None:
        os.close(lock)
        remove_if_unused(assignment.directory().path)


def _gpu_shares(device: torch.device) -> dict[str, float]:
    """`gpu_memory`, the share of a GPU's memory that was in use when this trial had most of it, by whomever, and
    `gpu_reserved`, the share that PyTorch had reserved for this trial then."""
    free, total = torch.cuda.mem_get_info(device)
    most = torch.cuda.max_memory_reserved(device)
    given_back = most - torch.cuda.memory_reserved(device)
    return {"gpu_memory": min(1.0, (total - free + given_back) / total), "gpu_reserved": most / total}


def _costs(training: Training, assignment: Assignment) -> dict[str, float]:
    """What the network of a trial costs; its latency in CPU time of the thread, as other trials run beside it."""
    module = training.module
    weights = module.state_dict().values()
    found: dict[str, float] = {
        "parameters": count_parameters(module),
        "bytes": sum(weight.numel() * weight.element_size() for weight in weights),
    }
    if assignment.measure_latency and training.shard.rank == 0:
        found["latency_ms"] = round(float(np.median(latencies(module, training.validation, clock=time.thread_time))), 4)
    return found


def _restore(
    assignment: Assignment, prepared: Prepared, folder: TrialDirectory, device: torch.device, shard: Shard
) -> tuple[Training, list[dict[str, Any]], str]:
    """The training after its last checkpoint with its metrics lines, or a new one, and why not the former.

    Several processes go on from the same epoch: where one of them cannot, all begin anew.
    """

    def fresh() -> Training:
        return start(
            assignment.config,
            prepared,
            max_epochs=assignment.max_epochs,
            seed=assignment.training_seed,
            device=device,
            shard=shard,
        )

    training, lines, note = fresh(), list[dict[str, Any]](), ""  # which processes make together
    if shard.rank > 0:
        shard.wait(device)  # until the first one is done with the checkpoint
    folder.fetch(folder.metrics, folder.checkpoint)
    if folder.checkpoint.exists():
        try:
            load_checkpoint(training, folder.checkpoint, assignment.identity(prepared))
            lines = _read_lines(folder.metrics, training.epoch)
        except CheckpointError as error:
            folder.remove(folder.checkpoint)
            note = f"began anew: {error}"
    if shard.rank == 0:
        shard.wait(device)
    epochs = shard.sum(torch.tensor(float(training.epoch), device=device)).item()
    if shard.any(bool(note) or epochs != training.epoch * shard.world, device):
        return fresh(), [], note or "began anew: another process cannot use the checkpoint"
    return training, lines, ""


def make_family_importable(assignment: Assignment) -> None:
    """Let this process import the user's own family of a trial, where it is of one."""
    if assignment.family_folder is not None and assignment.family_folder not in sys.path:
        sys.path.append(assignment.family_folder)


def set_threads(threads: int) -> None:
    """Let this process compute with so many threads, also in the tokenizers, and run one operation at a time."""
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    os.environ["RAYON_NUM_THREADS"] = str(threads)


def _finite(line: dict[str, Any]) -> dict[str, Any]:
    """The line with null for what is not finite, which JSON cannot say."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in line.items()
    }


def _append(path: Path, line: str) -> None:
    """Add a line to a file, whole or, where the disk is full (OSError), not at all."""
    with path.open("ab", buffering=0) as file:
        end, content = file.tell(), line.encode()
        try:
            while content:  # a write may stop short
                content = content[file.write(content) :]
        except OSError:
            file.truncate(end)
            raise


def _read_lines(path: Path, epochs: int) -> list[dict[str, Any]]:
    """The lines of the first `epochs` epochs; raises CheckpointError where they are not all there."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:epochs]]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} is damaged") from error
    if not all(isinstance(line, dict) for line in lines):
        raise CheckpointError(f"{path.name} is damaged")
    if len(lines) != epochs or any(line.get("epoch") != epoch for epoch, line in enumerate(lines, 1)):
        raise CheckpointError(f"{path.name} lacks epochs of the checkpoint")
    return lines


def data_of(assignment: Assignment) -> Prepared:
    """The data of a trial, prepared or found prepared; stays open from trial to trial."""
    data = json.dumps(assignment.config["data"], sort_keys=True)
    with chdir(assignment.beside()):  # the file names its data relative to there
        return _prepared(data, assignment.seed, assignment.cache, assignment.shared_cache, assignment.files)


@lru_cache(maxsize=4)
def _prepared(data: str, seed: int, cache: str, shared: str | None, files: str | None) -> Prepared:
    return prepare(json.loads(data), seed=seed, cache=Path(cache), shared=shared, known=files)
