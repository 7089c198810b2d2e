"""A trial before its first epoch: the network, the optimiser and all that training keeps of them, as one value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from automl.data import Batch, DenseRows, Prepared, Rows, Streaming, batches, choose_streaming, join_rows
from automl.models import build, can_be_recorded, uses_batch_statistics
from automl.training.augment_series import Channels
from automl.training.averaging import start_average
from automl.training.beginning import begin_with
from automl.training.lexicon import make_lexicon
from automl.training.optimization import Loss, Plateau, build_loss, build_optimizer, class_weights
from automl.training.recording import Recorder
from automl.training.row_updates import RowTable, find_tables
from automl.training.shard import ALONE, Shard
from automl.training.transfer import Freezing


@dataclass
class Training:
    """A trial in progress; `epoch`, `step` and `rows` count the epochs, updates and rows that are done.

    `accumulation` is the number of pieces in which a batch passes through the network: what the settings say, and
    twice that once the GPU's memory has been too small. `average` is the moving average of the network's weights, where
    the settings ask for one. `streaming` says how train rows that do not fit into memory are read. `report` is what is
    to be said of the beginning: the first epoch's line has it.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Loss
    settings: Mapping[str, Any]
    train: Rows | DenseRows
    validation: Rows | DenseRows
    device: torch.device
    seed: int
    shard: Shard
    rows_per_epoch: int
    total_steps: float
    accumulation: int
    report: Mapping[str, Any]
    streaming: Streaming | None = None
    freezing: Freezing | None = None
    average: nn.Module | None = None
    tables: Sequence[RowTable] = ()
    channels: Channels | None = None
    """Of series, what their channels are like in train: augmentation goes by it."""
    recorder: Recorder | None = None
    plateau: Plateau = field(default_factory=Plateau)
    epoch: int = 0
    step: int = 0
    rows: int = 0
    said: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    """What it said of the validation rows after the last epoch, float32 [rows, classes]; None if that is too much."""
    _stream: Iterator[Batch] | None = field(default=None, repr=False)
    _wrapped: nn.Module | None = field(default=None, repr=False)

    @property
    def measured(self) -> nn.Module:
        """The network that is measured and kept: with averaged weights where there are some."""
        return self.module if self.average is None else self.average

    @property
    def halved(self) -> bool:
        """Whether the GPU's memory has been too small once."""
        return bool(self.accumulation > self.settings["accumulation"])

    def halve(self) -> None:
        """Let batches pass through the network in half of the rows at a time."""
        self.accumulation = 2 * self.settings["accumulation"]
        self.recorder = None  # what is recorded is of whole batches, and holds memory

    def wrapped(self) -> nn.Module:
        """The network to train: it averages gradients over all processes, which have to ask for it together first."""
        if self._wrapped is None:
            self._wrapped = self.shard.wrap(self.module)
        return self._wrapped

    def unwrap(self) -> None:
        """Let the next step begin with other weights to train; all processes do it at the same epoch."""
        self._wrapped = None
        if self.recorder is not None:
            self.recorder = Recorder(self.optimizer, self.device)

    def stream(self) -> Iterator[Batch]:
        """Batches from where the trial is, one shuffled pass over the train rows after another, without end.

        The order of a pass depends on the seed and on its number only.
        """
        if self._stream is None:
            by_length = not uses_batch_statistics(self.module)
            self._stream = _passes(
                self.train, self.settings, self.seed, self.rows, self.streaming, self.device, by_length
            )
        return self._stream


def _passes(
    train: Rows | DenseRows,
    settings: Mapping[str, Any],
    seed: int,
    rows: int,
    streaming: Streaming | None,
    device: torch.device,
    by_length: bool,
) -> Iterator[Batch]:
    """Passes over the train rows, from where `rows` of them are done; they hold nothing else of the trial."""
    done, start = divmod(rows, len(train))
    while True:
        done += 1
        yield from batches(
            train,
            settings["batch_size"],
            shuffle=np.random.default_rng([seed, done]),
            start=start,
            streaming=streaming,
            class_sampling=settings.get("class_sampling", 0.0),
            by_length=by_length,
            for_gpu=device.type == "cuda",
        )
        start = 0


def start(
    config: Mapping[str, Any],
    prepared: Prepared,
    *,
    max_epochs: int,
    seed: int,
    device: torch.device,
    shard: Shard = ALONE,
    with_validation: bool = False,
) -> Training:
    """Build the network and the optimiser of a trial's configuration, `seed` deciding the initial weights.

    An epoch is a pass over `prepared`'s train rows, or as many rows as `rows_per_epoch` says: it then ends with the
    first batch that reaches them, and the next goes on from there. The learning-rate schedule spans `max_epochs`.
    Each process of data-parallel training calls this with its `shard`; `batch_size` is that of all together. To train
    on the validation rows too (`with_validation`) makes their figures meaningless. Raises UserError where files that
    the configuration names (relative to the current directory) cannot be used.
    """
    torch.manual_seed(seed)
    train, validation = prepared.rows("train"), prepared.rows("validation")
    if train is None or validation is None:
        raise ValueError(f"{prepared.path} has no train or no validation rows")
    if with_validation:
        train = join_rows(train, validation, None if choose_streaming(train) is None else prepared.path)
    lexicon, report = make_lexicon(config["model"], prepared)
    sizes = {"vocabulary": prepared.vocabulary, "classes": len(prepared.classes)}
    module = build(config["model"], **sizes, lexicon=lexicon)
    settings = config["training"]
    learned = begin_with(module, config, prepared.words, prepared.classes)
    module = module.to(device)
    weights = class_weights(train.labels, sizes["classes"], settings.get("class_weights", 0.0))
    tables: list[RowTable] = []
    if device.type == "cpu" and shard.world == 1 and settings["ema"] is None and isinstance(train, Rows):
        # A GPU updates whole tables faster than it could say which rows; averages and other processes need them all.
        tables = find_tables(module, settings["batch_size"] * len(train.tokens) / len(train))
    rows_per_epoch = settings["rows_per_epoch"] or len(train)
    steps_of_pass = math.ceil(len(train) / settings["batch_size"])
    optimizer = build_optimizer(settings["optimizer"], module, learned.shares, tables)
    return Training(
        module=module,
        optimizer=optimizer,
        loss=build_loss(settings["loss"], None if weights is None else weights.to(device)),
        settings=settings,
        train=train,
        validation=validation,
        device=device,
        seed=seed,
        shard=shard,
        rows_per_epoch=rows_per_epoch,
        total_steps=max_epochs * rows_per_epoch * steps_of_pass / len(train),
        accumulation=settings["accumulation"],
        report={**report, **learned.report},
        streaming=_agreed_streaming(train, shard, device),
        freezing=learned.freezing,
        average=None if settings["ema"] is None else start_average(module),
        tables=tables,
        channels=_channels(config["data"], prepared, device),
        recorder=_recorder(config, optimizer, device, shard),
    )


def _channels(data: Mapping[str, Any], prepared: Prepared, device: torch.device) -> Channels | None:
    if "series" not in data:
        return None
    mean, deviation = prepared.profile["mean"], prepared.profile["deviation"]
    found = Channels.of_train(mean, deviation, len(mean) // 2 if data.get("missing") == "mask" else len(mean))
    return Channels(found.mean.to(device), found.deviation.to(device))


def _recorder(
    config: Mapping[str, Any], optimizer: torch.optim.Optimizer, device: torch.device, shard: Shard
) -> Recorder | None:
    """One where a trial is alone on a GPU and what its steps do depends on the shapes of their batches alone.

    A mixed batch's share is a number that Python draws, and so is the rate of PyTorch's Adagrad. Which operations
    can be recorded in the deterministic mode depends on PyTorch's version.
    """
    settings = config["training"]
    changes = settings.get("augment") or {}
    mixes = changes.get("mixup", 0) > 0 or changes.get("cutmix", 0) > 0
    unfit = mixes or isinstance(optimizer, torch.optim.Adagrad) or settings.get("deterministic", False)
    if device.type != "cuda" or shard.world > 1 or settings["accumulation"] > 1 or unfit:
        return None
    return Recorder(optimizer, device) if can_be_recorded(config["model"]) else None


def _agreed_streaming(train: Rows | DenseRows, shard: Shard, device: torch.device) -> Streaming | None:
    """How rows are streamed in all processes, where one of them cannot hold them in memory: they draw the same rows."""
    chosen = choose_streaming(train)
    return choose_streaming(train, memory=0) if shard.any(chosen is not None, device) else None
