"""Data prepared by a cluster's nodes is what one process prepares; dead workers cost nothing but time."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pytest

from automl.data import prepare
from automl.data.parts import Part, parts_of
from automl.data.store import Store
from automl.data.workers import workers
from automl.search import preparation
from automl.search.preparation import choose_workers, map_by_ray_data
from automl.search.ray_session import ray_session
from automl.space import UserError
from tests.conftest import reach_store
from tests.data.settings import settings_for

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def own_ray(s3: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        reach_store(s3, environment)
        with ray_session(None):
            yield


@pytest.fixture
def parts(tmp_path: Path) -> list[Part]:
    schema = pa.schema([("text", pa.large_string())])
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for number in range(12):
            rows = pa.array([f"{number} {row}" for row in range(9)], pa.large_string())
            writer.write_batch(pa.record_batch([rows], schema=schema))
    return parts_of(tmp_path / "t.arrow")


def test_a_cluster_prepares_what_one_process_does(
    own_ray: None,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    texts = [f"<p>Word{number % 13} and {number}</p>" if number % 5 else f"é{number} 好" for number in range(60)] * 2
    lines = [f"{text},{'abc'[number % 3]}" for number, text in enumerate(texts)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *lines, ",a", "one,two,three", "last,"]))
    monkeypatch.setattr("automl.data.staging.PART_ROWS", 16)
    data = settings_for(tmp_path / "t.csv", on_bad_rows="report")
    alone = prepare(data, seed=0, cache=tmp_path / "alone")
    monkeypatch.setattr(preparation, "MANY_ROWS", 1)
    monkeypatch.setattr(preparation, "nodes_that_work", lambda: 2)
    shared = f"{bucket}/{tmp_path.name}"
    capfd.readouterr()
    together = prepare(
        data, seed=0, cache=tmp_path / "together", shared=shared, workers=choose_workers("host:6379", shared)
    )
    assert capfd.readouterr() == ("", "")
    (file,) = together.profile["files"].values()
    assert sum(file["counts"].values()) == 3
    for one, other in ((alone.source, together.source), (alone.path, together.path)):
        names = {file.name for file in one.iterdir()}
        assert one.name == other.name and names == {file.name for file in other.iterdir()} - {"files.json"}
        assert all((one / name).read_bytes() == (other / name).read_bytes() for name in names)
    assert not Store(shared).names("parts")


def _complain(part: Part) -> None:
    raise UserError(f"part {part.number} will not do")


def test_what_the_work_raises_is_raised(own_ray: None, parts: list[Part]) -> None:
    with pytest.raises(UserError, match="part 0 will not do"):
        list(map_by_ray_data(_complain, parts))


def _die_once(note: Path, part: Part) -> list[str]:
    if part.number == 7 and not note.exists():
        note.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return part.inputs()


def test_the_part_of_a_worker_that_dies_is_worked_on_again(own_ray: None, parts: list[Part], tmp_path: Path) -> None:
    found = list(map_by_ray_data(partial(_die_once, tmp_path / "note"), parts))
    assert found == [part.inputs() for part in parts] and (tmp_path / "note").exists()


def _die(part: Part) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_part_that_kills_every_worker_is_an_error(
    own_ray: None, parts: list[Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "RETRIES", 0)
    with pytest.raises(UserError, match="the cluster could not prepare the data"):
        list(map_by_ray_data(_die, parts[:1]))


def test_one_machine_prepares_by_itself() -> None:
    assert choose_workers(None, "s3://bucket/cache") is workers and choose_workers("host:6379", None) is workers
