"""What a network knows before its first step: an earlier model's weights, or a backbone's, and what is trained when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from automl.models.pretrained import BACKBONE
from automl.space import UserError
from automl.training.transfer import Freezing, plan_freezing, rate_shares, read_earlier, read_state_dict, take_over

KINDS = (".safetensors", ".pt", ".pth")


@dataclass(frozen=True)
class Beginning:
    """`freezing` and the `shares` of the learning rate by parameter are None where all are trained alike."""

    report: Mapping[str, Any] = field(default_factory=dict)
    freezing: Freezing | None = None
    shares: Mapping[int, float] | None = None


def begin_with(
    module: nn.Module, config: Mapping[str, Any], words: Callable[[], Sequence[str]], classes: Sequence[str]
) -> Beginning:
    """Give `module` what the configuration says is learned already: `init_from`, else the weights of its backbone.

    Raises UserError where files cannot be used.
    """
    ((_, family),) = config["model"].items()
    if (settings := config["training"]["init_from"]) is not None:
        taken = take_over(module, read_earlier(settings["model"]), words(), classes)
        report, section = {"init_from": taken}, "init_from"
    elif BACKBONE in dict(module.named_children()) and family["weights"] is not None:
        settings, path = family, backbone_file(family["weights"], family["backbone"])
        taken = {"file": path.name, "loaded": load_backbone(module, path)}
        report = {"backbone": {"file": path.name, "loaded": len(taken["loaded"])}}
        section = "model.pretrained"
    else:
        return Beginning()
    freezing = plan_freezing(module, settings, taken["loaded"], section)
    return Beginning(report, freezing, rate_shares(module, settings["rate_decay"]))


def backbone_file(weights: str, backbone: str) -> Path:
    """The file with a backbone's weights: `weights` itself, or the one in that folder that begins with its name.

    Raises UserError where there is none, or more than one.
    """
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"model.pretrained.weights: there is no file or folder {weights}")
    names = (f"{backbone}{between}" for between in ("-", "."))  # resnet18-f37072fd.pth, as PyTorch keeps it
    starts = tuple(names)
    found = sorted(file for file in path.iterdir() if file.name.startswith(starts) and file.suffix in KINDS)
    if len(found) != 1:
        raise UserError(
            f"model.pretrained.weights: {weights} has {len(found) or 'no'} files of {backbone}; expected one, "
            f"such as {backbone}.safetensors or {backbone}-f37072fd.pth"
        )
    return found[0]


@torch.no_grad()
def load_backbone(module: nn.Module, path: Path) -> list[str]:
    """Give the backbone of `module` the weights of torchvision's state dict in `path`; gives their names in `module`.

    Those of its old classifier are left out. Raises UserError where others are missing or of another shape.
    """
    weights = read_state_dict(path, "model.pretrained.weights")
    backbone, loaded = module.get_submodule(BACKBONE), []
    for name, value in backbone.state_dict().items():
        there = weights.get(name)
        if there is None and name.endswith("num_batches_tracked"):  # old files have none
            continue
        if there is None or there.shape != value.shape:
            wrong = "is missing" if there is None else f"has the shape {[*there.shape]}, not {[*value.shape]}"
            raise UserError(f"model.pretrained.weights: {path} is of another network: {name} {wrong}")
        value.copy_(there)
        loaded.append(f"{BACKBONE}.{name}")
    return loaded
