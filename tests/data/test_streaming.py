"""Rows that are streamed, and rows of rare classes drawn more often: which rows come, how often, and what is held."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.data import Batch, DenseRows, Rows, Streaming, batches, choose_streaming, join_rows, prepare
from automl.data.class_sampling import class_draws
from automl.models import FAMILIES
from automl.space import parse, sample_configs
from automl.training.shard import Shard
from tests.data.test_images import picture

STREAMING = st.builds(Streaming, block_rows=st.integers(1, 20), window_blocks=st.integers(1, 9))


@st.composite
def some_rows(draw: st.DrawFn) -> Rows | DenseRows:
    """Ragged texts, or series, of up to four classes of any size."""
    lengths = np.array(draw(st.lists(st.integers(1, 9), min_size=1, max_size=150)))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    labels = (generator.random(len(lengths)) ** 3 * 4).astype(np.int32)
    if draw(st.booleans()):
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Rows(np.arange(1, offsets[-1] + 1, dtype=np.int32), offsets, labels)
    values = generator.normal(size=(len(lengths), 9, 2)).astype(np.float32)
    return DenseRows(values, lengths, labels)


def one_pass(
    rows: Rows | DenseRows, size: int, streaming: Streaming | None, start: int = 0, sampling: float = 0.0
) -> list[Batch]:
    shuffle = np.random.default_rng(5)
    return list(batches(rows, size, shuffle=shuffle, start=start, streaming=streaming, class_sampling=sampling))


def content(batch: Batch) -> tuple[list[int], ...]:
    return tuple(each.flatten().tolist() for each in (batch.index, batch.lengths, batch.labels, batch.tokens))


def index_of(found: list[Batch]) -> list[int]:
    return [row for batch in found for row in batch.index.tolist()]


@given(some_rows(), st.integers(1, 12), STREAMING)
def test_every_row_comes_once_with_its_own_values(rows: Rows | DenseRows, size: int, streaming: Streaming) -> None:
    found = one_pass(rows, size, streaming)
    assert sorted(index_of(found)) == list(range(len(rows)))
    assert sorted(len(batch.index) for batch in found)[1:] == [size] * (len(found) - 1)
    for batch in found:
        for values, length, label, row in zip(batch.tokens, batch.lengths, batch.labels, batch.index, strict=True):
            first = rows.offsets[row] if isinstance(rows, Rows) else 0
            expected = rows.tokens[first : first + length] if isinstance(rows, Rows) else rows.values[row, :length]
            assert values[:length].tolist() == expected.tolist()
            assert length == rows.lengths_of(row[None].numpy())[0]
            assert label == rows.labels[row]


@given(some_rows(), st.integers(1, 12), st.one_of(st.none(), STREAMING), st.sampled_from([0.0, 0.5, 1.0]), st.data())
def test_a_pass_goes_on_at_any_batch_as_if_it_had_not_been_left(
    rows: Rows | DenseRows, size: int, streaming: Streaming | None, sampling: float, data: st.DataObject
) -> None:
    whole = one_pass(rows, size, streaming, sampling=sampling)
    done = data.draw(st.integers(0, len(whole)))
    start = sum(len(batch.index) for batch in whole[:done])
    rest = one_pass(rows, size, streaming, start=start, sampling=sampling)
    assert [content(batch) for batch in rest] == [content(batch) for batch in whole[done:]]


@given(some_rows(), st.integers(1, 12), st.one_of(st.none(), STREAMING), st.floats(0.05, 1.0))
def test_classes_are_drawn_as_often_as_promised(
    rows: Rows | DenseRows, size: int, streaming: Streaming | None, sampling: float
) -> None:
    found = one_pass(rows, size, streaming, sampling=sampling)
    counts, index = np.bincount(rows.labels), np.array(index_of(found))
    drawn = np.bincount(rows.labels[index], minlength=len(counts))
    assert drawn.tolist() == class_draws(counts, sampling).tolist() and drawn.sum() == len(rows)
    shares = np.where(counts > 0, counts.astype(float), 0) ** (1 - sampling) * (counts > 0)
    assert np.abs(drawn - len(rows) * shares / shares.sum()).max() < 1
    times = np.bincount(index, minlength=len(rows))
    for label in np.flatnonzero(counts):  # each row of a class as often as the others, or once more
        assert np.ptp(times[rows.labels == label]) <= 1
    assert sorted(len(batch.index) for batch in found)[1:] == [size] * (len(found) - 1)


@given(some_rows(), st.integers(1, 12), STREAMING, st.sampled_from([0.0, 1.0]), st.integers(2, 3))
def test_processes_get_disjoint_rows_and_the_same_number_of_batches(
    rows: Rows | DenseRows, size: int, streaming: Streaming, sampling: float, world: int
) -> None:
    whole = one_pass(rows, size, streaming, sampling=sampling)
    shares = [
        [next(Shard(rank, world).pieces(batch, 1)) for batch in one_pass(rows, size, streaming, sampling=sampling)]
        for rank in range(world)
    ]
    for batch, *pieces in zip(whole, *shares, strict=True):
        trained = [row for piece, weight in pieces if weight for row in piece.index.tolist()]
        assert sorted(trained) == sorted(batch.index.tolist())


def test_passes_differ_and_their_rows_are_well_mixed() -> None:
    rows = Rows(np.ones(4000, dtype=np.int32), np.arange(4001), np.repeat([0, 1], 2000))  # sorted by label
    streaming = Streaming(block_rows=10, window_blocks=50)
    passes = [
        index_of(list(batches(rows, 50, shuffle=np.random.default_rng([0, number]), streaming=streaming)))
        for number in range(2)
    ]
    assert passes[0] != passes[1]
    share = rows.labels[passes[0]].reshape(-1, 50).mean(axis=1)
    assert share.min() > 0.1 and share.max() < 0.9


def test_rare_rows_of_a_batch_are_not_all_the_same() -> None:
    rows = Rows(np.ones(3200, dtype=np.int32), np.arange(3201), np.repeat([0, 1], [3100, 100]))
    for batch in one_pass(rows, 64, None, sampling=1.0):
        rare = batch.index[batch.labels == 1].tolist()
        assert len(set(rare)) > len(rare) / 2


def test_what_does_not_fit_into_memory_is_streamed() -> None:
    rows = Rows(np.ones(1 << 20, dtype=np.int32), np.arange(0, (1 << 20) + 1, 16), np.zeros(1 << 16, dtype=np.int64))
    assert choose_streaming(rows) is None
    assert choose_streaming(rows, memory=1 << 24) is None
    streaming = choose_streaming(rows, memory=1 << 20)
    assert streaming is not None
    assert streaming.block_rows * rows.nbytes / len(rows) == pytest.approx(1 << 20, rel=0.01)


@given(some_rows())
def test_rows_joined_in_a_file_are_those_joined_in_memory(rows: Rows | DenseRows) -> None:
    with TemporaryDirectory() as folder:
        there, here = join_rows(rows, rows, Path(folder)), join_rows(rows, rows)
        assert there.pages is not None and here.pages is None
        there.pages.madvise(mmap.MADV_DONTNEED)
        for one, other in zip(one_pass(there, 7, None), one_pass(here, 7, None), strict=True):
            assert content(one) == content(other)
        assert not list(Path(folder).iterdir())


HELD = """
import sys
from pathlib import Path
import numpy as np
from automl.data import Streaming, batches
from automl.data.dense import open_dense

folder = Path(sys.argv[1])
labels = np.zeros(1500, dtype=np.int64)

def held() -> int:
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) << 10

def most_held(streaming) -> int:
    rows = open_dense(folder, "train", labels)
    before, most, drawn = held(), 0, 0
    for batch in batches(rows, 10, shuffle=np.random.default_rng(0), streaming=streaming):
        drawn += len(batch.index)
        most = max(most, held() - before)
    assert drawn == len(rows)
    return most

most_held(Streaming(16, 4))  # what is loaded and allocated once
print(most_held(Streaming(16, 6)), most_held(None))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_is_held_of_a_streamed_set_does_not_grow_with_it(tmp_path: Path) -> None:
    pictures = [picture(number, side=64, mode="RGB") for number in range(150)]
    columns = {"image": pictures * 10, "label": ["a", "b"] * 750}
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    pq.write_table(pa.table(columns).slice(0, 20), tmp_path / "validation.parquet")
    files = f"train: {tmp_path}/train.parquet, validation: [{tmp_path}/validation.parquet]"
    space = f"name: x\ntask: image_classification\ndata: {{{files}}}\nmodel: {{image_cnn: {{}}}}"
    prepared = prepare(sample_configs(parse(space, FAMILIES), 1, seed=0)[0]["data"], seed=0, cache=tmp_path / "cache")
    done = subprocess.run(
        [sys.executable, "-c", HELD, prepared.path], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    streamed, resident = map(int, done.stdout.split())
    size = 1500 * 64 * 64 * 3
    assert resident > 0.9 * size  # so the figure is of what is mapped too
    assert streamed < size / 3  # two windows are an eighth
