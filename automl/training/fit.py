"""One trial: a network trained an epoch at a time, measured after each, resumable between epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from automl.data import Batch
from automl.training.answers import MOST_NUMBERS
from automl.training.augment import Mix, augment, mixing_vectors
from automl.training.averaging import update_average
from automl.training.determinism import deterministic
from automl.training.inference import CHECK_EVERY, predict_probabilities, training_autocast
from automl.training.metrics import compute_metrics
from automl.training.optimization import begin_momentum, clip_gradients, learning_rate_factor
from automl.training.shard import unsynchronised
from automl.training.start import Training

MEASURE_ROWS = 256  # rows of a batch when measuring

T = TypeVar("T")


class InterruptionError(Exception):
    """Someone asked to stop in mid-epoch."""


def train_epoch(
    training: Training, interrupted: Callable[[], bool] = lambda: False, *, plateau_loss: float | None = None
) -> dict[str, Any] | None:
    """Train one epoch and measure on validation; None where `interrupted` became true in mid-epoch.

    Gives epoch (from 1), rows (trained since the trial began), train_loss (the trial's own loss, mean over rows), the
    figures of `compute_metrics` on the validation rows, accumulation (2 once batches had to be halved), seconds (of
    this epoch, measuring included), started (Unix time) and, after the first, what `report` holds. A loss that is not
    finite ends the epoch at once with NaN figures. Rows and dropout of an epoch depend on the seed and the epoch only.
    `interrupted` is asked every `CHECK_EVERY` steps, also while measuring; a training that was interrupted cannot go
    on. The schedule `plateau` follows the validation loss or, where the validation rows are trained on, `plateau_loss`.

    Where the GPU's memory is too small, the batch that was refused and all later ones pass through the network in
    halves whose gradients are added up, so the update stays that of the whole batch. Raises torch.OutOfMemoryError
    where that is too much too, or where several processes train together.
    """
    started, clock = time.time(), time.perf_counter()
    epoch, shard = training.epoch + 1, training.shard
    if training.freezing is not None:
        if training.freezing.apply(epoch):
            training.unwrap()
        begin_momentum(training.optimizer, training.tables)
    torch.manual_seed(_mix(training.seed, epoch, *([shard.rank] if shard.rank else [])))

    def look() -> None:
        if shard.any(interrupted(), training.device):
            raise InterruptionError

    try:
        with deterministic(training.device, training.settings.get("deterministic", False)):
            mean_loss = train_rows(training, epoch * training.rows_per_epoch, look)
            if math.isfinite(mean_loss):
                probabilities = _halve_if_too_large(training, lambda: _measure(training, look))
            else:
                probabilities = np.full((len(training.validation), 1), np.nan, dtype=np.float32)
    except InterruptionError:
        return None
    training.epoch = epoch
    training.said = probabilities if probabilities.size <= MOST_NUMBERS else None
    figures = compute_metrics(probabilities, training.validation.labels)
    training.plateau.see(figures["loss"] if plateau_loss is None else plateau_loss, training.settings["schedule"])
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
        total += _halve_if_too_large(training, partial(_step, training, batch))
        training.rows += len(batch.labels)
        training.step += 1
        if training.average is not None:
            update_average(training.average, training.module, settings["ema"], training.step)
    for table in training.tables:
        table.settle(optimizer)
    mean = training.shard.sum(total).item() / (training.rows - before)
    return mean if math.isfinite(mean) else math.nan


def _step(training: Training, batch: Batch) -> Tensor:
    """Update the weights once; gives the sum of the losses of the batch's rows in this process."""
    if training.recorder is not None:
        inputs, lengths = batch.tokens, batch.lengths
        if training.settings.get("augment") is not None:
            inputs, lengths, _ = _augmented(training, batch)
        return training.recorder.run(partial(_whole_step, training), inputs, lengths, batch.labels) * len(batch.labels)
    for table in training.tables:
        table.take(batch.tokens, training.optimizer)
    total = _gradients(training, batch)
    for table in training.tables:
        table.hand_over(training.optimizer)
    _update(training)
    for table in training.tables:
        table.put_back(training.optimizer)
    return total


def _whole_step(training: Training, inputs: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
    """Update the weights for a batch that is neither cut nor mixed, and forget the gradients; gives its mean loss."""
    loss = _backward(training, training.module, inputs, lengths, labels)
    _update(training)
    training.module.zero_grad(set_to_none=True)
    return loss


def _gradients(training: Training, batch: Batch) -> Tensor:
    """Leave the gradients of a batch's mean loss in the network; gives the sum of its rows' losses in this process."""
    module = training.wrapped()
    module.zero_grad(set_to_none=True)
    total = torch.zeros((), device=training.device)
    pieces = list(training.shard.pieces(batch, training.accumulation))
    for number, (piece, weight) in enumerate(pieces, start=1):
        inputs, lengths, mix = _augmented(training, piece)
        labels = piece.labels.to(training.device, non_blocking=True)
        with unsynchronised(module) if number < len(pieces) else nullcontext():
            loss = _backward(training, module, inputs, lengths, labels, mix, weight)
        total += loss * (len(labels) if weight else 0)
    return total


def _augmented(training: Training, batch: Batch) -> tuple[Tensor, Tensor, Mix | None]:
    """Inputs and lengths on the device, changed as the settings say, and what was mixed."""
    inputs = batch.tokens.to(training.device, non_blocking=True)
    lengths = batch.lengths.to(training.device, non_blocking=True)
    changes = training.settings.get("augment")
    return (inputs, lengths, None) if changes is None else augment(inputs, lengths, changes, training.channels)


def _backward(
    training: Training,
    module: nn.Module,
    inputs: Tensor,
    lengths: Tensor,
    labels: Tensor,
    mix: Mix | None = None,
    weight: float = 1.0,
) -> Tensor:
    """Add to the network's gradients those of the rows' mean loss times `weight`; gives the mean loss."""
    with training_autocast(training.device, training.settings.get("precision", "auto")):
        with mixing_vectors(training.module, mix):
            logits = module(inputs, lengths).float()
        loss = training.loss(logits, labels)
        if mix is not None:
            loss = mix.loss(loss, training.loss(logits, labels[mix.partner]))
    (loss * weight).backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _update(training: Training) -> None:
    longest = training.settings["gradient_clip"]
    if longest is not None:
        clip_gradients(training.optimizer, longest)
    training.optimizer.step()


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
