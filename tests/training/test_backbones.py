"""Images with what is learned already: a backbone's weights from a file, or those of an earlier network."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from automl.data import Prepared, prepare
from automl.data.examples import write_digits
from automl.models import FAMILIES
from automl.space import UserError, parse, sample_configs
from automl.training.beforehand import check_files
from automl.training.checkpoint import save_weights
from automl.training.fit import train_epoch
from automl.training.inference import load_weights, predict_probabilities
from automl.training.start import Training, start
from tests.models.backbones import torchvision_replaced

CPU = torch.device("cpu")
CNN = "{image_cnn: {stages: 2, depth: 1, width: 16, normalisation: batch, residual: true, dropout: 0}}"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `low` are the digits below six, of `high` 30 images of the others; each has its own validation rows."""
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder)
    for split in ("train", "validation"):
        table = pq.read_table(folder / f"{split}.parquet")
        below = pc.less(table["label"].cast(pa.int64()), 6)
        pq.write_table(table.filter(below), folder / f"low-{split}.parquet")
        high = table.filter(pc.invert(below))
        pq.write_table(high.slice(0, 30) if split == "train" else high, folder / f"high-{split}.parquet")
    return folder


def space(digits: Path, half: str, model: str, init_from: str = "null") -> str:
    return f"""
name: x
task: image_classification
data: {{train: {digits}/{half}-train.parquet, validation: {digits}/{half}-validation.parquet}}
model: {model}
training: {{batch_size: 16, optimizer: {{adamw: {{learning_rate: 0.01}}}}, init_from: {init_from}}}
"""


def begin(digits: Path, half: str, model: str, init_from: str = "null") -> tuple[Training, dict[str, Any], Prepared]:
    config = sample_configs(parse(space(digits, half, model, init_from), FAMILIES), 1, seed=0)[0]
    prepared = prepare(config["data"], seed=0, cache=digits / "cache")
    return start(config, prepared, max_epochs=6, seed=0, device=CPU), config, prepared


def moved(training: Training) -> set[str]:
    """The top parts of a backbone, or of a network, of which an epoch changes anything, statistics included."""
    before = copy.deepcopy(training.module.state_dict())
    assert train_epoch(training) is not None
    changed = [name for name, value in training.module.state_dict().items() if not torch.equal(value, before[name])]
    return {name.removeprefix("backbone.").removeprefix("features.").split(".")[0] for name in changed}


def test_a_network_for_some_digits_is_taken_to_others(digits: Path, tmp_path: Path) -> None:
    earlier, _, _ = begin(digits, "low", CNN)
    for _ in range(4):
        train_epoch(earlier)
    save_weights(earlier, tmp_path / "model.safetensors")
    settings = f"{{model: {tmp_path}/model.safetensors, gradual: true, rate_decay: 0.8}}"
    training, _, _ = begin(digits, "high", CNN, settings)
    assert len(training.report["init_from"]["loaded"]) > 20
    assert training.freezing is not None
    assert training.freezing.until == {"head": 0, "layers.4": 1, "layers.3": 2, "layers.1": 3, "layers.0": 4}
    before = copy.deepcopy(training.module.state_dict())
    assert moved(training) == {"head"}
    train_epoch(training)
    changed = {name for name, value in training.module.state_dict().items() if not torch.equal(value, before[name])}
    assert {".".join(name.split(".")[:2]) for name in changed} == {"head.1", "layers.4"}
    anew, _, _ = begin(digits, "high", CNN)
    lines = [[train_epoch(each) for _ in range(epochs)][-1] for each, epochs in ((training, 4), (anew, 6))]
    assert lines[0] and lines[1] and lines[0]["accuracy"] > lines[1]["accuracy"]
    assert lines[0]["loss"] < lines[1]["loss"]


@pytest.fixture
def library() -> Iterator[ModuleType]:
    with torchvision_replaced() as models:
        yield models


@pytest.fixture
def weights(library: ModuleType, tmp_path: Path) -> Path:
    """A folder with files of both backbones, as PyTorch keeps those that it has fetched."""
    torch.manual_seed(1)
    torch.save(library.resnet18(None).state_dict(), tmp_path / "resnet18-f37072fd.pth")
    save_file(library.mobilenet_v3_small(None).state_dict(), tmp_path / "mobilenet_v3_small.safetensors")
    torch.save({}, tmp_path / "resnet18.txt")
    return tmp_path


def model(weights: Path | str, backbone: str = "resnet18", more: str = "gradual: true, rate_decay: 0.5") -> str:
    return f"{{pretrained: {{backbone: {backbone}, weights: {weights}, {more}}}}}"


@pytest.mark.parametrize(
    ("backbone", "parts"),
    [
        ("resnet18", ["head", "layer2", "layer1", "bn1", "conv1"]),
        ("mobilenet_v3_small", ["head", "1", "0"]),
    ],
)
def test_a_backbone_has_its_weights_and_is_freed_part_by_part(
    digits: Path, weights: Path, library: ModuleType, backbone: str, parts: list[str]
) -> None:
    training, config, prepared = begin(digits, "high", model(weights, backbone))
    torch.manual_seed(1)
    whole = {name: getattr(library, name)(None) for name in ("resnet18", "mobilenet_v3_small")}[backbone].eval()
    pixels = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8)
    network = training.module.eval()
    features: list[torch.Tensor] = []
    network.get_submodule("head").register_forward_pre_hook(lambda layer, inputs: features.append(inputs[0]))
    network(pixels, torch.full((4,), 8))
    old = "fc" if backbone == "resnet18" else "classifier"
    setattr(whole, old, torch.nn.Identity())
    standard = (pixels / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(features[0], whole(standard.permute(0, 3, 1, 2)), rtol=1e-4, atol=1e-5)

    shares = sorted({group["share"] for group in training.optimizer.param_groups}, reverse=True)
    assert shares == [0.5**depth for depth in range(len(parts))]
    for epoch in range(len(parts)):
        assert moved(training) == set(parts[: epoch + 1])
    (weights / "kept").mkdir()
    save_weights(training, weights / "kept" / "model.safetensors")
    sizes = {"vocabulary": 0, "classes": len(prepared.classes)}
    for file in weights.glob(f"{backbone}*"):
        file.unlink()
    again = load_weights(config, **sizes, path=weights / "kept" / "model.safetensors")
    said = predict_probabilities(training.module, training.validation, device=CPU)
    assert np.array_equal(predict_probabilities(again, training.validation, device=CPU), said)


def test_a_part_that_is_not_there_cannot_be_frozen(digits: Path, weights: Path) -> None:
    with pytest.raises(UserError, match=r"^model\.pretrained: there is no layer 'backbone.layer9' to freeze"):
        begin(digits, "high", model(weights, more="freeze: [backbone.layer9]"))


def test_files_of_backbones_that_will_not_do(digits: Path, weights: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(4, 3, 7, 7)}, weights / "other.pth")
    (weights / "torn.safetensors").write_bytes(b"{")
    for name, message in {
        "none.pth": "there is no file or folder",
        "other.pth": r"is of another network: conv1.weight has the shape \[4, 3, 7, 7\], not \[4, 3, 3, 3\]",
        "mobilenet_v3_small.safetensors": "is of another network: conv1.weight is missing",
        "torn.safetensors": "model.pretrained.weights: cannot read",
    }.items():
        with pytest.raises(UserError, match=message):
            begin(digits, "high", model(weights / name))

    def check(backbone: str) -> None:
        check_files(parse(space(digits, "high", model(weights, backbone)), FAMILIES))

    check("{choice: [resnet18, mobilenet_v3_small]}")
    with pytest.raises(UserError, match=r"has no files of resnet50; expected one, such as resnet50\.safetensors"):
        check("{choice: [resnet18, resnet50]}")
    (weights / "resnet18.pt").touch()
    with pytest.raises(UserError, match="has 2 files of resnet18"):
        check("resnet18")


def test_a_library_that_is_missing_or_broken_is_said_to_be(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = parse(space(digits, "high", "{pretrained: {}}"), FAMILIES)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UserError, match=r"needs torchvision: pip install 'automl\[backbones\]'"):
        check_files(spec)
    monkeypatch.delitem(sys.modules, "torchvision")
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="torchvision does not work here: operator torchvision::nms does not exist"):
        check_files(spec)
