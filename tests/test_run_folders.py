"""Folders that several runs make side by side: each has its own, and nobody removes what is another's."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

import automl
from automl.data.files import TakenError, make_own_folder, replace_folder, require_replaceable
from automl.run_folder import new_run
from automl.space import UserError
from automl.training.run_directory import RunDirectory


def test_a_run_that_fails_takes_nothing_of_another_with_it(tmp_path: Path) -> None:
    places = [tmp_path / "made" / "runs" / name for name in ("a", "b")]
    with pytest.raises(RuntimeError), new_run(places[:1], None, ["max"]) as first:
        with suppress(RuntimeError), new_run(places[1:], None, ["max"]) as second:
            second.directory.trial(0).path.mkdir(parents=True)
            (second.directory.path / "weights").touch()
            raise RuntimeError  # it has begun, so it stays
        assert first.directory.path.is_dir()
        raise RuntimeError
    assert not places[0].exists() and (places[1] / "weights").exists()


def test_a_run_that_fails_takes_its_own_empty_parents_with_it(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(RuntimeError), new_run([tmp_path / "mine" / "runs" / "a"], None, ["max"]):
        raise RuntimeError
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_runs_of_one_moment_get_names_of_their_own(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def make(_: int) -> Path:
        barrier.wait()
        names = [tmp_path / "runs" / name for name in ("run", *(f"run-{each}" for each in range(2, 20)))]
        with new_run(names, None, ["max"]) as begun:
            begun.directory.trial(0).path.mkdir(parents=True)
            return begun.directory.path

    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(make, range(8)))
    assert {path.name for path in made} == {"run", *(f"run-{each}" for each in range(2, 9))}


@pytest.mark.parametrize("repetition", range(5))
def test_a_parent_that_another_removes_is_made_again(tmp_path: Path, repetition: int) -> None:
    def come_and_go(number: int) -> None:
        for _ in range(50):
            folder = make_own_folder(tmp_path / "runs" / "deep" / str(number))
            folder.remove()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, range(4)))


@pytest.mark.parametrize("in_store", [False, True])
def test_one_place_for_two_is_a_sentence_for_the_second(tmp_path: Path, bucket: str, in_store: bool) -> None:
    place = f"{bucket}/{tmp_path.name}/run" if in_store else tmp_path / "run"
    with new_run([place], None, ["max"]) as first:
        (first.directory.path / "manifest.json").write_text("{}")
        with pytest.raises(UserError, match=r"exists already; name another --output|another process is driving"):
            new_run([place], None, ["max"]).__enter__()
        assert (first.directory.path / "manifest.json").exists()
        first.publisher.publish()
        with pytest.raises(TakenError, match="exists already"):
            new_run([place], None, ["max"]).__enter__()
        first.directory.trial(0).path.mkdir(parents=True)


def test_a_failed_start_leaves_a_store_alone(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another host drives the run: the one that comes second has nothing there to remove."""
    place = f"{bucket}/{tmp_path.name}/run"
    with new_run([place], None, ["max"]) as first:
        (first.directory.path / "manifest.json").write_text("{}")
        first.publisher.publish()
        with monkeypatch.context() as patch, pytest.raises(UserError, match="another process is driving"):
            patch.setenv("AUTOML_CACHE", str(tmp_path / "of another host"))
            patch.setattr("automl.run_folder._is_there", lambda *_: False)  # as it was a moment ago
            new_run([place], None, ["max"]).__enter__()
        first.directory.trial(0).path.mkdir(parents=True)
    assert RunDirectory(tmp_path, place).url == place
    assert automl.data.store.Store(place).has("manifest.json")


def test_a_folder_that_many_replace_at_once_is_one_of_theirs(tmp_path: Path) -> None:
    def fill(number: int) -> None:
        for _ in range(20):
            with replace_folder(tmp_path / "export") as folder:
                for name in "ab":
                    (folder / name).write_text(str(number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, range(4)))
    assert len({(tmp_path / "export" / name).read_text() for name in "ab"}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_what_is_somebodys_work_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="exists already"):
        require_replaceable(tmp_path, "model.onnx")
    (tmp_path / "model.onnx").touch()
    require_replaceable(tmp_path, "model.onnx")
    require_replaceable(tmp_path / "new", "model.onnx")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("verb", ["run", "resume"])
def test_a_program_with_its_own_ray_keeps_it(small_space: Path, finished: RunDirectory, verb: str) -> None:
    code = f"""
import ray, automl
ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR")
kept = ray.put("mine")
try:
    automl.{verb}({str(small_space if verb == "run" else finished.path)!r}, quiet=True)
except automl.UserError as error:
    print(error)
print(ray.get(kept))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said, kept = done.stdout.strip().splitlines()
    assert "ray.shutdown()" in said and kept == "mine"
