"""Cleaning and batching."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.data import Rows, batches, clean_texts

KEEP = {
    "fix_encoding": False,
    "strip_html": False,
    "urls": "keep",
    "user_names": "keep",
    "numbers": "keep",
    "lowercase": False,
}


@pytest.mark.parametrize(
    ("step", "text", "expected"),
    [
        ({"strip_html": True}, "<p>I can&#39;t &amp; <b>won't</b><br/>go</p>", "I can't & won't go"),
        ({"strip_html": True}, "<script>var a = '<b>';</script>x<style>p {}</style> y", "x y"),
        ({"strip_html": True}, "a < b, i <3 you, 5 > 4", "a < b, i <3 you, 5 > 4"),
        ({"strip_html": True}, "<!-- note -->kept", "kept"),
        ({"strip_html": True}, "AT&amp;T &lt;tag&gt;", "AT&T <tag>"),
        ({"fix_encoding": True}, "doesnâ€™t cafÃ©", "doesn't café"),
        ({"urls": "replace"}, "see http://t.co/x?y=1 and www.a.b now", "see <url> and <url> now"),
        ({"urls": "remove"}, "see http://t.co/x", "see"),
        ({"user_names": "replace"}, "@united mail me@x.com @a_b!", "<user> mail me@x.com <user> !"),
        ({"numbers": "replace"}, "at 3:45 for $1,200.50 (20%) b2b", "at <number> for $ <number> ( <number> ) b2b"),
        ({"lowercase": True}, "GREAT Tür", "great tür"),
        ({}, "  a \n\t b ", "a b"),
    ],
)
def test_cleaning(step: dict[str, object], text: str, expected: str) -> None:
    assert list(clean_texts([text], {**KEEP, **step})) == [expected]


@given(st.lists(st.text(max_size=60), max_size=5))
def test_cleaning_never_fails(texts: list[str]) -> None:
    everything = {
        **KEEP,
        "fix_encoding": True,
        "strip_html": True,
        "urls": "remove",
        "user_names": "remove",
        "numbers": "remove",
        "lowercase": True,
    }
    assert len(list(clean_texts(texts, everything))) == len(texts)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(1, 10), st.one_of(st.none(), st.integers(0, 99))
)
def test_batches_have_every_row_once_and_nothing_else(lengths: list[int], size: int, seed: int | None) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = Rows(np.arange(1, offsets[-1] + 1, dtype=np.int32), offsets, np.arange(len(lengths)) % 3)
    shuffle = None if seed is None else np.random.default_rng(seed)
    found = []
    for batch in batches(rows, size, shuffle=shuffle):
        assert batch.tokens.shape == (len(batch.index), int(batch.lengths.max()))
        for tokens, length, label, row in zip(batch.tokens, batch.lengths, batch.labels, batch.index, strict=True):
            expected = rows.tokens[offsets[row] : offsets[row + 1]]
            assert tokens[:length].tolist() == expected.tolist()
            assert not tokens[length:].any()
            assert label == rows.labels[row]
            found.append(int(row))
    assert sorted(found) == list(range(len(lengths)))


def test_batches_hold_rows_of_like_length_and_differ_between_epochs() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, size=5000)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = Rows(np.ones(offsets[-1], dtype=np.int32), offsets, np.zeros(5000, dtype=np.int64))
    generator = np.random.default_rng(0)
    epochs = [list(batches(rows, 50, shuffle=generator)) for _ in range(2)]
    padded = sum(batch.tokens.numel() for batch in epochs[0])
    assert padded < 1.1 * lengths.sum()
    assert not np.array_equal(epochs[0][0].index, epochs[1][0].index)
