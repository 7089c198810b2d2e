"""One trial: it learns, it is repeatable, it goes on where it was interrupted, and its figures are right."""

from __future__ import annotations

import copy
import gc
import math
import random
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, roc_auc_score
from sklearn.utils.class_weight import compute_class_weight

from automl.data import Prepared, batches, prepare, streaming
from automl.models import FAMILIES
from automl.space import UserError, load, sample_configs
from automl.space.objectives import METRICS
from automl.training import fit
from automl.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint, save_weights
from automl.training.fit import train_epoch
from automl.training.floor import fit_floor, load_linear
from automl.training.inference import load_weights, predict_probabilities
from automl.training.metrics import compute_metrics
from automl.training.optimization import Plateau, build_loss, class_weights, focal_loss, learning_rate_factor
from automl.training.recording import Recorder
from automl.training.start import Training, start
from tests.conftest import write_jsonl
from tests.data.settings import settings_for

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


def without_dropout(config: dict[str, Any]) -> None:
    """And in full precision, where updates are compared that are added up in another order."""
    config["training"]["precision"] = "float32"
    for settings in config["model"].values():
        settings |= {"dropout": 0.0, "token_dropout": 0.0}


def same_weights(first: Training, second: Training, *, exactly: bool = False) -> None:
    other = second.module.state_dict()
    for name, value in first.module.state_dict().items():
        tolerance = {"rtol": 0, "atol": 0} if exactly else {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(value, other[name], **tolerance, msg=lambda text, name=name: f"{name}: {text}")


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


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ema": 0.9, "schedule": {"plateau": {"factor": 0.5, "patience": 0}}},
        {"accumulation": 3, "schedule": {"one_cycle": {"warmup": 0.3}}, "ema": 0.5},
        {"optimizer": {"adam": {"learning_rate": 0.05, "weight_decay": 0.01}}},
        {"optimizer": {"sgd": {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0}}, "ema": 0.99},
        {"optimizer": {"rmsprop": {"learning_rate": 0.01, "smoothing": 0.9, "momentum": 0.5, "weight_decay": 0.0}}},
        {"optimizer": {"adagrad": {"learning_rate": 0.1, "weight_decay": 0.0}}},
    ],
    ids=lambda settings: "-".join(settings) or "defaults",
)
def test_an_interrupted_trial_goes_on_as_if_it_had_not_been(
    config: dict[str, Any], prepared: Prepared, tmp_path: Path, settings: dict[str, Any]
) -> None:
    config["training"] |= settings
    whole = begin(config, prepared)
    lines = [without_times(train_epoch(whole)) for _ in range(4)]
    part = begin(config, prepared)
    train_epoch(part)
    train_epoch(part)
    save_checkpoint(part, tmp_path / "checkpoint.pt")
    resumed = begin(config, prepared)
    load_checkpoint(resumed, tmp_path / "checkpoint.pt")
    assert [without_times(train_epoch(resumed)) for _ in range(2)] == lines[2:]
    same_weights(resumed, whole, exactly=True)
    for name, value in whole.measured.state_dict().items():
        assert torch.equal(value, resumed.measured.state_dict()[name])
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    with pytest.raises(ValueError, match="no checkpoint of this trial"):
        load_checkpoint(begin(config, prepared, seed=1), tmp_path / "checkpoint.pt")


def test_the_average_is_what_is_measured_and_kept(config: dict[str, Any], prepared: Prepared, tmp_path: Path) -> None:
    config["training"] |= {"ema": 0.8}
    training = begin(config, prepared)
    weights: list[torch.Tensor] = [next(training.module.parameters()).detach().clone()]
    step = training.optimizer.step

    def recorded(*arguments: Any) -> None:
        step(*arguments)
        weights.append(next(training.module.parameters()).detach().clone())

    training.optimizer.step = recorded  # type: ignore[method-assign, assignment]
    line = train_epoch(training)
    expected = weights[0]
    for number, value in enumerate(weights[1:], start=1):
        decay = min(0.8, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * value
    assert len(weights) == 14
    torch.testing.assert_close(next(training.measured.parameters()), expected)
    assert not torch.allclose(weights[-1], expected)
    save_weights(training, tmp_path / "model.safetensors")
    sizes = {"vocabulary": prepared.vocabulary, "classes": len(prepared.classes)}
    module = load_weights(config, **sizes, path=tmp_path / "model.safetensors")
    assert line is not None
    kept = predict_probabilities(module, training.validation, device=CPU)
    assert compute_metrics(kept, training.validation.labels)["loss"] == line["loss"]


@pytest.mark.parametrize(("precision", "expected"), [("auto", torch.bfloat16), ("float32", torch.float32)])
def test_a_cpu_that_knows_bfloat16_trains_in_it_and_measures_in_float32(
    config: dict[str, Any],
    prepared: Prepared,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    expected: torch.dtype,
) -> None:
    monkeypatch.setattr("automl.training.inference._cpu_computes_bfloat16", lambda: True)
    config["training"]["precision"] = precision
    training = begin(config, prepared)
    seen: dict[bool, set[torch.dtype]] = {True: set(), False: set()}

    def look(layer: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        seen[training.module.training].add(output.dtype)

    training.module.get_submodule("head").register_forward_hook(look)
    line = train_epoch(training)
    assert line and seen == {True: {expected}, False: {torch.float32}}
    assert {parameter.dtype for parameter in training.module.parameters()} == {torch.float32}


def test_batches_in_parts_give_the_same_updates(config: dict[str, Any], prepared: Prepared) -> None:
    without_dropout(config)
    config["training"]["batch_size"] = 57  # the last batch is one row, which has no parts
    whole = begin(config, prepared)
    config["training"] = config["training"] | {"accumulation": 5}
    parts = begin(config, prepared)
    sizes: list[int] = []
    parts.module.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    first, second = train_epoch(whole), train_epoch(parts)
    same_weights(whole, parts)
    assert first and second and second["accumulation"] == 1 and set(sizes[:36]) == {1, 11, 12}
    assert second["train_loss"] == pytest.approx(first["train_loss"], abs=1e-5)
    refused = too_small_for(parts, 8)
    line = train_epoch(parts)
    assert line and line["accumulation"] == 2 and parts.accumulation == 10 and len(refused) == 1


def test_an_interruption_ends_an_epoch_half_way(config: dict[str, Any], prepared: Prepared) -> None:
    training = begin(config, prepared)
    assert train_epoch(training, lambda: True) is None
    assert training.epoch == 0


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The train rows in the order in which they are drawn."""
    found: list[int] = []
    real = batches

    def recorded(*arguments: Any, **settings: Any) -> Any:
        for batch in real(*arguments, **settings):
            found.extend(batch.index.tolist())
            yield batch

    monkeypatch.setattr("automl.training.start.batches", recorded)
    return found


@pytest.mark.parametrize("rows_per_epoch", [32, 150, 200, 399, 400, 401, 900])
def test_an_epoch_of_so_many_rows_goes_on_with_the_shuffled_pass(
    config: dict[str, Any], prepared: Prepared, drawn: list[int], rows_per_epoch: int
) -> None:
    train_epochs = begin(config, prepared)
    for _ in range(3):
        train_epoch(train_epochs)
    passes = [drawn[first : first + 400] for first in (0, 400, 800)]
    assert all(sorted(rows) == list(range(400)) for rows in passes) and passes[0] != passes[1]
    drawn.clear()
    config["training"]["rows_per_epoch"] = rows_per_epoch
    parts = begin(config, prepared)
    for epoch in range(1, 1 + min(8, 1200 // rows_per_epoch)):
        line = train_epoch(parts)
        assert line is not None
        assert line["rows"] == parts.rows == len(drawn)
        assert 0 <= line["rows"] - epoch * rows_per_epoch < 32
    assert drawn == [row for rows in passes for row in rows][: len(drawn)]


def test_the_updates_do_not_depend_on_where_epochs_end(config: dict[str, Any], prepared: Prepared) -> None:
    without_dropout(config)
    whole = start(config, prepared, max_epochs=2, seed=0, device=CPU)
    config["training"]["rows_per_epoch"] = 100
    parts = start(config, prepared, max_epochs=8, seed=0, device=CPU)
    lines = [train_epoch(whole) for _ in range(2)] + [train_epoch(parts) for _ in range(8)]
    assert parts.total_steps == whole.total_steps and parts.step == whole.step
    same_weights(parts, whole, exactly=True)
    assert lines[1] and lines[9] and lines[1]["loss"] == lines[9]["loss"]


def test_a_trial_that_counts_rows_is_resumed_inside_a_pass(
    config: dict[str, Any], prepared: Prepared, tmp_path: Path
) -> None:
    config["training"]["rows_per_epoch"] = 150
    whole = begin(config, prepared)
    lines = []
    for epoch in range(5):
        save_checkpoint(whole, tmp_path / f"{epoch}.pt")
        lines.append(without_times(train_epoch(whole)))
    for epoch in range(1, 5):
        resumed = begin(config, prepared)
        load_checkpoint(resumed, tmp_path / f"{epoch}.pt")
        assert [without_times(train_epoch(resumed)) for _ in lines[epoch:]] == lines[epoch:]


def too_small_for(training: Training, rows: int, *, in_training: bool = True) -> list[int]:
    """A GPU without room for more than `rows` rows at once; gives the sizes that it refused."""
    refused: list[int] = []

    def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > rows and module.training == in_training:
            refused.append(len(inputs[0]))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    training.module.register_forward_pre_hook(hook)
    return refused


def test_a_batch_too_large_for_the_gpu_is_trained_in_halves_with_the_same_update(
    config: dict[str, Any], prepared: Prepared, tmp_path: Path
) -> None:
    without_dropout(config)
    config["training"]["batch_size"] = 57  # the last batch is one row, which has no halves
    whole, halves = begin(config, prepared), begin(config, prepared)
    refused = too_small_for(halves, 32)
    for _ in range(2):
        first, second = train_epoch(whole), train_epoch(halves)
    assert first and second and refused == [57]
    same_weights(whole, halves)
    assert (first["accumulation"], second["accumulation"]) == (1, 2)
    assert second["train_loss"] == pytest.approx(first["train_loss"], abs=1e-5)
    save_checkpoint(halves, tmp_path / "checkpoint.pt")
    resumed = begin(config, prepared)
    resumed.recorder = Recorder(resumed.optimizer, CPU)  # as it has one on a GPU
    load_checkpoint(resumed, tmp_path / "checkpoint.pt")
    assert resumed.accumulation == 2 and resumed.recorder is None


def test_measuring_is_halved_too_and_a_second_refusal_is_final(
    config: dict[str, Any], prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    config["training"]["batch_size"] = 40
    monkeypatch.setattr(fit, "MEASURE_ROWS", 100)
    plain, training, twice = (begin(config, prepared) for _ in range(3))
    refused = too_small_for(training, 60, in_training=False)
    line = train_epoch(training)
    assert line and refused == [100] and line["accumulation"] == 2
    assert without_times(line) | {"accumulation": 1} == without_times(train_epoch(plain))
    refused = too_small_for(twice, 8)
    with pytest.raises(torch.OutOfMemoryError):
        train_epoch(twice)
    assert refused == [40, 20] and twice.step == 0


def test_a_streamed_trial_goes_on_with_its_rows_also_where_memory_is_larger(
    config: dict[str, Any], prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config["training"] |= {"rows_per_epoch": 150, "class_sampling": 1.0}
    resident = train_epoch(begin(config, prepared))
    with monkeypatch.context() as small:
        small.setattr(streaming, "memory_limit", lambda: 1000)
        small.setattr(streaming, "BLOCK_BYTES", 300)
        small.setattr(streaming, "WINDOW_BLOCKS", 4)
        whole, part = begin(config, prepared), begin(config, prepared)
    lines = [without_times(train_epoch(whole)) for _ in range(4)]
    assert lines[0] != without_times(resident)
    train_epoch(part)
    train_epoch(part)
    save_checkpoint(part, tmp_path / "checkpoint.pt")
    resumed = begin(config, prepared)
    assert resumed.streaming is None
    load_checkpoint(resumed, tmp_path / "checkpoint.pt")
    assert [without_times(train_epoch(resumed)) for _ in range(2)] == lines[2:]


def test_what_a_trial_held_is_free_as_soon_as_it_is_over(config: dict[str, Any], prepared: Prepared) -> None:
    """Without waiting for the garbage collector: the next trial needs a GPU's memory at once."""
    training = begin(config, prepared)
    train_epoch(training)
    module = weakref.ref(training.module)
    gc.disable()
    try:
        del training
        assert module() is None
    finally:
        gc.enable()


def test_a_damaged_checkpoint_is_known_for_one(config: dict[str, Any], prepared: Prepared, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    training = begin(config, prepared)
    save_checkpoint(training, path)
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    damaged = [content[:length] for length in (0, 10, 40, len(content) - 1)]
    for place in generator.integers(len(content), size=20):
        damaged.append(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
    for wrong in damaged:
        path.write_bytes(wrong)
        with pytest.raises(CheckpointError, match=r"checkpoint.pt is damaged"):
            load_checkpoint(training, path)


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
    assert found["micro_f1"] == found["accuracy"]
    shares = probabilities / probabilities.sum(1, keepdims=True)
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, shares, multi_class="ovr"), abs=1e-5)
    assert found["loss"] == pytest.approx(log_loss(labels, shares), abs=1e-4)
    assert found.keys() == set(METRICS)


def test_calibration_error_is_the_distance_of_confidence_from_what_was_right() -> None:
    """Two bins: 10 rows at 0.9, of which 7 are right, and 30 at 0.65, of which 21 are."""
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.65, 0.35]] * 30, dtype=np.float32)
    labels = np.array([0] * 7 + [1] * 3 + [0] * 21 + [1] * 9)
    expected = 10 / 40 * abs(0.9 - 0.7) + 30 / 40 * abs(0.65 - 0.7)
    assert compute_metrics(probabilities, labels)["calibration_error"] == pytest.approx(expected, abs=1e-6)


def test_auroc_is_of_the_classes_that_there_are() -> None:
    probabilities = np.random.default_rng(1).dirichlet(np.ones(3), size=200).astype(np.float32)
    labels = np.array([0, 1] * 100)  # none of the third class
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compute_metrics(probabilities, labels)
    each = [roc_auc_score(labels == number, probabilities[:, number]) for number in (0, 1)]
    assert found["auroc"] == pytest.approx(np.mean(each), abs=1e-5)
    assert "auroc" not in compute_metrics(probabilities, np.zeros(200, dtype=int))


def test_losses() -> None:
    logits, labels = torch.randn(8, 3), torch.randint(0, 3, (8,))
    cross_entropy = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(focal_loss(logits, labels, 0.0).mean(), cross_entropy)
    assert focal_loss(logits, labels, 2.0).mean() < cross_entropy
    smooth = build_loss({"cross_entropy": {"label_smoothing": 0.1}})(logits, labels)
    torch.testing.assert_close(smooth, torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1))


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.93, 1.0, 2.5])
@pytest.mark.parametrize("gap", [0.0, 3.0, 30.0, 300.0])
def test_focal_loss_teaches_a_sure_network_no_infinite_lesson(gamma: float, gap: float) -> None:
    """The gradient is that of the formula in doubles, also where a probability rounds to 1."""
    labels = torch.tensor([0, 1])
    gradients = []
    for kind in (torch.float32, torch.float64):
        logits = torch.tensor([[gap, 0.0, -1.0], [gap, 0.0, -1.0]], dtype=kind, requires_grad=True)
        if kind is torch.float64:
            doubt = 1 - logits.softmax(dim=1)[[0, 1], labels] + 1e-300
            (doubt**gamma * -logits.log_softmax(dim=1)[[0, 1], labels]).sum().backward()
        else:
            focal_loss(logits, labels, gamma).sum().backward()
        assert logits.grad is not None
        gradients.append(logits.grad.double())
    assert gradients[0].isfinite().all()
    if gap < 300:
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", [{"cross_entropy": {"label_smoothing": 0.1}}, {"focal": {"gamma": 1.0}}])
def test_class_weights_make_up_for_rare_classes(loss: dict[str, Any]) -> None:
    labels = np.repeat([0, 1, 3], [70, 20, 10])
    assert class_weights(labels, 4, 0.0) is None
    weights = class_weights(labels, 4, 1.0)
    assert weights is not None and weights[2] == 0  # a class without rows weighs nothing
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    torch.testing.assert_close(weights[[0, 1, 3]].double(), torch.tensor(expected))
    half = class_weights(labels, 4, 0.5)
    assert half is not None and 1 < half[3] < weights[3] and half[labels].mean() == pytest.approx(1.0)
    logits, truth = torch.randn(4, 4), torch.tensor([0, 1, 3, 3])
    each = torch.stack([build_loss(loss)(logits[row : row + 1], truth[row : row + 1]) for row in range(4)])
    torch.testing.assert_close(build_loss(loss, weights)(logits, truth), (each * weights[truth]).mean())


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_schedules_rise_over_the_warmup_and_fall_to_nothing(name: str) -> None:
    factors = [learning_rate_factor({name: {"warmup": 0.1}}, step, 100) for step in range(101)]
    assert max(factors) == pytest.approx(1.0)
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[:11] == sorted(factors[:11]) and factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] == pytest.approx(0.0)
    assert learning_rate_factor({"constant": {}}, 50, 100) == 1.0


def test_the_one_cycle_schedule_is_that_of_pytorch() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=101, pct_start=31 / 101)
    for step in range(101):
        mine = learning_rate_factor({"one_cycle": {"warmup": 0.3}}, step, 100)
        assert mine == pytest.approx(theirs.get_last_lr()[0], abs=1e-6)
        optimizer.step()
        if step < 100:
            theirs.step()


def test_a_plateau_follows_the_loss_that_is_given_where_validation_rows_are_trained_on(
    config: dict[str, Any], prepared: Prepared
) -> None:
    config["training"]["schedule"] = {"plateau": {"factor": 0.5, "patience": 0}}
    training, shares = begin(config, prepared), []
    for loss in (0.5, 0.6, math.nan, 0.4):
        assert train_epoch(training, plateau_loss=loss) is not None
        shares.append(training.plateau.share)
    assert shares == [1.0, 0.5, 0.25, 0.25]


def test_a_plateau_lowers_the_rate_after_patience() -> None:
    schedule = {"plateau": {"factor": 0.1, "patience": 1}}
    plateau, shares = Plateau(), []
    for loss in (3.0, 2.0, 2.0, 1.9, 2.0, 2.0, 1.95, 1.95, 1.0):
        plateau.see(loss, schedule)
        shares.append(round(plateau.share, 6))
    assert shares == [1, 1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]
    plateau.see(9.0, {"constant": {}})
    assert plateau.best == 1.0


def test_the_floor_learns_and_chooses_on_validation(config: dict[str, Any], prepared: Prepared) -> None:
    _, floor = fit_floor(prepared, config["data"]["clean"], metric="accuracy", maximize=True)
    assert floor["validation"]["accuracy"] > 0.8
    assert floor["test"]["accuracy"] > 0.8
    data = copy.deepcopy(config["data"]) | {"test": None}
    without_test = prepare(data, seed=0, cache=prepared.path.parent)
    assert fit_floor(without_test, data["clean"], metric="loss", maximize=False)[1]["test"] is None


def test_the_floor_reads_characters_where_words_have_no_spaces(tmp_path: Path) -> None:
    """What tells the classes apart are two characters amid others, which no space sets apart."""
    generator = random.Random(0)
    around = "的一是在不了有和人这中大为上个国我以要他"

    def text(row: int) -> str:
        start, end = ("".join(generator.choices(around, k=generator.randint(3, 9))) for _ in range(2))
        return start + ("好吃", "难吃")[row % 2] + end

    rows = [{"text": text(row), "label": "ab"[row % 2]} for row in range(300)]
    data = settings_for(write_jsonl(tmp_path / "train.jsonl", rows), validation=0.3)
    prepared = prepare(data, seed=0, cache=tmp_path / "cache")
    linear, floor = fit_floor(prepared, data["clean"], metric="accuracy", maximize=True)
    assert floor["validation"]["accuracy"] > 0.95
    assert floor["settings"]["of"] == "char" and floor["settings"]["ngrams"] == [1, 3]
    linear.save(tmp_path / "linear")
    texts = [row["text"] for row in rows[:20]]
    again = load_linear(tmp_path / "linear").predict_probabilities(texts)
    np.testing.assert_allclose(again, linear.predict_probabilities(texts), atol=1e-6)
