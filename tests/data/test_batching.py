"""Batches for a GPU: padded to few lengths, but the same rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from automl.data import DenseRows, Rows, batches


def texts(lengths: list[int]) -> Rows:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.arange(1, offsets[-1] + 1, dtype=np.int32)
    return Rows(tokens, offsets, np.arange(len(lengths)))


def series(lengths: list[int]) -> DenseRows:
    values = np.full((len(lengths), max(lengths), 1), np.nan, dtype=np.float32)
    for row, length in enumerate(lengths):
        values[row, :length] = row
    return DenseRows(values, np.array(lengths), np.arange(len(lengths)))


@given(lengths=st.lists(st.integers(1, 700), min_size=1, max_size=60), batch_size=st.integers(1, 9))
def test_batches_of_rows_of_any_length_have_each_row_once_in_random_order(lengths: list[int], batch_size: int) -> None:
    for rows in (texts(lengths), series(lengths)):
        found = list(batches(rows, batch_size, shuffle=np.random.default_rng(0), by_length=False))
        drawn = np.concatenate([batch.index.numpy() for batch in found])
        assert sorted(drawn) == list(range(len(lengths)))
        for batch in found:
            assert batch.tokens.shape[1] == batch.lengths.max() == max(lengths[row] for row in batch.index)
        turned = series(lengths[::-1]) if isinstance(rows, DenseRows) else texts(lengths[::-1])
        again = batches(turned, batch_size, shuffle=np.random.default_rng(0), by_length=False)
        assert [batch.index.tolist() for batch in again] == [batch.index.tolist() for batch in found]


@given(lengths=st.lists(st.integers(1, 700), min_size=1, max_size=60), batch_size=st.integers(1, 9))
def test_batches_for_a_gpu_have_few_lengths_and_the_same_rows(lengths: list[int], batch_size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # which needs a GPU
        for rows in (texts(lengths), series(lengths)):
            pairs = [
                list(batches(rows, batch_size, shuffle=np.random.default_rng(0), for_gpu=for_gpu))
                for for_gpu in (False, True)
            ]
            widths = set()
            for plain, padded in zip(*pairs, strict=True):
                before, after = plain.tokens.shape[1], padded.tokens.shape[1]
                assert before <= after < max(1.25 * before, before + 8)
                assert torch.equal(padded.tokens[:, :before].nan_to_num(-1), plain.tokens.nan_to_num(-1))
                rest = padded.tokens[:, before:]
                assert (rest.isnan() if rows.__class__ is DenseRows else rest == 0).all()
                for name in ("lengths", "labels", "index"):
                    assert torch.equal(getattr(padded, name), getattr(plain, name))
                widths.add(after)
            assert len(widths - {max(lengths)}) <= 4 * (np.log2(max(lengths)) + 1)
