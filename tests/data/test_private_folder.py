"""Temporary folders: nobody else enters them, and what a killed process left there is gone with the next start."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from automl.data import private_folder as module
from automl.data.private_folder import LONGEST_WITH_RAY, MARK, PREFIX, private_folder
from automl.space import UserError

HOLD = """
import sys
from automl.data.private_folder import private_folder
with private_folder() as folder:
    (folder / "left").mkdir()
    (folder / "left" / "file").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""

TOGETHER = """
import time
from automl.data.private_folder import private_folder
for _ in range(40):
    with private_folder() as folder:
        (folder / "mine").write_text("x")
        time.sleep(0.001)
        assert [each.name for each in folder.iterdir() if each.name != "in-use-while-locked"] == ["mine"]
"""

STRANGER = """
import os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for path in sys.argv[1:]:
    for what in (os.listdir, open, lambda path: os.mkdir(path + "/new"), os.rmdir, lambda path: os.chmod(path, 0o777),
                 lambda path: os.rename(path, path + "x"), lambda path: socket.socket(socket.AF_UNIX).connect(path)):
        try:
            what(path)
        except PermissionError:
            continue
        sys.exit(f"{path}: no PermissionError")
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user, too")


def refused_to_strangers(paths: Sequence[Path]) -> None:
    """Fails where another user of this machine can do anything at `paths`."""
    command = [sys.executable, "-I", "-c", STRANGER, *map(str, paths)]
    tried = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, timeout=60)
    assert tried.returncode == 0, tried.stderr


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def hold() -> tuple[subprocess.Popen[str], Path]:
    """A process that holds a folder until its input ends."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_folder_is_its_users_alone_and_goes_with_the_block(place: Path) -> None:
    old = os.umask(0)
    try:
        with private_folder() as folder:
            state = folder.lstat()
            assert (stat.S_IMODE(state.st_mode), state.st_uid, folder.parent) == (0o700, os.geteuid(), place)
            (folder / "deep" / "er").mkdir(parents=True)
            (folder / "link").symlink_to(place)
    finally:
        os.umask(old)
    assert place.exists() and list(place.iterdir()) == []


@as_root
def test_another_user_cannot_enter() -> None:
    with private_folder(first=["/tmp"]) as folder:
        (folder / "open").mkdir(mode=0o777)
        (folder / "open").chmod(0o777)
        refused_to_strangers([folder, folder / "open", folder / "open" / "file"])


def test_the_next_start_removes_what_a_killed_process_left_and_nothing_of_a_living_one(place: Path) -> None:
    (killed, left), (living, held) = hold(), hold()
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert left.exists() and left.parent == place
        with private_folder() as folder:
            assert not left.exists()
            assert (held / "left" / "file").read_text() == "x"
            with private_folder() as another:  # several of one process
                assert folder.exists() and another.exists()
    finally:
        killed.communicate()
        living.communicate()
    assert living.returncode == 0 and list(place.iterdir()) == []


def test_processes_that_start_together_leave_each_other_alone(place: Path) -> None:
    started = [subprocess.Popen([sys.executable, "-c", TOGETHER]) for _ in range(4)]
    assert [process.wait(timeout=120) for process in started] == [0] * 4
    assert list(place.iterdir()) == []


def test_a_removal_that_was_interrupted_goes_on_with_the_next_start(place: Path) -> None:
    left = place / f"{PREFIX}aaaaaaaa"
    left.mkdir(mode=0o700)
    (left / MARK).touch()  # which goes last
    empty = place / f"{PREFIX}bbbbbbbb"
    empty.mkdir(mode=0o700)
    with private_folder():
        assert not left.exists() and not empty.exists()


def test_what_is_not_ours_is_left_alone(place: Path) -> None:
    own = place / f"{PREFIX}projects"  # somebody's folder by chance
    own.mkdir(mode=0o700)
    (own / "thesis").touch()
    elsewhere = place / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / MARK).touch()
    (place / f"{PREFIX}cccccccc").symlink_to(elsewhere)
    (place / f"{PREFIX}dddddddd").touch()
    opened = place / f"{PREFIX}eeeeeeee"
    opened.mkdir()
    opened.chmod(0o777)  # as none of ours ever is
    (opened / MARK).touch()
    before = sorted(place.rglob("*"))
    with private_folder():
        pass
    assert sorted(place.rglob("*")) == before


@as_root
def test_another_users_folder_is_left_alone(place: Path) -> None:
    place.chmod(0o1777)
    theirs = place / f"{PREFIX}ffffffff"
    theirs.mkdir(mode=0o700)
    (theirs / MARK).touch()
    os.chown(theirs, 65534, 65534)
    with private_folder():
        pass
    assert (theirs / MARK).exists()


@pytest.mark.parametrize(
    ("mode", "owner", "reason"),
    [(0o777, 0, "others may rename"), (0o770, 0, "others may rename"), (0o700, 65534, "another user's")],
)
@as_root
def test_a_place_where_others_could_exchange_it_is_not_used(
    place: Path, monkeypatch: pytest.MonkeyPatch, mode: int, owner: int, reason: str
) -> None:
    below = place / "open" / "below"
    below.mkdir(parents=True)
    os.chown(below.parent, owner, 4242)
    below.parent.chmod(mode)
    monkeypatch.setattr(module, "_OVERFLOW", place / "none")
    monkeypatch.setenv("TMPDIR", str(below))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with private_folder() as folder:
        assert folder.parent == Path("/tmp")
    with pytest.raises(UserError, match=reason), monkeypatch.context() as patch:
        patch.setattr(module, "_usual", lambda: [str(below)])
        with private_folder():
            pass
    below.parent.chmod(0o1777)
    os.chown(below.parent, 0, 0)
    with private_folder() as folder:  # sticky, as /tmp is
        assert folder.parent == below


def test_a_temporary_folder_that_cannot_be_used_is_said_once_and_another_is_taken(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TMPDIR", str(place / "gone"))
    for _ in range(2):
        with private_folder() as folder:
            assert folder.parent == Path("/tmp")
    (record,) = caplog.records
    assert record.message == f"automl: temporary files go to /tmp ({place / 'gone'}: No such file or directory)"


def test_no_place_at_all_is_one_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "file").touch()
    monkeypatch.setattr(module, "_usual", lambda: [str(place / "gone"), "relative", str(place / "file")])
    with pytest.raises(UserError) as raised, private_folder():
        pass
    said = f"{place}/gone: No such file or directory; relative: not an absolute path; {place}/file: not a folder"
    assert (
        str(raised.value)
        == f"there is no folder for temporary files that only you can change; set TMPDIR to one ({said})"
    )


def test_a_path_too_long_for_sockets_is_not_used_for_them(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = place / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    with private_folder() as folder:
        assert folder.parent == long
    with private_folder(longest=LONGEST_WITH_RAY) as folder:
        assert len(os.fsencode(folder)) <= LONGEST_WITH_RAY
