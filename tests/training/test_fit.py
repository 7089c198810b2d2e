"""One trial: it learns, it is repeatable, it goes on where it was interrupted, and its figures are right."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss

from automl.data import Prepared, prepare
from automl.models import FAMILIES
from automl.space import UserError, load, sample_configs
from automl.training.checkpoint import load_checkpoint, save_checkpoint, save_weights
from automl.training.fit import Training, start, train_epoch
from automl.training.floor import fit_floor
from automl.training.inference import load_weights, predict_probabilities
from automl.training.metrics import compute_metrics
from automl.training.optimization import build_loss, focal_loss, learning_rate_factor

CPU = torch.device("cpu")


@pytest.fixture
def config(small_space: Path) -> dict[str, Any]:
    found = sample_configs(load(small_space, FAMILIES), 1, seed=0)[0]
    found["training"]["optimizer"] = {"adamw": {"learning_rate": 0.05, "weight_decay": 0.01}}
    for settings in found["model"].values():
        settings |= {"dropout": 0.1, "token_dropout": 0.1}
    return found


@pytest.fixture
def prepared(config: dict[str, Any], tmp_path: Path) -> Prepared:
    return prepare(config["data"], seed=0, cache=tmp_path / "cache")


def begin(config: dict[str, Any], prepared: Prepared, seed: int = 0) -> Training:
    return start(config, prepared, max_epochs=4, seed=seed, device=CPU)


def without_times(line: dict[str, Any] | None) -> dict[str, Any]:
    assert line is not None
    return {name: value for name, value in line.items() if name not in ("seconds", "started")}


def test_a_trial_learns(config: dict[str, Any], prepared: Prepared) -> None:
    training = begin(config, prepared)
    lines = [train_epoch(training) for _ in range(4)]
    assert lines[-1] is not None
    assert lines[-1]["accuracy"] > 0.8
    assert [line["epoch"] for line in lines if line] == [1, 2, 3, 4]


def test_the_same_seed_gives_the_same_figures_and_another_does_not(config: dict[str, Any], prepared: Prepared) -> None:
    first, second, other = begin(config, prepared), begin(config, prepared), begin(config, prepared, seed=1)
    torch.manual_seed(123)
    lines = [without_times(train_epoch(training)) for training in (first, second, other)]
    assert lines[0] == lines[1]
    assert lines[0] != lines[2]


def test_an_interrupted_trial_goes_on_as_if_it_had_not_been(
    config: dict[str, Any], prepared: Prepared, tmp_path: Path
) -> None:
    whole = begin(config, prepared)
    lines = [without_times(train_epoch(whole)) for _ in range(4)]
    part = begin(config, prepared)
    train_epoch(part)
    train_epoch(part)
    save_checkpoint(part, tmp_path / "checkpoint.pt")
    resumed = begin(config, prepared)
    load_checkpoint(resumed, tmp_path / "checkpoint.pt")
    assert [without_times(train_epoch(resumed)) for _ in range(2)] == lines[2:]
    with pytest.raises(ValueError, match="no checkpoint of this trial"):
        load_checkpoint(begin(config, prepared, seed=1), tmp_path / "checkpoint.pt")


def test_an_interruption_ends_an_epoch_half_way(config: dict[str, Any], prepared: Prepared) -> None:
    training = begin(config, prepared)
    assert train_epoch(training, lambda: True) is None
    assert training.epoch == 0


def test_a_loss_that_is_not_finite_ends_the_epoch_with_nan(config: dict[str, Any], prepared: Prepared) -> None:
    training = begin(config, prepared)
    with torch.no_grad():
        next(iter(training.module.head.parameters())).fill_(float("nan"))  # type: ignore[union-attr, arg-type, operator]
    line = train_epoch(training)
    assert line is not None
    assert math.isnan(line["accuracy"]) and math.isnan(line["loss"])


def test_saved_weights_give_the_same_probabilities(config: dict[str, Any], prepared: Prepared, tmp_path: Path) -> None:
    training = begin(config, prepared)
    train_epoch(training)
    save_weights(training, tmp_path / "model.safetensors")
    sizes = {"vocabulary": prepared.vocabulary, "classes": len(prepared.classes)}
    module = load_weights(config, **sizes, path=tmp_path / "model.safetensors")
    mine = predict_probabilities(training.module, training.validation, device=CPU)
    assert np.array_equal(predict_probabilities(module, training.validation, device=CPU), mine)
    assert np.allclose(predict_probabilities(module, training.validation, device=CPU, batch_size=7), mine, atol=1e-6)
    (tmp_path / "torn").write_bytes((tmp_path / "model.safetensors").read_bytes()[:100])
    with pytest.raises(UserError, match="cannot load the model's weights"):
        load_weights(config, **sizes, path=tmp_path / "torn")


def test_figures_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(4), size=300).astype(np.float32)
    labels = generator.integers(0, 4, size=300)
    found = compute_metrics(probabilities, labels)
    chosen = probabilities.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, chosen), abs=1e-6)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, chosen), abs=1e-6)
    assert found["macro_f1"] == pytest.approx(f1_score(labels, chosen, average="macro"), abs=1e-6)
    assert found["loss"] == pytest.approx(
        log_loss(labels, probabilities / probabilities.sum(1, keepdims=True)), abs=1e-4
    )


def test_losses() -> None:
    logits, labels = torch.randn(8, 3), torch.randint(0, 3, (8,))
    cross_entropy = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(focal_loss(logits, labels, 0.0), cross_entropy)
    assert focal_loss(logits, labels, 2.0) < cross_entropy
    smooth = build_loss({"cross_entropy": {"label_smoothing": 0.1}})(logits, labels)
    torch.testing.assert_close(smooth, torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1))


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_schedules_rise_over_the_warmup_and_fall_to_nothing(name: str) -> None:
    factors = [learning_rate_factor({name: {"warmup": 0.1}}, step, 100) for step in range(101)]
    assert max(factors) == pytest.approx(1.0)
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[:11] == sorted(factors[:11]) and factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] == pytest.approx(0.0)
    assert learning_rate_factor({"constant": {}}, 50, 100) == 1.0


def test_the_floor_learns_and_chooses_on_validation(config: dict[str, Any], prepared: Prepared) -> None:
    floor = fit_floor(prepared, config["data"]["clean"], metric="accuracy", maximize=True)
    assert floor["validation"]["accuracy"] > 0.8
    assert floor["test"]["accuracy"] > 0.8
    data = copy.deepcopy(config["data"]) | {"test": None}
    assert (
        fit_floor(prepare(data, seed=0, cache=prepared.path.parent), data["clean"], metric="loss", maximize=False)[
            "test"
        ]
        is None
    )
