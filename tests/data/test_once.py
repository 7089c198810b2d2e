"""Data is prepared once, whoever asks and whenever a process dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from automl.data import prepare, prepared
from automl.data.files import replace_atomically, replace_folder
from automl.data.fingerprint import fingerprint_files
from automl.data.workers import workers
from automl.space import UserError
from tests.data.settings import rows, settings_for


def _prepare_in_process(data: dict[str, Any], cache: Path, notes: Path) -> None:
    """Prepare, noting each piece of work that is really done."""
    for name in ("write_source", "write_text_rows"):
        setattr(prepared, name, _noting(getattr(prepared, name), notes / f"{name}-{os.getpid()}"))
    found = prepare(data, seed=0, cache=cache)
    (notes / f"fingerprint-{os.getpid()}").write_text(found.fingerprint)


def _noting(function: Any, note: Path) -> Any:
    def noted(*arguments: Any) -> Any:
        note.touch()
        time.sleep(0.2)
        return function(*arguments)

    return noted


def _start(count: int, *arguments: Any) -> list[Any]:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_prepare_in_process, args=arguments) for _ in range(count)]
    for process in processes:
        process.start()
    return processes


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    pq.write_table(pa.Table.from_pylist(rows(400)), tmp_path / "t.parquet")
    (tmp_path / "notes").mkdir()
    return settings_for(tmp_path / "t.parquet")


def test_many_that_ask_at_once_get_one_preparation(data: dict[str, Any], tmp_path: Path) -> None:
    processes = _start(3, data, tmp_path / "cache", tmp_path / "notes")
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    notes = sorted((tmp_path / "notes").iterdir())
    assert [note.name.split("-")[0] for note in notes] == [*["fingerprint"] * 3, "write_source", "write_text_rows"]
    assert len({note.read_text() for note in notes if note.name.startswith("fingerprint")}) == 1


@pytest.mark.parametrize("stage", ["write_source", "write_text_rows"])
def test_a_kill_in_the_middle_leaves_nothing_that_counts(data: dict[str, Any], stage: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (process,) = _start(1, data, cache, tmp_path / "notes")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "notes").glob(f"{stage}-*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.1)  # the folder is there, and has not been renamed
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert list(cache.glob(".*.tmp"))
    found = prepare(data, seed=0, cache=cache)
    assert found.profile["rows"] == {"train": 300, "validation": 100}
    fresh = prepare(data, seed=0, cache=tmp_path / "fresh")
    for split in ("train", "validation"):
        left, right = found.rows(split), fresh.rows(split)
        assert left is not None and right is not None
        assert np.array_equal(left.tokens, right.tokens) and np.array_equal(left.labels, right.labels)
    assert not list(cache.glob(".*.tmp"))


def test_an_error_leaves_nothing_behind(data: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no column 'nothing'"):
        prepare({**data, "text": "nothing"}, seed=0, cache=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_a_cache_that_cannot_be_a_folder(data: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match="cannot keep prepared data in"):
        prepare(data, seed=0, cache=tmp_path / "cache")


def test_a_file_that_has_not_changed_is_not_read_again(data: dict[str, Any], tmp_path: Path) -> None:
    path = Path(data["train"][0])
    fresh = fingerprint_files(data, tmp_path)
    assert not list(tmp_path.glob("file-*.json"))  # it may still change without its time telling
    _wait_until_settled(path)
    assert fingerprint_files(data, tmp_path) == fresh
    (kept,) = tmp_path.glob("file-*.json")
    kept.write_text(kept.read_text().replace('"digest": "', '"digest": "x'))
    assert fingerprint_files(data, tmp_path) != fresh  # it is the kept digest that counts
    path.write_bytes(path.read_bytes()[::-1])
    changed = fingerprint_files(data, tmp_path)
    assert changed != fresh and changed == fingerprint_files(data, tmp_path / "elsewhere")


def _wait_until_settled(path: Path) -> None:
    while time.time_ns() - path.stat().st_ctime_ns < 2_100_000_000:
        time.sleep(0.1)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_text("old")
    with pytest.raises(RuntimeError), replace_atomically(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), replace_folder(tmp_path / "folder") as temporary:
        (temporary / "inside").write_text("half")
        raise RuntimeError
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "inside").read_text() == "old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


def _work_slowly(notes: Path, item: int) -> None:
    (notes / str(os.getpid())).touch()
    time.sleep(0.2)


def _work_in_processes(notes: Path) -> None:
    os.environ["LOKY_MAX_CPU_COUNT"] = "2"
    with workers(1_000_000) as apply:
        list(apply(partial(_work_slowly, notes), range(1000)))


def test_processes_that_prepare_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent = multiprocessing.get_context("spawn").Process(target=_work_in_processes, args=[tmp_path])
    parent.start()
    _until(lambda: len(list(tmp_path.iterdir())) == 2)
    parent.kill()
    parent.join()
    _until(lambda: not any(psutil.pid_exists(int(note.name)) for note in tmp_path.iterdir()))


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
