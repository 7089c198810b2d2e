"""Cleaned texts to token numbers: each piece between blanks goes through the tokenizer once, then it is known.

No token of words or of byte pairs spans a blank, so a text's tokens are those of its pieces; and most pieces of a
large data set have been seen before. Characters, the blank among them, are looked up in a table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models

from automl.data.vocabulary import UNKNOWN_ID

MOST_KNOWN = 100_000  # pieces; then they are forgotten, so that memory is bounded
CODE_POINTS = 0x110000


class PieceEncoder:
    """Encodes cleaned texts, whose white space is single blanks, exactly as its tokenizer does."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._characters = _character_table(tokenizer)
        self._forget()

    def _forget(self) -> None:
        self._numbers: dict[str, int] = {}
        self._starts = np.zeros(0, dtype=np.int64)
        self._sizes = np.zeros(0, dtype=np.int64)
        self._tokens = np.zeros(0, dtype=np.int32)

    def encode(
        self, texts: Sequence[str], max_length: int | None
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Token numbers int32 [total] and lengths int64 [rows] of texts, cut to `max_length`.

        A text without any token becomes one unknown token.
        """
        if self._characters is not None:
            codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
            lengths = np.fromiter(map(len, texts), np.int64, len(texts))
            return cut_texts(self._characters[codes], lengths, max_length)
        pieces = " ".join(texts).split(" ") if texts else []
        self._learn(set(pieces))
        numbers = np.fromiter(map(self._numbers.__getitem__, pieces), np.int64, len(pieces))
        sizes = self._sizes[numbers]
        ends = np.cumsum(sizes)
        tokens = self._tokens[np.repeat(self._starts[numbers] - ends + sizes, sizes) + np.arange(sizes.sum())]
        counts = np.fromiter((text.count(" ") + 1 for text in texts), np.int64, len(texts))
        lengths = np.add.reduceat(sizes, np.cumsum(counts) - counts) if texts else counts
        return cut_texts(tokens, lengths, max_length)

    def _learn(self, pieces: set[str]) -> None:
        new = pieces.difference(self._numbers)
        if len(self._numbers) + len(new) > MOST_KNOWN:
            self._forget()
            new = pieces
        if not new:
            return
        found = [each.ids for each in self._tokenizer.encode_batch_fast(list(new))]
        self._numbers.update(zip(new, range(len(self._sizes), len(self._sizes) + len(new)), strict=True))
        sizes = np.fromiter(map(len, found), np.int64, len(found))
        self._starts = np.concatenate([self._starts, len(self._tokens) + np.cumsum(sizes) - sizes])
        self._sizes = np.concatenate([self._sizes, sizes])
        flat = np.fromiter((token for row in found for token in row), np.int32, int(sizes.sum()))
        self._tokens = np.concatenate([self._tokens, flat])


def _character_table(tokenizer: Tokenizer) -> npt.NDArray[np.int32] | None:
    """The token of each code point, int32 [code points]; None where tokens are not single characters."""
    if not isinstance(tokenizer.model, models.WordLevel) or not tokenizer.encode(" ").ids:
        return None
    table = np.full(CODE_POINTS, UNKNOWN_ID, dtype=np.int32)
    for token, number in tokenizer.get_vocab().items():
        if len(token) == 1:
            table[ord(token)] = number
    return table


def cut_texts(
    tokens: npt.NDArray[np.int32], lengths: npt.NDArray[np.int64], max_length: int | None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Tokens int32 [total] and lengths int64 [rows] with each text cut, and one unknown token for one without any."""
    if max_length is not None and len(lengths) and lengths.max() > max_length:
        starts = np.cumsum(lengths) - lengths
        tokens = tokens[np.arange(len(tokens)) - np.repeat(starts, lengths) < max_length]
        lengths = np.minimum(lengths, max_length)
    empty = lengths == 0
    if empty.any():
        tokens = np.insert(tokens, (np.cumsum(lengths) - lengths)[empty], UNKNOWN_ID)
        lengths = np.maximum(lengths, 1)
    return tokens, lengths
