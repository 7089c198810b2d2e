"""What is read of files that a stranger may have written."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from pydantic import BaseModel

from automl.space import UserError
from automl.space.safe_files import read_as, read_json_file, read_regular


class Budget(BaseModel):
    trials: int
    seconds: float | None = None


def test_a_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to("/dev/zero")
    for path in (pipe, link, Path("/dev/zero"), tmp_path):
        with pytest.raises(UserError, match="not a regular file"):
            read_regular(path, 100)


def test_a_small_file_takes_little_memory_however_much_may_be_read(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"abc")
    tracemalloc.start()
    try:
        assert read_regular(path, 16 * 1024**3) == b"abc"
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024**2
    finally:
        tracemalloc.stop()


def test_a_file_in_proc_has_no_size_and_is_bounded_all_the_same() -> None:
    with pytest.raises(UserError, match="too large"):
        read_regular(Path("/proc/self/status"), 10)


def test_a_file_that_is_larger_than_allowed_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UserError, match="too large"):
        read_json_file(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 5000, b'{"a": \x00}'])
def test_what_is_no_json_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json is damaged: ") as caught:
        read_json_file(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "field"), [("[]", ""), ('{"trials": null}', "trials"), ('{"trials": 1, "seconds": "x"}', "seconds")]
)
def test_a_field_of_the_wrong_type_is_named(tmp_path: Path, content: str, field: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(UserError, match=rf"a\.json is damaged: {field}"):
        read_as(path, Budget)


def test_what_is_right_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"trials": 3}')
    assert read_as(path, Budget) == Budget(trials=3)
