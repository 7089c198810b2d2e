"""What the tests of families for images and for series have in common."""

from __future__ import annotations

from typing import Any

import optuna
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from automl.models import FAMILIES, Lexicon, build, lexicon_of
from automl.space import parse, suggest


def drawn(task: str, family: str, more: str, seed: int) -> dict[str, Any]:
    """A configuration at random from a family's space, with `more` settings than its default."""
    text = f"name: x\ntask: {task}\ndata: {{train: t.parquet}}\nmodel: {{{family}: {more}}}"
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return suggest(parse(text, FAMILIES), study.ask())


def made(config: dict[str, Any], classes: int, statistics: Lexicon) -> nn.Module:
    return build(config["model"], vocabulary=0, classes=classes, lexicon=statistics)


def from_a_file(module: nn.Module, config: dict[str, Any], classes: int) -> nn.Module:
    """The network built from its configuration and its saved weights alone."""
    weights = load(save({name: weight.contiguous() for name, weight in module.state_dict().items()}))
    again = made(config, classes, lexicon_of(weights))
    again.load_state_dict(weights)
    return again.eval()


def losses_of_a_step(module: nn.Module, inputs: Tensor, lengths: Tensor, labels: Tensor) -> tuple[float, float]:
    """The loss of a network without dropout before and after one small step."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        loss = nn.functional.cross_entropy(module(inputs, lengths), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    return losses[0], losses[1]
