"""Data-parallel training in real processes: the same result as in one, also where a process has no row of a batch."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from automl.data import Batch, prepare
from automl.models import FAMILIES
from automl.space import load, sample_configs
from automl.training.fit import train_epoch
from automl.training.shard import Shard
from automl.training.start import start

CPU = torch.device("cpu")


def begin(config: dict[str, Any], cache: Path, shard: Shard) -> Any:
    prepared = prepare(config["data"], seed=0, cache=cache)
    return start(config, prepared, max_epochs=2, seed=0, device=CPU, shard=shard)


def one_process(config: dict[str, Any], cache: Path, rank: int, world: int, folder: Path) -> None:
    """What each process does: two epochs, then one that only the last process wants to interrupt."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), world)  # type: ignore[no-untyped-call]
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    training = begin(config, cache, Shard(rank, world))
    lines = [train_epoch(training) for _ in range(2)]
    torch.save({"lines": lines, "weights": training.module.state_dict()}, folder / f"{rank}.pt")
    assert train_epoch(training, lambda: rank == world - 1) is None
    del training  # it holds the process group, whose threads abort the process if they outlive the interpreter
    gc.collect()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_as_one_does(small_space: Path, tmp_path: Path) -> None:
    configs = {next(iter(config["model"])): config for config in sample_configs(load(small_space, FAMILIES), 9, seed=0)}
    assert set(configs) == {"cnn", "rnn"}
    for family, config in configs.items():
        # 400 rows: the last batch is one row
        config["training"] |= {"batch_size": 57, "ema": 0.9 if family == "cnn" else None, "accumulation": 2}
        config["training"]["precision"] = "float32"
        config["training"]["optimizer"] = {"adamw": {"learning_rate": 0.02, "weight_decay": 0.01}}
        config["model"][family] |= {"dropout": 0.0, "token_dropout": 0.0}
        same_as_alone(config, tmp_path / family, tmp_path / "cache")
    # The second epoch trains layers that the first had frozen.
    earlier = {"model": str(tmp_path / "cnn" / "alone.pt"), "frozen_epochs": 0, "gradual": True, "freeze": []}
    configs["cnn"]["training"] |= {"init_from": {**earlier, "rate_decay": 0.5}}
    same_as_alone(configs["cnn"], tmp_path / "later", tmp_path / "cache")


def same_as_alone(config: dict[str, Any], folder: Path, cache: Path) -> None:
    folder.mkdir()
    alone = begin(config, cache, Shard())
    expected = [train_epoch(alone) for _ in range(2)]
    torch.save(alone.module.state_dict(), folder / "alone.pt")
    command = [sys.executable, "-m", "tests.training.test_shard", json.dumps(config), str(cache)]
    processes = [
        subprocess.Popen([*command, str(rank), "2", str(folder)], env={**os.environ, "OMP_NUM_THREADS": "1"})
        for rank in range(2)
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    for rank in range(2):
        found = torch.load(folder / f"{rank}.pt")
        for line, other in zip(found["lines"], expected, strict=True):
            assert other is not None and line["rows"] == other["rows"]
            for name in ("train_loss", "loss", "accuracy"):
                assert line[name] == pytest.approx(other[name], abs=2e-3)
        for name, value in alone.module.state_dict().items():
            torch.testing.assert_close(found["weights"][name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("world", "parts"), [(1, 1), (1, 2), (2, 1), (3, 2)])
@pytest.mark.parametrize("rows", [1, 2, 5, 64])
def test_pieces_are_disjoint_and_their_weights_make_a_mean(world: int, parts: int, rows: int) -> None:
    lengths = torch.arange(1, rows + 1)
    tokens = (torch.arange(rows) < lengths[:, None]).long()
    batch = Batch(tokens, lengths, torch.zeros(rows, dtype=torch.int64), torch.arange(rows))
    values = np.random.default_rng(0).normal(size=rows)
    seen, mean = [], 0.0
    for rank in range(world):
        pieces = list(Shard(rank, world).pieces(batch, parts))
        assert len(pieces) == (parts if world > 1 else min(parts, rows))
        for piece, weight in pieces:
            assert piece.tokens.shape == (len(piece.index), int(piece.lengths.max()))
            assert torch.equal(piece.tokens.sum(dim=1), piece.lengths)
            seen += piece.index.tolist() if weight else []
            mean += values[piece.index].mean() * weight / world
    assert sorted(seen) == list(range(rows))
    assert mean == pytest.approx(values.mean())


if __name__ == "__main__":
    one_process(json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
