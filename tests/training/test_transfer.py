"""Training that begins with an earlier model: what is taken over, what is said of it, what is trained when."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from automl.data import Prepared, prepare
from automl.models import FAMILIES
from automl.space import UserError, parse, sample_configs
from automl.training.checkpoint import load_checkpoint, save_checkpoint, save_weights
from automl.training.fit import train_epoch
from automl.training.start import Training, start
from automl.training.transfer import read_earlier, take_over
from tests.conftest import make_texts, write_jsonl

CPU = torch.device("cpu")
CNN = "{cnn: {embedding: 6, channels: 4, kernel_sizes: [1, 2], pooling: max, dropout: 0, activation: relu}}"


def prepared_config(folder: Path, name: str, model: str, rows: list[dict[str, str]]) -> tuple[dict[str, Any], Prepared]:
    train = write_jsonl(folder / f"{name}.jsonl", rows)
    text = f"name: x\ndata: {{train: {train}}}\nmodel: {model}\n"
    text += "training: {optimizer: {adamw: {learning_rate: 0.01}}}"
    config = sample_configs(parse(text, FAMILIES), 1, seed=0)[0]
    return config, prepare(config["data"], seed=0, cache=folder / "cache")


@pytest.fixture
def earlier(tmp_path: Path) -> tuple[Path, Training]:
    """A best model's files, and the training that made them."""
    config, prepared = prepared_config(tmp_path, "earlier", CNN, make_texts(300, 0))
    training = start(config, prepared, max_epochs=2, seed=5, device=CPU)
    for _ in range(2):
        train_epoch(training)
    folder = tmp_path / "best_model"
    folder.mkdir()
    save_weights(training, folder / "model.safetensors")
    prepared.encoder().save(folder)
    return folder, training


def later(folder: Path, init_from: dict[str, Any], model: str = CNN) -> tuple[dict[str, Any], Prepared]:
    """Other texts, with other words, a third class, and words that both know under other numbers."""
    rows = [{"text": f"brand new {row['text']}", "label": row["label"]} for row in make_texts(200, 1)]
    rows += [{"text": "new and strange", "label": "strange"}] * 20
    config, prepared = prepared_config(folder, "later", model, rows)
    defaults = {"frozen_epochs": 0, "gradual": False, "freeze": [], "rate_decay": 1.0}
    config["training"]["init_from"] = {**defaults, **init_from}
    return config, prepared


def begin(config: dict[str, Any], prepared: Prepared) -> Training:
    return start(config, prepared, max_epochs=4, seed=0, device=CPU)


def test_layers_that_match_are_taken_over_and_words_by_name(earlier: tuple[Path, Training], tmp_path: Path) -> None:
    folder, before = earlier
    config, prepared = later(tmp_path, {"model": str(folder)})
    training = begin(config, prepared)
    ours, theirs = training.module.state_dict(), before.module.state_dict()
    assert torch.equal(ours["convolutions.convolutions.1.weight"], theirs["convolutions.convolutions.1.weight"])
    words = prepared.words()
    known = [word for word in words if word and word in earlier_words(folder)]
    for word in known:
        mine = ours["embedding.embedding.weight"][words.index(word)]
        assert torch.equal(mine, theirs["embedding.embedding.weight"][earlier_words(folder).index(word)])
    assert "brand" in words and "brand" not in earlier_words(folder)
    assert ours["embedding.embedding.weight"][words.index("brand")].any() and len(known) > 15
    assert torch.equal(ours["embedding.embedding.weight"][1], theirs["embedding.embedding.weight"][1])
    line = train_epoch(training)
    assert line is not None
    said = line["init_from"]
    assert said["words_known"] == len(known)
    assert said["other_shape"] == ["head.1.weight", "head.1.bias"] and said["new"] == said["unused"] == []
    assert "convolutions.convolutions.0.bias" in said["loaded"]


def earlier_words(folder: Path) -> list[str]:
    from automl.data import load_encoder
    from automl.data.vocabulary import token_texts

    return token_texts(load_encoder(folder).tokenizer)


def test_another_network_takes_what_it_has_in_common_and_says_the_rest(
    earlier: tuple[Path, Training], tmp_path: Path
) -> None:
    folder, _ = earlier
    config, prepared = later(tmp_path, {"model": str(folder / "model.safetensors")}, "{rnn: {embedding: 6, hidden: 3}}")
    said = begin(config, prepared).report["init_from"]
    assert said["loaded"] == ["embedding.embedding.weight"]
    assert "recurrence.forwards.0.weight_ih_l0" in said["new"]
    assert "convolutions.convolutions.0.weight" in said["unused"]
    config, prepared = later(tmp_path, {"model": str(folder)}, "{rnn: {embedding: 7, hidden: 3}}")
    with pytest.raises(UserError, match="no layer of the earlier model"):
        begin(config, prepared)


def test_a_state_dict_of_any_network_will_do(earlier: tuple[Path, Training], tmp_path: Path) -> None:
    _, before = earlier
    torch.save(before.module.state_dict(), tmp_path / "weights.pt")
    config, prepared = later(tmp_path, {"model": str(tmp_path / "weights.pt")})
    said = begin(config, prepared).report["init_from"]
    assert "embedding.embedding.weight" in said["other_shape"]  # nothing says which words its rows are
    assert "convolutions.convolutions.0.weight" in said["loaded"]
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    torch.save({"epoch": 3}, tmp_path / "no_weights.pt")
    torch.save({"module": before.module}, tmp_path / "pickled.pt")
    for name, message in {
        "other.safetensors": "no layer",
        "no_weights.pt": "no state dict",
        "pickled.pt": "cannot read",
        "absent": "there is no model",
    }.items():
        config["training"]["init_from"]["model"] = str(tmp_path / name)
        with pytest.raises(UserError, match=message):
            begin(config, prepared)


def test_the_last_layer_is_taken_over_class_by_class(earlier: tuple[Path, Training], tmp_path: Path) -> None:
    folder, before = earlier
    classes = ["zero", "yes", "no"]  # as if "no" came before "yes" here, and there were another
    (folder / "config.json").write_text(json.dumps({"classes": ["no", "yes"]}))
    module = before.module
    assert isinstance(module.head, nn.Sequential)
    wider = copy.deepcopy(module)
    wider.head[-1] = nn.Linear(before.module.head[-1].in_features, len(classes))
    fresh = wider.head[-1].weight[0].clone()
    report = take_over(wider, read_earlier(str(folder)), ["", "?"], classes)
    assert report["classes_known"] == 2 and "head.1.weight" in report["loaded"]
    for place, known in [(1, 1), (2, 0)]:
        assert torch.equal(wider.head[-1].weight[place], module.head[-1].weight[known])
        assert torch.equal(wider.head[-1].bias[place], module.head[-1].bias[known])
    assert torch.equal(wider.head[-1].weight[0], fresh)

    other = copy.deepcopy(module)
    nn.init.zeros_(other.head[-1].weight)
    report = take_over(other, read_earlier(str(folder)), ["", "?"], ["spam", "ham"])
    assert "head.1.weight" in report["new"] and not other.head[-1].weight.any()


def test_of_an_ensemble_the_first_member_is_taken_and_no_path_leads_out(
    earlier: tuple[Path, Training], tmp_path: Path
) -> None:
    folder, _ = earlier
    (tmp_path / "ensemble" / "members").mkdir(parents=True)
    shutil.copytree(folder, tmp_path / "ensemble" / "members" / "7")
    described = tmp_path / "ensemble" / "config.json"
    described.write_text(json.dumps({"members": [{"folder": "members/7"}, {"folder": "members/9"}]}))
    config, prepared = later(tmp_path, {"model": str(tmp_path / "ensemble")})
    assert "embedding.embedding.weight" in begin(config, prepared).report["init_from"]["loaded"]
    described.write_text(json.dumps({"members": [{"folder": "../best_model"}]}))
    with pytest.raises(UserError, match="there is no model"):
        begin(config, prepared)


def moved(training: Training) -> set[str]:
    """The layers that an epoch changes."""
    before = copy.deepcopy(training.module.state_dict())
    assert train_epoch(training) is not None
    changed = [name for name, value in training.module.state_dict().items() if not torch.equal(value, before[name])]
    return {name.split(".")[0] for name in changed}


ALL = {"embedding", "convolutions", "head"}
OPTIMIZERS = [
    {"adamw": {"learning_rate": 0.01, "weight_decay": 0.01}},
    {"sgd": {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.0}},
    {"rmsprop": {"learning_rate": 0.001, "smoothing": 0.9, "momentum": 0.5, "weight_decay": 0.0}},
    {"adagrad": {"learning_rate": 0.01, "weight_decay": 0.0}},
]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [ALL, ALL, ALL]),
        ({"frozen_epochs": 2}, [{"head"}, {"head"}, ALL]),
        ({"gradual": True}, [{"head"}, {"head", "convolutions"}, ALL]),
        ({"gradual": True, "frozen_epochs": 1}, [{"head"}, {"head"}, {"head", "convolutions"}]),
        ({"freeze": ["embedding"]}, [ALL - {"embedding"}] * 3),
    ],
)
@pytest.mark.parametrize(
    ("optimizer", "batch_size"),
    [*((optimizer, 64) for optimizer in OPTIMIZERS), (OPTIMIZERS[1], 1)],  # of one row, its words alone are updated
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else str(value),
)
def test_layers_are_trained_when_the_settings_say(
    earlier: tuple[Path, Training],
    tmp_path: Path,
    settings: dict[str, Any],
    expected: list[set[str]],
    optimizer: dict[str, Any],
    batch_size: int,
) -> None:
    folder, _ = earlier
    config, prepared = later(tmp_path, {"model": str(folder), **settings})
    config["training"] |= {"optimizer": optimizer, "batch_size": batch_size}
    training = begin(config, prepared)
    for number, layers in enumerate(expected):
        save_checkpoint(training, tmp_path / f"{number}.pt")
        assert moved(training) == layers
    for number in range(1, len(expected)):
        resumed = begin(config, prepared)
        load_checkpoint(resumed, tmp_path / f"{number}.pt")
        for layers in expected[number:]:
            assert moved(resumed) == layers
        for name, value in training.module.state_dict().items():
            assert torch.equal(value, resumed.module.state_dict()[name])


def test_layers_that_are_not_there_cannot_be_frozen(earlier: tuple[Path, Training], tmp_path: Path) -> None:
    folder, _ = earlier
    config, prepared = later(tmp_path, {"model": str(folder), "freeze": ["convolution"]})
    with pytest.raises(UserError, match="no layer 'convolution' to freeze; did you mean 'convolutions"):
        begin(config, prepared)
    config["training"]["init_from"]["freeze"] = sorted(ALL)
    with pytest.raises(UserError, match="nothing to train"):
        begin(config, prepared)


def test_earlier_layers_learn_more_slowly(earlier: tuple[Path, Training], tmp_path: Path) -> None:
    folder, _ = earlier
    config, prepared = later(tmp_path, {"model": str(folder), "rate_decay": 0.5})
    training = begin(config, prepared)
    names = {id(parameter): name for name, parameter in training.module.named_parameters()}
    shares = {
        names[id(parameter)].split(".")[0]: group["share"]
        for group in training.optimizer.param_groups
        for parameter in group["params"]
    }
    assert shares == {"embedding": 0.25, "convolutions": 0.5, "head": 1.0}
    train_epoch(training)
    rates = {group["share"]: group["lr"] for group in training.optimizer.param_groups}
    assert rates[0.25] == pytest.approx(rates[1.0] / 4)
