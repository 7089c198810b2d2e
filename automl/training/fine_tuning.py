"""A pruned network trained on, with what the network before pruning says beside the labels."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from automl.data import DenseRows, Rows, batches
from automl.models import uses_batch_statistics
from automl.training.inference import predict_probabilities
from automl.training.metrics import compute_metrics
from automl.training.optimization import build_optimizer

TEACHER_SHARE = 0.5  # of the loss
CLIP = 1.0


def prune_by_magnitude(module: nn.Module, keep: float) -> dict[str, Tensor]:
    """Set all but the share `keep` of each matrix's weights to zero, the smallest ones (Han et al. 2015, section 3).

    Gives, for each matrix by its parameter's name, which weights are left (bool).
    """
    masks = {}
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2 or min(parameter.shape[:2]) < 2:
            continue
        sizes = parameter.detach().abs()
        threshold = np.quantile(sizes.numpy(), 1 - keep)
        masks[name] = sizes > float(threshold)
        with torch.no_grad():
            parameter.mul_(masks[name])
    return masks


def fine_tune(
    module: nn.Module,
    train: Rows | DenseRows,
    teacher: npt.NDArray[np.float32],
    validation: Rows | DenseRows,
    settings: Mapping[str, Any],
    *,
    epochs: int,
    seed: int,
    metric: str,
    maximize: bool,
    masks: Mapping[str, Tensor] | None = None,
) -> None:
    """Train `module` on the CPU for `epochs`; leave it with the weights of the epoch that is best on validation.

    The loss is the mean of that on the labels and of the cross entropy with the probabilities `teacher` float32 [train
    rows, classes] (distillation, Hinton et al. 2015, at temperature 1). `settings` is a configuration's `training`
    section: its optimiser, whose learning rate falls to zero along a cosine, and its batch size. Weights where a mask
    is false stay zero. `metric` is one of `compute_metrics`.
    """
    torch.manual_seed(seed)
    device = torch.device("cpu")
    told = torch.from_numpy(teacher)
    optimizer = build_optimizer(settings["optimizer"], module)
    by_length = not uses_batch_statistics(module)
    rates = [group["lr"] for group in optimizer.param_groups]
    parameters = dict(module.named_parameters())
    total, step = epochs * math.ceil(len(train) / settings["batch_size"]), 0
    best, kept = -math.inf, copy.deepcopy(module.state_dict())
    for epoch in range(epochs):
        module.train()
        shuffle = np.random.default_rng([seed, epoch])
        for batch in batches(train, settings["batch_size"], shuffle=shuffle, by_length=by_length):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / total))
            optimizer.zero_grad(set_to_none=True)
            logits = module(batch.tokens, batch.lengths)
            on_labels = nn.functional.cross_entropy(logits, batch.labels)
            on_teacher = nn.functional.cross_entropy(logits, told[batch.index])
            loss = (1 - TEACHER_SHARE) * on_labels + TEACHER_SHARE * on_teacher
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), CLIP)
            optimizer.step()
            with torch.no_grad():
                for name, mask in (masks or {}).items():
                    parameters[name].mul_(mask)
            step += 1
        reached = compute_metrics(predict_probabilities(module, validation, device=device), validation.labels)[metric]
        if (reached if maximize else -reached) > best:
            best, kept = reached if maximize else -reached, copy.deepcopy(module.state_dict())
    module.load_state_dict(kept)
    module.eval()
