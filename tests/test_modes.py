"""What is written for the user, or for whom they give it to, has the modes that the umask says; caches are private."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import automl
from automl.cluster.archive import archive, unpack, wanted
from automl.data.files import replace_atomically, replace_folder
from automl.training.run_directory import RunDirectory
from automl.training.tensor_files import read_tensors, write_tensors
from tests.conftest import copy_run, write_space

UMASKS = [0o022, 0o027, 0o077]


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


Known = tuple[Path, int, int]


def known(path: Path) -> Known:
    """What a path has as long as it is not written again: a folder only where another one takes its place."""
    state = path.stat()
    return path, state.st_ino, 0 if path.is_dir() else state.st_mtime_ns


def everything(folder: Path) -> set[Known]:
    return {known(path) for path in [folder, *folder.rglob("*")]}


def wrong_modes(folder: Path, mask: int, before: set[Known] | None = None) -> dict[str, str]:
    """What has another mode than the umask gives, without what was there before."""
    written = [path for path, *_ in everything(folder) - (before or set())]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in written}
    right = {path: (0o777 if path.is_dir() else 0o666) & ~mask for path in written}
    return {str(path.relative_to(folder)): f"{mode:o}" for path, mode in modes.items() if mode != right[path]}


@pytest.mark.parametrize("mask", UMASKS)
def test_whatever_a_library_writes_into_a_folder_follows_the_umask(tmp_path: Path, mask: int) -> None:
    arrays = {"x": np.zeros(3, dtype=np.float32)}
    with umask(mask), replace_folder(tmp_path / "made") as folder:
        save_file(arrays, folder / "library.safetensors")  # of mode 0600
        (folder / "inside").mkdir(mode=0o700)
        write_tensors(folder / "inside" / "own.safetensors", {**arrays, "turned": np.arange(6)[::-2]})
        (folder / "inside" / "own.safetensors").chmod(0o644)
    with umask(mask), replace_atomically(tmp_path / "made" / "file.safetensors") as path:
        write_tensors(path, arrays)
    assert wrong_modes(tmp_path / "made", mask) == {}
    assert read_tensors(tmp_path / "made" / "inside" / "own.safetensors")["turned"].tolist() == [5, 3, 1]


@pytest.mark.parametrize("mask", UMASKS)
def test_a_run_that_is_fetched_has_the_modes_of_who_fetches_it(tmp_path: Path, mask: int) -> None:
    there = tmp_path / "there"
    (there / "trials").mkdir(parents=True)
    for name, mode in (("manifest.json", 0o600), ("trials/metrics.jsonl", 0o666), ("trials/weights", 0o755)):
        (there / name).write_text(name)
        (there / name).chmod(mode)
    (tmp_path / "here").mkdir()
    with umask(mask):
        unpack(archive(there, wanted(there)), tmp_path / "here")
    assert wrong_modes(tmp_path / "here", mask, {known(tmp_path / "here")}) == {}
    assert (tmp_path / "here/trials/weights").read_text() == "trials/weights"


@pytest.mark.ray
def test_every_file_of_a_run_follows_the_umask(finished: RunDirectory) -> None:
    mask = os.umask(0o022)
    os.umask(mask)
    assert wrong_modes(finished.path, mask) == {}


@pytest.mark.ray
def test_what_is_taken_along_follows_the_umask(finished: RunDirectory, small_data: Path, tmp_path: Path) -> None:
    """The run itself is as private as can be: no mode is taken over from it."""
    run = copy_run(finished, tmp_path / "run")
    for path in run.path.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    before, mask = everything(tmp_path), 0o027
    for path in (run.finalists, run.predictions, run.examination):
        path.unlink()
    with umask(mask):
        automl.report(run.path)
        automl.compress(run.path, epochs=1)
        automl.verbs.export(run.path, format="torch")
        automl.verbs.export(run.path, format="onnx", output=tmp_path / "onnx")
        automl.predict(run.path, small_data / "test.jsonl", output=tmp_path / "out.jsonl")
        automl.verbs.examples("digits", output=tmp_path / "digits")
    assert wrong_modes(tmp_path, mask, before) == {}
    written = {path.name for path, *_ in everything(tmp_path) - before}
    assert {"report.html", "leaderboard.parquet", "model.safetensors", "model.onnx", "model.pt2"} <= written


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("mask", UMASKS)
def test_a_search_follows_the_umask(small_data: Path, tmp_path: Path, mask: int) -> None:
    space = write_space(tmp_path / "space.yaml", small_data, trials=3, epochs=2)
    settings = [
        "log_to=[tensorboard, mlflow]",
        "refit=true" if mask == UMASKS[0] else "ensemble={}",  # which exclude each other
        "confirm={seeds: 1}",
        "compress={epochs: 1}",
    ]
    chosen = [word for each in settings for word in ("--set", f"search.{each}")]
    process = subprocess.run(
        [sys.executable, "-m", "automl", "run", space, "--output", tmp_path / "run", *chosen],
        umask=mask, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert wrong_modes(tmp_path / "run", mask) == {}
    names = {path.name for path in (tmp_path / "run").rglob("*")}
    assert {"mlflow.db", "compressed.json", "README.md"} <= names
