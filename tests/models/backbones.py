"""A stand-in for torchvision, which tests do not need: networks with its names and order of parts, but tiny."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
from torch import Tensor, nn


def convolution(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


class Resnet18(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.layer1, self.layer2 = convolution(4, 6), convolution(6, 8)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8, 1000)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.layer2(self.layer1(self.relu(self.bn1(self.conv1(pixels)))))
        logits: Tensor = self.fc(self.avgpool(features).flatten(1))
        return logits


class MobilenetV3Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(convolution(3, 4), convolution(4, 6))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(6, 9), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(9, 1000))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.avgpool(self.features(pixels)).flatten(1))
        return logits


@contextmanager
def torchvision_replaced() -> Iterator[ModuleType]:
    """Let `from torchvision import models` find the networks above; gives that module."""
    library, models = ModuleType("torchvision"), ModuleType("torchvision.models")
    library.models = models  # type: ignore[attr-defined]
    models.resnet18 = lambda weights: Resnet18()  # type: ignore[attr-defined]
    models.mobilenet_v3_small = lambda weights: MobilenetV3Small()  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torchvision", library)
        patch.setitem(sys.modules, "torchvision.models", models)
        yield models
