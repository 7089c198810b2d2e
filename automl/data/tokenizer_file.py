"""A tokenizer.json that a stranger may have written: only what `fit_tokenizer` writes is taken.

The format lets a file bring regular expressions, normalizers and tables of its own, with which a short text can cost
hours. So the file is checked as a whole against the few forms that this package writes, and the tokenizer is made of
what was checked, not of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, FiniteFloat, Tag
from tokenizers import Tokenizer

from automl.data.vocabulary import PADDING, PADDING_ID, SPECIAL_INSIDE, UNKNOWN, UNKNOWN_ID, WORDS
from automl.space import UserError
from automl.space.safe_files import first_line, read_as

MOST_BYTES = 64 * 1024 * 1024
LONGEST_PIECE = 256  # characters: looking for the likeliest pieces of a text takes its length times this
ADDED = [(PADDING_ID, PADDING), (UNKNOWN_ID, UNKNOWN)]


class TokenizerError(UserError):
    """The tokenizers library failed, on its file or on some text."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Added(_Strict):
    id: int
    content: str
    single_word: Literal[False]
    lstrip: Literal[False]
    rstrip: Literal[False]
    normalized: Literal[False]
    special: Literal[True]


def _both_added(tokens: list[_Added]) -> list[_Added]:
    if [(token.id, token.content) for token in tokens] != ADDED:
        raise ValueError(f"expected {PADDING} and {UNKNOWN}")
    return tokens


class _Regex(_Strict):
    Regex: Literal[WORDS, ".", SPECIAL_INSIDE]  # type: ignore[valid-type]


class _Split(_Strict):
    type: Literal["Split"]
    pattern: _Regex
    behavior: Literal["Removed", "Isolated"]
    invert: bool


class _ByteLevel(_Strict):
    type: Literal["ByteLevel"]
    add_prefix_space: bool
    trim_offsets: bool
    use_regex: bool


class _Metaspace(_Strict):
    type: Literal["Metaspace"]
    replacement: Annotated[str, Field(min_length=1, max_length=1)]
    prepend_scheme: Literal["always", "first", "never"]
    split: bool


class _Sequence(_Strict):
    type: Literal["Sequence"]
    pretokenizers: Annotated[
        list[Annotated[_Metaspace | _Split, Field(discriminator="type")]], Field(min_length=1, max_length=2)
    ]


def _numbered(vocabulary: dict[str, int]) -> dict[str, int]:
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ValueError("the tokens are not numbered from 0 without gaps")
    if (vocabulary.get(PADDING), vocabulary.get(UNKNOWN)) != (PADDING_ID, UNKNOWN_ID):
        raise ValueError(f"{PADDING} is not token {PADDING_ID}, or {UNKNOWN} not token {UNKNOWN_ID}")
    return vocabulary


def _pieces(vocabulary: list[tuple[str, float]]) -> list[tuple[str, float]]:
    pieces = [piece for piece, _ in vocabulary]
    _numbered({piece: number for number, piece in enumerate(pieces)})
    if len(set(pieces)) < len(pieces):
        raise ValueError("a piece is there twice")
    return vocabulary


_Numbered = Annotated[dict[str, int], AfterValidator(_numbered)]
_Piece = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=LONGEST_PIECE)], FiniteFloat], Field(strict=False)
]
_Pair = Annotated[list[str], Field(min_length=2, max_length=2)]


class _WordLevel(_Strict):
    type: Literal["WordLevel"]
    vocab: _Numbered
    unk_token: Literal[UNKNOWN]  # type: ignore[valid-type]


class _Bpe(_Strict):
    type: Literal["BPE"]
    dropout: None
    unk_token: Literal[UNKNOWN]  # type: ignore[valid-type]
    continuing_subword_prefix: None
    end_of_word_suffix: None
    fuse_unk: Literal[False]
    byte_fallback: Literal[False]
    ignore_merges: Literal[False] = False
    vocab: _Numbered
    merges: list[_Pair | str]


class _Unigram(_Strict):
    type: Literal["Unigram"]
    unk_id: Literal[UNKNOWN_ID]  # type: ignore[valid-type]
    vocab: Annotated[list[_Piece], Field(min_length=2), AfterValidator(_pieces)]
    byte_fallback: Literal[False] = False


def _kind(value: Any) -> str | None:
    """Files of older versions of the library name no type of the model."""
    if isinstance(value, dict) and "type" not in value:
        return "Unigram" if "unk_id" in value else "BPE" if "merges" in value else "WordLevel"
    return value.get("type") if isinstance(value, dict) else getattr(value, "type", None)


class TokenizerFile(_Strict):
    """What a tokenizer.json of this package holds."""

    version: Literal["1.0"]
    truncation: None
    padding: None
    added_tokens: Annotated[list[_Added], AfterValidator(_both_added)]
    normalizer: None
    pre_tokenizer: Annotated[_Split | _ByteLevel | _Sequence, Field(discriminator="type")]
    post_processor: None
    decoder: Annotated[_ByteLevel | _Metaspace, Field(discriminator="type")] | None
    model: Annotated[
        Annotated[_WordLevel, Tag("WordLevel")] | Annotated[_Bpe, Tag("BPE")] | Annotated[_Unigram, Tag("Unigram")],
        Discriminator(_kind),
    ]


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a file that this package wrote; raises UserError for any other file, OSError without one."""
    content = read_as(path, TokenizerFile, MOST_BYTES)
    with no_panic(f"{path} is damaged"):
        return tokenizer_of(json.dumps(content.model_dump()))


def tokenizer_of(saved: str) -> Tokenizer:
    """The tokenizer whose JSON this is, which this process has written or checked."""
    tokenizer = Tokenizer.from_str(saved)
    tokenizer.encode_special_tokens = True
    return tokenizer


@contextmanager
def no_panic(what: str) -> Iterator[None]:
    """What the tokenizers library raises, as a TokenizerError that begins with `what`.

    Its errors are bare Exceptions, and a panic of its Rust code is no Exception at all: `except Exception` misses it.
    """
    try:
        yield
    except BaseException as error:
        if type(error) is Exception or type(error).__name__ == "PanicException":
            raise TokenizerError(f"{what}: {first_line(error)}") from error
        raise
