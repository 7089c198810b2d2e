"""Every family as a program and as ONNX says what the network says, for batches and texts of any length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from automl.models import Lexicon, build
from automl.models.exportable import Parts, Port, export_program
from automl.models.pretrained import PretrainedNetwork
from automl.results.export import _onnx, _program, _write_onnx
from tests.models.backbones import torchvision_replaced
from tests.models.test_families import CLASSES, VOCABULARY, drawn_model

CASES = [
    ("cnn", "{pooling: max_mean}"),
    ("rnn", "{cell: lstm, bidirectional: true, layers: 2}"),
    ("rnn", "{cell: gru, bidirectional: true, pooling: last, layer_norm: true}"),
    ("cnn_rnn", "{stride: 3, cell: gru, pooling: attention}"),
    ("rnn_cnn", "{cell: lstm}"),
    ("dpcnn", "{blocks: 4}"),
    ("tcn", "{blocks: 3, layer_norm: true}"),
]


@pytest.mark.parametrize(("family", "more"), CASES)
def test_exports_agree_with_the_network(family: str, more: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build(drawn_model(family, 2, more), vocabulary=VOCABULARY, classes=CLASSES).eval()
    program = export_program(Parts((Port("text"),), ((network, 0),), None, 1.7))
    torch.export.save(program, tmp_path / "model.pt2")
    _write_onnx(program, tmp_path / "model.onnx")
    answers = [_program(tmp_path / "model.pt2"), _onnx(tmp_path / "model.onnx")]
    for rows, longest in ((1, 1), (1, 2), (7, 1), (2, 9), (40, 33)):
        lengths = torch.randint(1, longest + 1, (rows,))
        lengths[0] = longest
        tokens = torch.randint(1, VOCABULARY, (rows, longest)) * (torch.arange(longest) < lengths[:, None])
        with torch.inference_mode():
            wanted = (network(tokens, lengths) / 1.7).softmax(dim=1).numpy()
        for answer in answers:
            np.testing.assert_allclose(answer(tokens.numpy(), lengths.numpy()), wanted, atol=2e-6)
    assert isinstance(network, nn.Module) and not any("_Scan" in type(part).__name__ for part in network.modules())


def test_a_network_that_looks_at_its_numbers_is_refused() -> None:
    class Branching(nn.Module):
        def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(tokens), 2) + (1.0 if int(lengths.max()) > 3 else 0.0)

    with pytest.raises(ValueError, match=r"\S"):
        export_program(Parts((Port("text"),), ((Branching(), 0),)))


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v3_small"])
@pytest.mark.parametrize("channels", [1, 3])
def test_networks_of_torchvision_agree(backbone: str, channels: int) -> None:
    torch.manual_seed(0)
    with torchvision_replaced():
        network = PretrainedNetwork({"backbone": backbone, "head": 4, "dropout": 0.1}, 0, 3, Lexicon()).eval()
    program = export_program(Parts((Port("image", (10, 10, channels)),), ((network, 0),), None, 0.7)).module()
    for rows in (1, 2, 7):
        pixels = torch.randint(0, 256, (rows, 10, 10, channels), dtype=torch.uint8)
        with torch.inference_mode():
            wanted = (network(pixels, torch.full((rows,), 10)) / 0.7).softmax(dim=1)
        torch.testing.assert_close(program(pixels), wanted, atol=2e-6, rtol=0)
