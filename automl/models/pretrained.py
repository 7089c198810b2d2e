"""A network of torchvision without its classifier, and a new head over its features.

The library is an extra and is imported when such a network is built; its weights are never downloaded. Shapes: B
images, H by W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from automl.models.embedding import Lexicon, Standardise
from automl.models.layers import dense_head
from automl.space import UserError

BACKBONE = "backbone"
CLASSIFIER = ("avgpool", "fc", "classifier")  # the parts that are left out: features are pooled here
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for which the weights were learned


class PretrainedNetwork(nn.Module):
    """Pixels uint8 [B, H, W, C], C 1 or 3, and lengths int64 [B], which it does not need, to logits float [B, classes].

    Raises UserError where torchvision is not there.
    """

    def __init__(self, settings: Mapping[str, Any], vocabulary: int, classes: int, lexicon: Lexicon) -> None:
        super().__init__()
        self.standardise = Standardise(Lexicon(mean=torch.tensor(MEAN), deviation=torch.tensor(DEVIATION)), 255.0)
        whole = getattr(backbone_library(), settings["backbone"])(weights=None)
        # Their names are those of torchvision's files; a list of parts can be freed part by part.
        self.backbone = nn.ModuleDict(
            {
                name: nn.ModuleList(part) if name == "features" else part
                for name, part in whole.named_children()
                if name not in CLASSIFIER
            }
        )
        features = _features(whole)
        self.head = dense_head(features, settings["head"], classes, "relu", settings["dropout"])
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pixels: Tensor, lengths: Tensor) -> Tensor:
        if self.training and len(pixels) == 1:  # one image may leave nothing to normalise
            return self.forward(pixels.expand(2, -1, -1, -1), lengths)[:1]
        colours = pixels.expand(-1, -1, -1, len(MEAN))
        features = self.standardise(colours).permute(0, 3, 1, 2)  # channels last, as they came
        for part in _in_order(self.backbone):
            features = part(features)
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


def backbone_library() -> Any:
    """torchvision's module of networks; raises UserError where it is missing or does not work."""
    try:
        from torchvision import models
    except ImportError as error:
        raise UserError("model.pretrained needs torchvision: pip install 'automl[backbones]'") from error
    except Exception as error:  # one built for another PyTorch
        raise UserError(f"model.pretrained: torchvision does not work here: {error}") from error
    return models


def _in_order(parts: nn.ModuleDict) -> Iterator[nn.Module]:
    for part in parts.values():
        if isinstance(part, nn.ModuleList):
            yield from part
        else:
            yield part


def _features(whole: nn.Module) -> int:
    """What the first dense layer of the old classifier takes."""
    old = next(part for name, part in whole.named_children() if name in CLASSIFIER[1:])
    return next(part.in_features for part in old.modules() if isinstance(part, nn.Linear))
