# ruff: noqa: F401, F811 - fixtures
"""A checkpoint that somebody else made up: it runs nothing, takes no more memory than one may, and is no error."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from automl.data import Prepared
from automl.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from automl.training.fit import train_epoch
from tests.training.test_fit import begin, config, prepared

State = dict[str, Any]


class Planted:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def signed(content: bytes) -> bytes:
    return hashlib.sha256(content).digest() + content


def saved(state: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()


def read(path: Path) -> State:
    found: State = torch.load(io.BytesIO(path.read_bytes()[32:]), weights_only=True)
    return found


@pytest.fixture
def path(config: State, prepared: Prepared, tmp_path: Path) -> Path:
    training = begin(config, prepared)
    train_epoch(training)
    save_checkpoint(training, tmp_path / "checkpoint.pt")
    return tmp_path / "checkpoint.pt"


def test_a_planted_pickle_does_not_run(config: State, prepared: Prepared, path: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    state = read(path)
    for content in (
        pickle.dumps(Planted(ran)),
        saved(Planted(ran)),
        saved(Planted(ran), _use_new_zipfile_serialization=False),
        saved({**state, "plateau": Planted(ran)}),
        saved({**state, "optimizer": {**state["optimizer"], "more": Planted(ran)}}),
    ):
        path.write_bytes(signed(content))
        with pytest.raises(CheckpointError, match=r"checkpoint\.pt is (no checkpoint|damaged)"):
            load_checkpoint(begin(config, prepared), path)
        assert not ran.exists()
    pickle.loads(pickle.dumps(Planted(ran)))
    assert ran.exists()  # it does where it is loaded


def changed(name: str, value: Any) -> Callable[[State], Any]:
    return lambda state: {**state, name: value}


def first_state(value: torch.Tensor) -> Callable[[State], Any]:
    def change(state: State) -> State:
        kept = state["optimizer"]["state"]
        number, first = next(iter(kept.items()))
        name = next(name for name, each in first.items() if each.numel() > 1)
        kept[number] = {**first, name: value}
        return state

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda state: [],
        lambda state: torch.zeros(3),
        lambda state: {},
        lambda state: {1: 2},
        *[
            lambda state, name=name: {key: value for key, value in state.items() if key != name}
            for name in ("module", "optimizer", "plateau", "epoch", "format", "seed", "accumulation")
        ],
        *[
            changed(name, value)
            for name in ("epoch", "step", "rows", "accumulation", "format", "seed")
            for value in (-1, 1.5, "1", None, 10**30, torch.ones(1))
        ],
        *[
            changed("plateau", value)
            for value in ({}, None, [], {"share": "x"}, {"share": 1.0, "best": 0.0, "waited": 0, "more": 1})
        ],
        *[changed("streaming", value) for value in ([], {"block_rows": 0, "window_blocks": 1}, {"block_rows": 1})],
        *[changed("module", value) for value in ([], {}, {"x": 1}, 5, {"x": torch.ones(1)})],
        *[changed("optimizer", value) for value in ([], {}, {"state": 1, "param_groups": []}, {"state": {}})],
        first_state(torch.zeros(1).expand(1 << 40)),
        first_state(torch.zeros(7, 7, 7)),
    ],
)
def test_what_is_made_up_is_no_checkpoint(
    config: State,
    prepared: Prepared,
    path: Path,
    change: Callable[[State], Any],
) -> None:
    path.write_bytes(signed(saved(change(read(path)))))
    with pytest.raises(CheckpointError):
        load_checkpoint(begin(config, prepared), path)


def test_what_is_compressed_is_not_unpacked(config: State, prepared: Prepared, path: Path) -> None:
    content = path.read_bytes()[32:]
    bomb = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as plain, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert torch.load(io.BytesIO(bomb.getvalue()), weights_only=True)["format"]  # as PyTorch does
    path.write_bytes(signed(bomb.getvalue()))
    with pytest.raises(CheckpointError, match="is compressed"):
        load_checkpoint(begin(config, prepared), path)


def test_what_is_no_file_or_too_large_is_not_read(config: State, prepared: Prepared, path: Path) -> None:
    training = begin(config, prepared)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_checkpoint(training, path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_checkpoint(training, path)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CheckpointError, match="too large"):
        load_checkpoint(training, path)
