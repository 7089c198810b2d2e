"""The n-grams of words, as numbers of hash buckets (Bojanowski et al. 2017, section 3.2)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MOST = 40  # n-grams kept of a word: those of all words of up to 15 letters


def subword_numbers(words: Sequence[str], *, shortest: int, longest: int, buckets: int) -> npt.NDArray[np.int32]:
    """The buckets from 1 to `buckets` of each word's n-grams, int32 [words, N]; 0 where a word has no more.

    A word stands between `<` and `>`, so that beginnings and ends are n-grams of their own; the whole of it is none.
    N is that of the word with the most, at least 1 and at most `MOST`. The empty word has none.
    """
    rows = [[zlib.crc32(part.encode()) % buckets + 1 for part in _ngrams(word, shortest, longest)] for word in words]
    numbers = np.zeros((len(words), max(1, *(len(row) for row in rows))), dtype=np.int32)
    for place, row in enumerate(rows):
        numbers[place, : len(row)] = row
    return numbers


def _ngrams(word: str, shortest: int, longest: int) -> list[str]:
    whole = f"<{word}>"
    parts = [
        whole[start : start + size]
        for size in range(shortest, longest + 1)
        for start in range(len(whole) - size + 1)
        if word and size < len(whole)
    ]
    return parts[:MOST]
