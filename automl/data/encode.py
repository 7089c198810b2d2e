"""The second stage: cleaned texts to token numbers, by a tokenizer fitted on the train rows alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from automl.data.clean import clean_texts
from automl.data.dense import DenseRows, join_dense
from automl.data.images import ImageEncoder
from automl.data.sequences import SequenceEncoder

PADDING, UNKNOWN = "[PAD]", "[UNK]"
PADDING_ID, UNKNOWN_ID = 0, 1

# Marks of cleaning, words with their apostrophes, tags and names; then runs of anything else, such as :-) and !!!
WORDS = r"<(?:url|user|number)>|[#@]?\w+(?:['’]\w+)*|[^\w\s]+"  # noqa: RUF001
SURROGATE = re.compile("[\ud800-\udfff]")  # half of a character, as truncation leaves it: no tokenizer takes it
SHORTEST_AUTO, LONGEST_AUTO = 8, 1024
CHUNK_ROWS = 4096

DenseEncoder = ImageEncoder | SequenceEncoder


@dataclass(frozen=True)
class Rows:
    """Encoded rows: tokens int32 [total], offsets int64 [rows + 1] into them, labels int64 [rows] (-1: none)."""

    tokens: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


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
        whole = (SURROGATE.sub("\ufffd", text) for text in texts)
        parts = list(encode_chunks(self.tokenizer, clean_texts(whole, self.clean), self.max_length))
        tokens = [part for part, _ in parts]
        lengths = [length for _, length in parts]
        return Rows(
            tokens=np.concatenate(tokens) if tokens else np.zeros(0, dtype=np.int32),
            offsets=np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
            if lengths
            else np.zeros(1, dtype=np.int64),
            labels=np.full(len(texts), -1, dtype=np.int64),
        )

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
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    return Encoder(tokenizer, settings["clean"], settings["max_length"])


def fit_tokenizer(tokenizer: Mapping[str, Any], texts: Iterable[str], rows: int) -> Tokenizer:
    """Fit the tokenizer of `{name: settings}` on `rows` cleaned texts; number 0 is padding, 1 is unknown."""
    ((name, settings),) = tokenizer.items()
    special = [PADDING, UNKNOWN]
    if name == "bpe":
        fitted = Tokenizer(models.BPE(unk_token=UNKNOWN))
        fitted.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        fitted.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=settings["vocabulary"],
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        fitted = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        if name == "word":
            fitted.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
        else:
            fitted.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
        trainer = trainers.WordLevelTrainer(
            vocab_size=settings["vocabulary"],
            min_frequency=settings.get("min_count", 1),
            special_tokens=special,
            show_progress=False,
        )
    fitted.train_from_iterator(texts, trainer, length=rows)
    fitted.encode_special_tokens = True  # a text that says [PAD] says so in plain words
    return fitted


def token_texts(tokenizer: Tokenizer) -> list[str]:
    """What each token number stands for; padding and unknown, and pieces of a character, for nothing."""
    texts = [""] * tokenizer.get_vocab_size()
    by_bytes = tokenizer.decoder is not None
    for token, number in tokenizer.get_vocab().items():
        if number not in (PADDING_ID, UNKNOWN_ID):
            texts[number] = tokenizer.decode([number]).strip().replace("\ufffd", "") if by_bytes else token
    return texts


def encode_chunks(
    tokenizer: Tokenizer, texts: Iterable[str], max_length: int | None
) -> Iterator[tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]]:
    """Token numbers int32 [total] and lengths int64 [rows] of a few thousand texts at a time."""
    for chunk in _chunks(texts):
        numbers = [encoding.ids[:max_length] or [UNKNOWN_ID] for encoding in tokenizer.encode_batch_fast(chunk)]
        lengths = np.fromiter((len(row) for row in numbers), np.int64, len(numbers))
        flat = np.fromiter((token for row in numbers for token in row), np.int32, int(lengths.sum()))
        yield flat, lengths


def choose_max_length(lengths: npt.NDArray[np.int64]) -> int:
    """The length that 99 % of the texts do not exceed, within bounds."""
    return int(np.clip(np.ceil(np.percentile(lengths, 99)), SHORTEST_AUTO, LONGEST_AUTO))


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == CHUNK_ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
