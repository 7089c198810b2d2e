from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from automl.training.fine_tuning import prune_by_magnitude
from automl.training.packed_weights import pack, unpack


def test_weights_come_back_to_half_a_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = {
        "matrix": torch.randn(50, 16) * torch.logspace(-4, 2, 50)[:, None],
        "filters": torch.randn(8, 16, 1, 3),
        "vector": torch.randn(16),
        "numbers": torch.randint(0, 9, (5, 3), dtype=torch.int32),
        "nothing": torch.zeros(4, 4),
    }
    save_file(pack(weights), tmp_path / "packed.safetensors")
    found = unpack(load_file(tmp_path / "packed.safetensors"))
    assert set(found) == set(weights)
    for name in ("vector", "numbers", "nothing"):
        assert torch.equal(found[name], weights[name]) and found[name].dtype == weights[name].dtype
    for name in ("matrix", "filters"):
        step = weights[name].flatten(1).abs().amax(dim=1) / 127
        assert ((found[name] - weights[name]).flatten(1).abs() <= step[:, None] * 0.5001).all()
    assert unpack(weights).keys() == weights.keys()


def test_pruned_weights_take_a_bit_and_the_others_a_byte() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Embedding(1000, 64), torch.nn.Linear(64, 64))
    masks = prune_by_magnitude(module, 0.25)
    for name, parameter in module.named_parameters():
        if name in masks:
            assert abs((parameter != 0).float().mean() - 0.25) < 0.01
            assert parameter[masks[name]].abs().min() >= 0
    packed = pack(module.state_dict())
    numbers = 1064 * 64
    size = sum(tensor.numel() * tensor.element_size() for tensor in packed.values())
    assert size < numbers * (0.25 + 0.125) + 1064 * 4 + 64 * 4 + 100
    found = unpack(packed)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found[name], parameter.detach(), atol=parameter.abs().max().item() / 200, rtol=0)
        if name in masks:
            assert not found[name][~masks[name]].any()
