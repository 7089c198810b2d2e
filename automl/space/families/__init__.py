"""The families of networks by the names that `model` gives them; `automl.models` builds them."""

from __future__ import annotations

from automl.space.families.images import ImageCnn, Pretrained
from automl.space.families.series import SequenceCnn
from automl.space.families.texts import Cnn, CnnRnn, Dpcnn, Rnn, RnnCnn, Tcn
from automl.space.sections import Section

FAMILIES: dict[str, type[Section]] = {
    "cnn": Cnn,
    "rnn": Rnn,
    "cnn_rnn": CnnRnn,
    "rnn_cnn": RnnCnn,
    "dpcnn": Dpcnn,
    "tcn": Tcn,
    "image_cnn": ImageCnn,
    "pretrained": Pretrained,
    "sequence_cnn": SequenceCnn,
}

__all__ = ["FAMILIES"]
