"""One trial: a network trained an epoch at a time, measured after each, resumable between epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from automl.data import Batch, DenseRows, Prepared, Rows, Streaming, batches, choose_streaming, join_rows
from automl.models import build
from automl.training.augment import augment, mixing_vectors
from automl.training.averaging import start_average, update_average
from automl.training.beginning import begin_with
from automl.training.inference import CHECK_EVERY, predict_probabilities, training_autocast
from automl.training.lexicon import make_lexicon
from automl.training.metrics import compute_metrics
from automl.training.optimization import (
    Loss,
    Plateau,
    build_loss,
    build_optimizer,
    class_weights,
    clip_gradients,
    learning_rate_factor,
)
from automl.training.row_updates import RowTable, find_tables
from automl.training.shard import ALONE, Shard, unsynchronised
from automl.training.transfer import Freezing

MEASURE_ROWS = 256  # rows of a batch when measuring

T = TypeVar("T")


class InterruptionError(Exception):
    """Someone asked to stop in mid-epoch."""


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
    plateau: Plateau = field(default_factory=Plateau)
    epoch: int = 0
    step: int = 0
    rows: int = 0
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

    def wrapped(self) -> nn.Module:
        """The network to train: it averages gradients over all processes, which have to ask for it together first."""
        if self._wrapped is None:
            self._wrapped = self.shard.wrap(self.module)
        return self._wrapped

    def unwrap(self) -> None:
        """Let the next step begin with other weights to train; all processes do it at the same epoch."""
        self._wrapped = None

    def stream(self) -> Iterator[Batch]:
        """Batches from where the trial is, one shuffled pass over the train rows after another, without end.

        The order of a pass depends on the seed and on its number only.
        """
        if self._stream is None:
            self._stream = self._passes()
        return self._stream

    def _passes(self) -> Iterator[Batch]:
        done, start = divmod(self.rows, len(self.train))
        while True:
            done += 1
            shuffle = np.random.default_rng([self.seed, done])
            yield from batches(
                self.train,
                self.settings["batch_size"],
                shuffle=shuffle,
                start=start,
                streaming=self.streaming,
                class_sampling=self.settings.get("class_sampling", 0.0),
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
    return Training(
        module=module,
        optimizer=build_optimizer(settings["optimizer"], module, learned.shares, tables),
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
    )


def _agreed_streaming(train: Rows | DenseRows, shard: Shard, device: torch.device) -> Streaming | None:
    """How rows are streamed in all processes, where one of them cannot hold them in memory: they draw the same rows."""
    chosen = choose_streaming(train)
    return choose_streaming(train, memory=0) if shard.any(chosen is not None, device) else None


def train_epoch(training: Training, interrupted: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
    """Train one epoch and measure on validation; None where `interrupted` became true in mid-epoch.

    Gives epoch (from 1), rows (trained since the trial began), train_loss (the trial's own loss, mean over rows), the
    figures of `compute_metrics` on the validation rows, accumulation (2 once batches had to be halved), seconds (of
    this epoch, measuring included), started (Unix time) and, after the first, what `report` holds. A loss that is not
    finite ends the epoch at once with NaN figures. Rows and dropout of an epoch depend on the seed and the epoch only.
    `interrupted` is asked every `CHECK_EVERY` steps, also while measuring; a training that was interrupted cannot go
    on.

    Where the GPU's memory is too small, the batch that was refused and all later ones pass through the network in
    halves whose gradients are added up, so the update stays that of the whole batch. Raises torch.OutOfMemoryError
    where that is too much too, or where several processes train together.
    """
    started, clock = time.time(), time.perf_counter()
    epoch, shard = training.epoch + 1, training.shard
    if training.freezing is not None and training.freezing.apply(epoch):
        training.unwrap()
    torch.manual_seed(_mix(training.seed, epoch, *([shard.rank] if shard.rank else [])))

    def look() -> None:
        if shard.any(interrupted(), training.device):
            raise InterruptionError

    try:
        mean_loss = train_rows(training, epoch * training.rows_per_epoch, look)
        if math.isfinite(mean_loss):
            probabilities = _halve_if_too_large(training, lambda: _measure(training, look))
        else:
            probabilities = np.full((len(training.validation), 1), np.nan, dtype=np.float32)
    except InterruptionError:
        return None
    training.epoch = epoch
    figures = compute_metrics(probabilities, training.validation.labels)
    training.plateau.see(figures["loss"], training.settings["schedule"])
    return {
        "epoch": epoch,
        "rows": training.rows,
        "train_loss": mean_loss,
        **figures,
        "accumulation": 2 if training.halved else 1,
        "seconds": time.perf_counter() - clock,
        "started": started,
        **(training.report if epoch == 1 else {}),
    }


def train_rows(training: Training, until: int, look: Callable[[], None]) -> float:
    """Train until so many rows are done since the trial began; the mean loss, NaN as soon as it is not finite."""
    optimizer, settings = training.optimizer, training.settings
    ((_, optimizer_settings),) = settings["optimizer"].items()
    before = training.rows
    total = torch.zeros((), device=training.device)
    stream = training.stream()
    training.module.train()
    if training.freezing is not None:
        training.freezing.keep_statistics(training.epoch + 1)
    while training.rows < until:
        if training.step % CHECK_EVERY == 0:
            look()
            if training.shard.any(not total.isfinite(), training.device):
                return math.nan
        factor = learning_rate_factor(settings["schedule"], training.step, training.total_steps)
        factor *= training.plateau.share
        for group in optimizer.param_groups:
            group["lr"] = optimizer_settings["learning_rate"] * factor * group["share"]
        batch = next(stream)
        for table in training.tables:
            table.take(batch.tokens, optimizer)
        total += _halve_if_too_large(training, lambda batch=batch: _gradients(training, batch))  # type: ignore[misc]
        for table in training.tables:
            table.hand_over(optimizer)
        if settings["gradient_clip"] is not None:
            clip_gradients(optimizer, settings["gradient_clip"])
        optimizer.step()
        for table in training.tables:
            table.put_back(optimizer)
        training.rows += len(batch.labels)
        training.step += 1
        if training.average is not None:
            update_average(training.average, training.module, settings["ema"], training.step)
    for table in training.tables:
        table.settle(optimizer)
    mean = training.shard.sum(total).item() / (training.rows - before)
    return mean if math.isfinite(mean) else math.nan


def _gradients(training: Training, batch: Batch) -> Tensor:
    """Leave the gradients of a batch's mean loss in the network; gives the sum of its rows' losses in this process."""
    module = training.wrapped()
    module.zero_grad(set_to_none=True)
    total = torch.zeros((), device=training.device)
    pieces = list(training.shard.pieces(batch, training.accumulation))
    for number, (piece, weight) in enumerate(pieces, start=1):
        labels = piece.labels.to(training.device, non_blocking=True)
        with unsynchronised(module) if number < len(pieces) else nullcontext():
            with training_autocast(training.device, training.settings.get("precision", "auto")):
                inputs = piece.tokens.to(training.device, non_blocking=True)
                lengths = piece.lengths.to(training.device, non_blocking=True)
                mix = None
                if (changes := training.settings.get("augment")) is not None:
                    inputs, lengths, mix = augment(inputs, lengths, changes)
                with mixing_vectors(training.module, mix):
                    logits = module(inputs, lengths).float()
                loss = training.loss(logits, labels)
                if mix is not None:
                    loss = mix.loss(loss, training.loss(logits, labels[mix.partner]))
            (loss * weight).backward()  # type: ignore[no-untyped-call]
        total += loss.detach() * (len(labels) if weight else 0)
    return total


def _measure(training: Training, look: Callable[[], None]) -> npt.NDArray[np.float32]:
    """Probabilities float32 [validation rows, classes]."""
    return predict_probabilities(
        training.measured,
        training.validation,
        device=training.device,
        batch_size=max(1, MEASURE_ROWS // training.accumulation),
        shard=training.shard,
        look=look,
    )


def _halve_if_too_large(training: Training, work: Callable[[], T]) -> T:
    """What `work` gives; it is done again in halves where the GPU's memory was too small for the first time."""
    try:
        return work()
    except torch.OutOfMemoryError:
        # Alone in one of several processes it cannot repeat what the others wait for.
        if training.halved or training.shard.world > 1:
            raise
    # The exception is gone here, and with it what its frames held on the GPU.
    training.halve()
    training.module.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()
    return work()


def _mix(*numbers: int) -> int:
    """One seed for torch from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
