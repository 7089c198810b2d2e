"""What only a GPU does: bfloat16, recorded steps, and memory that is really too small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from automl.data import Prepared
from automl.training.checkpoint import load_checkpoint, save_checkpoint
from automl.training.fit import train_epoch
from automl.training.inference import predict_probabilities
from automl.training.start import Training, start
from tests.training.test_resumed import CASES, drawn, folder, torchvision

__all__ = ["folder", "torchvision"]  # fixtures

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU with CUDA")]
GPU = torch.device("cuda")
SEEDS = range(6)


def begin(config: dict[str, Any], prepared: Prepared, *, recorded: bool = True) -> Training:
    training = start(config, prepared, max_epochs=8, seed=1, device=GPU)
    if not recorded:
        training.recorder = None
    return training


def figures(training: Training) -> dict[str, Any]:
    line = train_epoch(training)
    assert line is not None
    return {name: value for name, value in line.items() if name not in ("seconds", "started")}


@pytest.mark.parametrize(("task", "family"), CASES, ids=lambda value: value.split("_")[0])
def test_recorded_steps_are_the_steps(folder: Path, task: str, family: str) -> None:
    for seed in SEEDS:
        compare_recorded(folder, task, family, seed)


def compare_recorded(folder: Path, task: str, family: str, seed: int) -> None:
    """To rounding: sums of some kernels come in any order, and some optimisers make much of the least gradient."""
    config, prepared = drawn(folder, task, family, seed)
    config["training"] |= {"precision": "float32", "accumulation": 1}
    recorded, plain = begin(config, prepared), begin(config, prepared, recorded=False)
    for _ in range(4):
        first, second = figures(recorded), figures(plain)
        assert first["train_loss"] == pytest.approx(second["train_loss"], rel=1e-2)
    other = plain.module.state_dict()
    for name, value in recorded.module.state_dict().items():
        if value.ndim >= 2:  # biases may have no gradient but rounding
            distance = (value.double() - other[name].double()).norm()
            assert distance <= 0.05 * other[name].double().norm() + 1e-3, name
    changes = config["training"].get("augment") or {}
    mixes = changes.get("mixup", 0) > 0 or changes.get("cutmix", 0) > 0
    ((_, settings),) = config["model"].items()
    dropped = settings.get("recurrent_dropout", 0) > 0
    if family == "pretrained" or mixes or dropped or "adagrad" in config["training"]["optimizer"]:
        assert recorded.recorder is None
    else:
        assert recorded.recorder is not None
        assert recorded.recorder.recorded


@pytest.mark.parametrize(("task", "family"), CASES, ids=lambda value: value.split("_")[0])
def test_a_resumed_trial_equals_the_uninterrupted_one(folder: Path, tmp_path: Path, task: str, family: str) -> None:
    """Number by number, where that is asked for."""
    for seed in SEEDS:
        compare_resumed(folder, tmp_path, task, family, seed)


def compare_resumed(folder: Path, tmp_path: Path, task: str, family: str, seed: int) -> None:
    config, prepared = drawn(folder, task, family, seed)
    config["training"]["deterministic"] = True
    whole, part = begin(config, prepared), begin(config, prepared)
    lines = [figures(whole) for _ in range(4)]
    for _ in range(2):
        figures(part)
    save_checkpoint(part, tmp_path / "checkpoint.pt")
    resumed = begin(config, prepared)
    load_checkpoint(resumed, tmp_path / "checkpoint.pt")
    assert [figures(resumed) for _ in range(2)] == lines[2:]


def test_a_trial_begun_on_a_gpu_goes_on_without_one(folder: Path, tmp_path: Path) -> None:
    for seed in SEEDS:
        config, prepared = drawn(folder, "text_classification", "cnn", seed)
        first = start(config, prepared, max_epochs=8, seed=1, device=torch.device("cpu"))
        figures(first)
        save_checkpoint(first, tmp_path / "checkpoint.pt")
        second = begin(config, prepared)
        load_checkpoint(second, tmp_path / "checkpoint.pt")
        figures(second)
        save_checkpoint(second, tmp_path / "checkpoint.pt")
        third = start(config, prepared, max_epochs=8, seed=1, device=torch.device("cpu"))
        load_checkpoint(third, tmp_path / "checkpoint.pt")
        assert figures(third)["epoch"] == 3


@pytest.mark.parametrize("family", ["cnn", "rnn", "rnn_cnn"])
def test_a_gpu_computes_in_bfloat16_and_agrees_with_the_processor(folder: Path, family: str) -> None:
    """But recurrent layers in float32, as PyTorch would use float16 for them."""
    config, prepared = drawn(folder, "text_classification", family, 0)
    training = begin(config, prepared)
    kinds: dict[type, set[torch.dtype]] = {torch.nn.Conv2d: set(), torch.nn.RNNBase: set()}
    for layer in training.module.modules():
        for kind, found in kinds.items():
            if isinstance(layer, kind):
                layer.register_forward_hook(
                    lambda layer, inputs, output, found=found: found.add(
                        (output[0] if isinstance(output, tuple) else output).dtype
                    )
                )
    figures(training)
    assert kinds[torch.nn.Conv2d] <= {torch.bfloat16}
    assert kinds[torch.nn.RNNBase] <= {torch.float32}
    assert any(kinds.values())
    rows = prepared.rows("validation")
    assert rows is not None
    here = predict_probabilities(training.module, rows, device=GPU)
    there = predict_probabilities(training.module.cpu(), rows, device=torch.device("cpu"))
    np.testing.assert_allclose(here, there, atol=0.02)


def hungry(config: dict[str, Any], prepared: Prepared) -> Training:
    """One whose network keeps 64 MiB of each row."""
    training = begin(config, prepared)

    def eat(layer: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        food = torch.ones(len(output), 1 << 24, device=GPU, requires_grad=layer.training)
        return output + 0 * food.square().mean()

    training.module.register_forward_hook(eat)
    return training


@pytest.mark.parametrize("epochs_before", [0, 3], ids=["at first", "while it is recorded"])
def test_where_memory_is_too_small_batches_pass_in_halves(folder: Path, epochs_before: int) -> None:
    config, prepared = drawn(folder, "text_classification", "cnn", 0)
    config["training"] |= {"batch_size": 32, "accumulation": 1, "augment": None, "rows_per_epoch": None}
    config["training"]["optimizer"] = {"adamw": {"learning_rate": 1e-3, "weight_decay": 0.0}}

    def peak(accumulation: int) -> int:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        figures(hungry({**config, "training": {**config["training"], "accumulation": accumulation}}, prepared))
        return torch.cuda.max_memory_reserved()

    whole, halves = peak(1), peak(2)
    assert halves < 0.8 * whole
    training = hungry(config, prepared)
    for _ in range(epochs_before):
        assert figures(training)["accumulation"] == 1
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((whole + halves) / 2 / total)
    try:
        assert figures(training)["accumulation"] == 2
        assert figures(training)["train_loss"] > 0  # random numbers are drawn as before
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
