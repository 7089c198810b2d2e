"""The networks of the families that a search chooses from; `automl.space.families` says what can be set of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from automl.models.cnn import TextCnn
from automl.models.cnn_rnn import TextCnnRnn
from automl.models.dpcnn import TextDpcnn
from automl.models.embedding import NOTHING_KNOWN, Lexicon, lexicon_of
from automl.models.image_cnn import ImageNetwork
from automl.models.pretrained import PretrainedNetwork
from automl.models.pruning import can_be_narrowed, narrow
from automl.models.rnn import TextRnn
from automl.models.rnn_cnn import TextRnnCnn
from automl.models.sequence_cnn import MaskedBatchNorm, SequenceNetwork
from automl.models.tcn import TextTcn
from automl.models.user_family import build_user_family, family_folder, family_section, find_family, is_user_family
from automl.space.families import FAMILIES

_MODULES: dict[str, Callable[[Mapping[str, Any], int, int, Lexicon], nn.Module]] = {
    "cnn": TextCnn,
    "rnn": TextRnn,
    "cnn_rnn": TextCnnRnn,
    "rnn_cnn": TextRnnCnn,
    "dpcnn": TextDpcnn,
    "tcn": TextTcn,
    "image_cnn": ImageNetwork,
    "pretrained": PretrainedNetwork,
    "sequence_cnn": SequenceNetwork,
}


def build(model: Mapping[str, Any], *, vocabulary: int, classes: int, lexicon: Lexicon = NOTHING_KNOWN) -> nn.Module:
    """Build the network of a configuration's `model` section, `{family: {setting: value}}`.

    Its forward takes tokens int64 [B, L] (0 is padding), pixels uint8 [B, height, width, channels] or series float32
    [B, L, channels] (NaN is padding), and lengths
    int64 [B], each at least 1, and gives logits float32 [B, classes]. `lexicon` is needed where the settings ask for
    `vectors` or `subwords`, and of images and series, which have no `vocabulary`. A family
    `module:function` is a function of the user's own, imported from where Python looks for modules. Raises KeyError for
    a family that is not registered, UserError for one that is not found.
    """
    ((family, settings),) = model.items()
    if is_user_family(family):
        return build_user_family(family, settings, vocabulary, classes)
    return _MODULES[family](settings, vocabulary, classes, lexicon)


def count_parameters(module: nn.Module) -> int:
    """Trainable numbers in `module`."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def uses_batch_statistics(module: nn.Module) -> bool:
    """Whether a network normalises by the statistics of its batches, which are then to be those of all rows.

    Batches of rows of like length are not, where length goes with the class.
    """
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, MaskedBatchNorm)
    return any(isinstance(part, kinds) for part in module.modules())


def can_be_recorded(model: Mapping[str, Any]) -> bool:
    """Whether what a step of the network of `{family: settings}` does depends on the shapes of its batch alone.

    Where weights between states are dropped, PyTorch moves the others to new memory in each step.
    """
    ((family, settings),) = model.items()
    ours = not is_user_family(family) and family != "pretrained"
    return ours and settings.get("recurrent_dropout", 0) == 0


__all__ = [
    "FAMILIES",
    "Lexicon",
    "build",
    "can_be_narrowed",
    "can_be_recorded",
    "count_parameters",
    "family_folder",
    "family_section",
    "find_family",
    "is_user_family",
    "lexicon_of",
    "narrow",
    "uses_batch_statistics",
]
