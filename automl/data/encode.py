"""The second stage: cleaned texts to token numbers, by a tokenizer fitted on the train rows alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator
from tokenizers import Tokenizer

from automl.data.clean import clean_texts
from automl.data.dense import DenseRows, join_arrays, join_dense
from automl.data.images import ImageEncoder
from automl.data.pieces import PieceEncoder
from automl.data.pixels import White
from automl.data.sequences import SequenceEncoder
from automl.data.tokenizer_file import no_panic, read_tokenizer
from automl.space.data_section import Clean
from automl.space.fixed import fixed
from automl.space.safe_files import read_json_file, validated

SURROGATE = re.compile("[\ud800-\udfff]")  # half of a character, as truncation leaves it: no tokenizer takes it
SHORTEST_AUTO, LONGEST_AUTO = 8, 1024
MOST_JSON = 64 * 1024
MOST_SIDE = 4096  # pixels of a square that a model may ask for
MOST_TOKENS = 10_000_000  # of a text
MOST_STEPS = 2**24  # numbers of a series, all channels together

DenseEncoder = ImageEncoder | SequenceEncoder
Above0 = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Rows:
    """Encoded rows: tokens int32 [total], offsets int64 [rows + 1] into them, labels int32 or 64 [rows] (-1: none).

    `pages` is the file, if `tokens` is mapped from one.
    """

    tokens: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64 | np.int32]
    pages: mmap | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """The bytes of all of it."""
        return self.tokens.nbytes + self.offsets.nbytes + self.labels.nbytes

    def lengths_of(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The tokens of each of these rows."""
        return self.offsets[index + 1] - self.offsets[index]


def join_rows(first: Rows | DenseRows, second: Rows | DenseRows, folder: Path | None = None) -> Rows | DenseRows:
    """The rows of both, of one kind, those of `first` before those of `second`.

    They are copied into memory or, where that is too small, into a file in `folder` that goes away with them.
    """
    if isinstance(first, DenseRows) and isinstance(second, DenseRows):
        return join_dense(first, second, folder)
    assert isinstance(first, Rows) and isinstance(second, Rows)
    tokens, pages = join_arrays(first.tokens, second.tokens, folder)
    return Rows(
        tokens=tokens,
        offsets=np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]]),
        labels=np.concatenate([first.labels, second.labels]),
        pages=pages,
    )


class FixedSettings(BaseModel):
    """Settings in a file of this package's own."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True)
class Encoder:
    """Raw texts in, token numbers out: the cleaning and the tokenizer that the training rows had."""

    tokenizer: Tokenizer
    clean: Mapping[str, Any]
    max_length: int

    def encode(self, texts: Sequence[str]) -> Rows:
        """Encode raw texts; a text without any token becomes one unknown token. Labels are all -1."""
        cleaned = list(clean_texts((SURROGATE.sub("\ufffd", text) for text in texts), self.clean))
        with no_panic("the tokenizer cannot take these texts"):
            tokens, lengths = PieceEncoder(self.tokenizer).encode(cleaned, self.max_length)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Rows(tokens, offsets, labels=np.full(len(texts), -1, dtype=np.int64))

    def save(self, folder: Path) -> None:
        """Write tokenizer.json (Hugging Face's format) and encoder.json into `folder`."""
        self.tokenizer.save(str(folder / "tokenizer.json"))
        settings = {"clean": dict(self.clean), "max_length": self.max_length}
        (folder / "encoder.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


class _White(FixedSettings):
    integers: Above0 | None
    floats: Above0 | None
    arrays: Above0 | None


class _ImageSettings(FixedSettings):
    size: Annotated[int, Field(ge=1, le=MOST_SIDE)]
    channels: Literal[1, 3]
    white: _White | None = None


class _SeriesSettings(FixedSettings):
    max_length: Annotated[int, Field(ge=1)]
    channels: Annotated[int, Field(ge=1)]
    missing: Literal["drop", "interpolate", "zero", "mask"] = "drop"

    @model_validator(mode="after")
    def _bounded(self) -> _SeriesSettings:
        if self.max_length * self.channels > MOST_STEPS:
            raise ValueError(f"a series has more than {MOST_STEPS:,} numbers")
        return self


class _OfImages(FixedSettings):
    image: _ImageSettings


class _OfSeries(FixedSettings):
    series: _SeriesSettings


class _OfTexts(FixedSettings):
    clean: dict[str, bool | str]
    max_length: Annotated[int, Field(ge=1, le=MOST_TOKENS)]


def load_encoder(folder: Path) -> Encoder | DenseEncoder:
    """Read what an encoder's `save` wrote.

    Raises UserError where a file is not as that writes it, FileNotFoundError where it is not there.
    """
    path = folder / "encoder.json"
    settings = read_json_file(path, MOST_JSON)
    if isinstance(settings, dict) and "image" in settings:
        image = validated(settings, _OfImages, path).image
        white = None if image.white is None else White(**image.white.model_dump())
        return ImageEncoder(image.size, image.channels, white)
    if isinstance(settings, dict) and "series" in settings:
        series = validated(settings, _OfSeries, path).series
        return SequenceEncoder(series.max_length, series.channels, series.missing)
    text = validated(settings, _OfTexts, path)
    return Encoder(read_tokenizer(folder / "tokenizer.json"), fixed_clean(text.clean, path), text.max_length)


def fixed_clean(clean: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The `clean` section of a model, every setting fixed; raises UserError, which names `path`, where it is none."""
    return fixed(validated(dict(clean), Clean, path), path, "clean")


def choose_max_length(lengths: npt.NDArray[np.int64]) -> int:
    """The length that 99 % of the texts do not exceed, within bounds."""
    return int(np.clip(np.ceil(np.percentile(lengths, 99)), SHORTEST_AUTO, LONGEST_AUTO))
