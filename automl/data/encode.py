"""The second stage: cleaned texts to token numbers, by a tokenizer fitted on the train rows alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from automl.data.clean import clean_texts
from automl.data.dense import DenseRows, join_dense
from automl.data.images import ImageEncoder
from automl.data.pieces import PieceEncoder
from automl.data.sequences import SequenceEncoder

SURROGATE = re.compile("[\ud800-\udfff]")  # half of a character, as truncation leaves it: no tokenizer takes it
SHORTEST_AUTO, LONGEST_AUTO = 8, 1024

DenseEncoder = ImageEncoder | SequenceEncoder


@dataclass(frozen=True)
class Rows:
    """Encoded rows: tokens int32 [total], offsets int64 [rows + 1] into them, labels int64 [rows] (-1: none)."""

    tokens: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def lengths_of(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The tokens of each of these rows."""
        return self.offsets[index + 1] - self.offsets[index]


def join_rows(first: Rows | DenseRows, second: Rows | DenseRows) -> Rows | DenseRows:
    """The rows of both, of one kind, those of `first` before those of `second`; copied into memory."""
    if isinstance(first, DenseRows) and isinstance(second, DenseRows):
        return join_dense(first, second)
    assert isinstance(first, Rows) and isinstance(second, Rows)
    return Rows(
        tokens=np.concatenate([first.tokens, second.tokens]),
        offsets=np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]]),
        labels=np.concatenate([first.labels, second.labels]),
    )


@dataclass(frozen=True)
class Encoder:
    """Raw texts in, token numbers out: the cleaning and the tokenizer that the training rows had."""

    tokenizer: Tokenizer
    clean: Mapping[str, Any]
    max_length: int

    def encode(self, texts: Sequence[str]) -> Rows:
        """Encode raw texts; a text without any token becomes one unknown token. Labels are all -1."""
        cleaned = list(clean_texts((SURROGATE.sub("\ufffd", text) for text in texts), self.clean))
        tokens, lengths = PieceEncoder(self.tokenizer).encode(cleaned, self.max_length)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Rows(tokens, offsets, labels=np.full(len(texts), -1, dtype=np.int64))

    def save(self, folder: Path) -> None:
        """Write tokenizer.json (Hugging Face's format) and encoder.json into `folder`."""
        self.tokenizer.save(str(folder / "tokenizer.json"))
        settings = {"clean": dict(self.clean), "max_length": self.max_length}
        (folder / "encoder.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load_encoder(folder: Path) -> Encoder | DenseEncoder:
    """Read what an encoder's `save` wrote."""
    settings = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    if "image" in settings:
        return ImageEncoder(**settings["image"])
    if "series" in settings:
        return SequenceEncoder(**settings["series"])
    tokenizer = tokenizer_of((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return Encoder(tokenizer, settings["clean"], settings["max_length"])


def tokenizer_of(saved: str) -> Tokenizer:
    """The tokenizer whose JSON this is."""
    tokenizer = Tokenizer.from_str(saved)
    tokenizer.encode_special_tokens = True
    return tokenizer


def choose_max_length(lengths: npt.NDArray[np.int64]) -> int:
    """The length that 99 % of the texts do not exceed, within bounds."""
    return int(np.clip(np.ceil(np.percentile(lengths, 99)), SHORTEST_AUTO, LONGEST_AUTO))
