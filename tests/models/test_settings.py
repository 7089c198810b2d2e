"""No setting of a family is without effect."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from automl.models import FAMILIES, Lexicon, build
from automl.space import parse, sample_configs
from automl.space.spec import tasks_of
from tests.models.test_families import LEXICON, VOCABULARY

# Of each setting two values, the first of which is what the others are compared at.
VALUES: dict[str, tuple[Any, Any]] = {
    "embedding": (8, 12),
    "vectors": (None, {"source": "v.txt", "use": "frozen"}),
    "subwords": (None, {"buckets": 30}),
    "token_dropout": (0.0, 0.5),
    "dropout": (0.0, 0.5),
    "activation": ("relu", "tanh"),
    "head": (4, 0),
    "kernel_sizes": ([2, 3], [4]),
    "kernel_size": (3, 2),
    "kernel": (3, 5),
    "channels": (8, 16),
    "pooling": ("max", "mean"),
    "stride": (1, 2),
    "cell": ("lstm", "gru"),
    "hidden": (8, 16),
    "layers": (1, 2),
    "bidirectional": (False, True),
    "recurrent_dropout": (0.0, 0.5),
    "layer_norm": (False, True),
    "blocks": (2, 3),
    "causal": (False, True),
    "halving": (False, True),
    "normalisation": ("none", "layer"),
    "residual": (False, True),
    "separable": (False, True),
    "squeeze_excitation": (False, True),
    "stages": (2, 3),
    "depth": (1, 2),
    "width": (8, 16),
}
OF_IMAGES = {"normalisation": ("batch", "none")}
CASES = [
    (task, family, setting)
    for family, section in FAMILIES.items()
    for task in tasks_of(section)
    for setting in section.model_fields
    if family != "pretrained" and not (setting in ("vectors", "subwords") and task != "text_classification")
]


def values_of(task: str) -> dict[str, tuple[Any, Any]]:
    return VALUES | (OF_IMAGES if task.startswith("image") else {})


def outputs(task: str, family: str, changed: dict[str, Any]) -> torch.Tensor:
    """What the network says in training, everything random drawn from one seed."""
    settings = {
        name: values_of(task)[name][0]
        for name in FAMILIES[family].model_fields
        if task == "text_classification" or name not in ("vectors", "subwords")
    }
    text = f"name: x\ntask: {task}\ndata: {{train: t.parquet}}\nmodel: {{{family}: {json.dumps(settings | changed)}}}"
    config = sample_configs(parse(text, FAMILIES), 1, seed=0)[0]
    torch.manual_seed(0)
    if task == "text_classification":
        module = build(config["model"], vocabulary=VOCABULARY, classes=3, lexicon=LEXICON)
        inputs = torch.randint(1, VOCABULARY, (4, 9))
    else:
        statistics = Lexicon(mean=torch.zeros(2), deviation=torch.ones(2))
        module = build(config["model"], vocabulary=0, classes=3, lexicon=statistics)
        shape = (4, 9, 9, 2) if task.startswith("image") else (4, 9, 2)
        inputs = torch.randint(0, 256, shape, dtype=torch.uint8) if task.startswith("image") else torch.randn(shape)
    torch.manual_seed(1)
    said: torch.Tensor = module.train()(inputs, torch.full((4,), 9))
    return said.detach()


@pytest.mark.parametrize(("task", "family", "setting"), CASES)
def test_every_setting_changes_what_a_network_computes(task: str, family: str, setting: str) -> None:
    first, second = (outputs(task, family, {setting: value}) for value in values_of(task)[setting])
    assert torch.equal(first, outputs(task, family, {}))
    assert not torch.equal(first, second)
