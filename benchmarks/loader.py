"""Batches a second: rows of a prepared data set as automl draws them, against a DataLoader and resident tensors.

    python benchmarks/loader.py --data DIR          DIR holds train.parquet with columns text and label

`lists` is a DataLoader over a list of examples that pads each batch to its longest row. `resident` holds all rows
padded in one tensor in memory, shuffles with one permutation and cuts each batch to its longest row. `automl` draws
from the memory-mapped file that trials read, rows of like length together; `copied` is the same with the file in
memory, so the difference between the two is what reading costs. `streamed` draws from the file as if it were larger
than memory: a window of blocks at a time, of which there are about four, read ahead on a thread. `order` is the part of
a pass that `automl` spends before its first batch: shuffling all rows. The rows are repeated to `--rows`. Seconds are
the process's own.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from measure import use_cores, wide_console
from rich.table import Table
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from automl.data import Rows, Streaming, batches, prepare
from automl.models import FAMILIES
from automl.space import parse, sample_configs

Pass = Callable[[int], Iterator[Any]]


def rows_of(folder: Path, rows: int, cache: Path) -> Rows:
    table = pq.read_table(folder / "train.parquet", columns=["text", "label"])
    repeated = pa.concat_tables([table] * -(-rows // len(table))).slice(0, rows)
    pq.write_table(repeated, cache / "train.parquet")
    text = f"name: x\ndata: {{train: {cache}/train.parquet, validation: 0.01}}\nmodel: {{cnn: {{}}}}"
    found = prepare(sample_configs(parse(text, FAMILIES), 1, seed=0)[0]["data"], seed=0, cache=cache).rows("train")
    assert isinstance(found, Rows)
    return found


def drawn(rows: Rows, size: int, streaming: Streaming | None = None) -> Pass:
    return lambda seed: batches(rows, size, shuffle=np.random.default_rng(seed), streaming=streaming)


def from_lists(rows: Rows, size: int) -> Pass:
    inputs = [torch.tensor(rows.tokens[first:last]).long() for first, last in pairwise(rows.offsets)]
    examples = list(zip(inputs, rows.labels.tolist(), strict=True))

    def collate(chosen: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
        tokens = [row for row, _ in chosen]
        lengths = torch.tensor([len(row) for row in tokens])
        return pad_sequence(tokens, batch_first=True), lengths, torch.tensor([label for _, label in chosen])

    loader = DataLoader(examples, batch_size=size, shuffle=True, collate_fn=collate)  # type: ignore[arg-type]
    return lambda seed: iter(loader)


def from_resident(rows: Rows, size: int) -> Pass:
    lengths = torch.from_numpy(np.diff(rows.offsets))
    inside = torch.arange(int(lengths.max())) < lengths[:, None]
    tokens = torch.zeros(inside.shape, dtype=torch.int32).masked_scatter_(inside, torch.tensor(rows.tokens))
    labels = torch.tensor(rows.labels)

    def run(seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        for index in order.split(size):
            length = lengths[index]
            yield tokens[index, : int(length.max())].long(), length, labels[index]

    return run


def seconds_of(run: Pass, seed: int) -> tuple[float, float, int]:
    """Seconds of a pass and until its first batch, and its batches."""
    clock, first, count = time.process_time(), 0.0, 0
    for _ in run(seed):
        count += 1
        if count == 1:
            first = time.process_time() - clock
    return time.process_time() - clock, first, count


def main(
    data: Annotated[Path, typer.Option(help="A folder with train.parquet: columns text and label.")],
    rows: Annotated[int, typer.Option(min=1000)] = 500_000,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    rounds: Annotated[int, typer.Option(help="Passes of each arm.", min=1)] = 3,
    output: Annotated[Path | None, typer.Option(help="Where to write the figures as JSON.")] = None,
) -> None:
    """Measure and print a table."""
    use_cores(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        prepared = rows_of(data, rows, Path(cache))
        copied = replace(prepared, tokens=np.array(prepared.tokens), offsets=np.array(prepared.offsets))
        arms = {
            "automl": drawn(prepared, batch_size),
            "copied": drawn(copied, batch_size),
            "streamed": drawn(prepared, batch_size, Streaming(block_rows=len(prepared) // 400 + 1, window_blocks=100)),
            "resident": from_resident(prepared, batch_size),
            "lists": from_lists(prepared, batch_size),
        }
        passes = {arm: [seconds_of(run, seed) for seed in range(rounds + 1)][1:] for arm, run in arms.items()}
    seconds = {arm: float(np.median([whole for whole, _, _ in found])) for arm, found in passes.items()}
    count = passes["automl"][0][2]
    figures = {
        "rows": len(prepared),
        "batches": count,
        "batches_per_second": {arm: count / each for arm, each in seconds.items()},
        "automl_faster_than": {arm: seconds[arm] / seconds["automl"] for arm in arms if arm != "automl"},
        "order_share": float(np.median([first / whole for whole, first, _ in passes["automl"]])),
    }
    table = Table("arm", "batches/s", "automl : arm")
    for arm, rate in figures["batches_per_second"].items():  # type: ignore[attr-defined]
        table.add_row(arm, f"{rate:,.0f}", f"{seconds[arm] / seconds['automl']:.2f}")
    console = wide_console()
    console.print(table)
    console.print(f"order: {figures['order_share']:.0%} of a pass")
    if output is not None:
        output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
