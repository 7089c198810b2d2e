"""One trial: a network trained an epoch at a time, measured after each, resumable between epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from automl.data import Prepared, Rows, batches
from automl.models import build
from automl.training.inference import autocast, predict_probabilities
from automl.training.metrics import compute_metrics
from automl.training.optimization import Loss, build_loss, build_optimizer, learning_rate_factor

CHECK_EVERY = 20  # steps between looks at the loss and at the clock


@dataclass
class Training:
    """A trial in progress; `epoch` counts the epochs that are done."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Loss
    settings: Mapping[str, Any]
    train: Rows
    validation: Rows
    device: torch.device
    seed: int
    steps_per_epoch: int
    total_steps: int
    epoch: int = 0


def start(
    config: Mapping[str, Any], prepared: Prepared, *, max_epochs: int, seed: int, device: torch.device
) -> Training:
    """Build the network and the optimiser of a trial's configuration, `seed` deciding the initial weights.

    The learning-rate schedule spans `max_epochs` over `prepared`'s train rows.
    """
    torch.manual_seed(seed)
    train, validation = prepared.rows("train"), prepared.rows("validation")
    if train is None or validation is None:
        raise ValueError(f"{prepared.path} has no train or no validation rows")
    module = build(config["model"], vocabulary=prepared.vocabulary, classes=len(prepared.classes)).to(device)
    settings = config["training"]
    steps = math.ceil(len(train.labels) / settings["batch_size"])
    return Training(
        module=module,
        optimizer=build_optimizer(settings["optimizer"], module),
        loss=build_loss(settings["loss"]),
        settings=settings,
        train=train,
        validation=validation,
        device=device,
        seed=seed,
        steps_per_epoch=steps,
        total_steps=steps * max_epochs,
    )


def train_epoch(training: Training, interrupted: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
    """Train one epoch and measure on validation; None where `interrupted` became true in mid-epoch.

    Gives epoch (from 1), train_loss (the trial's own loss, mean over rows), the figures of `compute_metrics` on the
    validation rows, seconds (of this epoch, measuring included) and started (Unix time). A loss that is not finite
    ends the epoch at once with NaN figures. Rows and dropout of an epoch depend on the seed and the epoch only.
    """
    started, clock = time.time(), time.perf_counter()
    epoch = training.epoch + 1
    torch.manual_seed(_mix(training.seed, epoch))
    mean_loss = _pass_over(training, np.random.default_rng([training.seed, epoch]), interrupted)
    if mean_loss is None:
        return None
    training.epoch = epoch
    if math.isfinite(mean_loss):
        probabilities = predict_probabilities(training.module, training.validation, device=training.device)
    else:
        shape = (len(training.validation.labels), 1)
        probabilities = np.full(shape, np.nan, dtype=np.float32)
    return {
        "epoch": epoch,
        "train_loss": mean_loss,
        **compute_metrics(probabilities, training.validation.labels),
        "seconds": time.perf_counter() - clock,
        "started": started,
    }


def _pass_over(training: Training, generator: np.random.Generator, interrupted: Callable[[], bool]) -> float | None:
    """One pass over the train rows; the mean loss, NaN as soon as it is not finite, None if interrupted."""
    module, optimizer, settings = training.module, training.optimizer, training.settings
    ((_, optimizer_settings),) = settings["optimizer"].items()
    step = training.epoch * training.steps_per_epoch
    total = torch.zeros((), device=training.device)
    module.train()
    for batch in batches(training.train, settings["batch_size"], shuffle=generator):
        if step % CHECK_EVERY == 0:
            if interrupted():
                return None
            if not total.isfinite():
                return math.nan
        factor = learning_rate_factor(settings["schedule"], step, training.total_steps)
        for group in optimizer.param_groups:
            group["lr"] = optimizer_settings["learning_rate"] * factor
        labels = batch.labels.to(training.device, non_blocking=True)
        with autocast(training.device):
            logits = module(
                batch.tokens.to(training.device, non_blocking=True),
                batch.lengths.to(training.device, non_blocking=True),
            )
            loss = training.loss(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if settings["gradient_clip"] is not None:
            nn.utils.clip_grad_norm_(module.parameters(), settings["gradient_clip"])
        optimizer.step()
        total += loss.detach() * len(labels)
        step += 1
    mean = total.item() / len(training.train.labels)
    return mean if math.isfinite(mean) else math.nan


def _mix(seed: int, epoch: int) -> int:
    """One seed for torch from a trial's seed and an epoch."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
