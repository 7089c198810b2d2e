"""What a run, an owner and a label may be called; what travels to a cluster, and what comes back from it."""

from __future__ import annotations

import io
import tarfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from automl.cluster.agent import LINE, MARK, answer_in
from automl.cluster.archive import archive, unpack, wanted
from automl.cluster.client import connect, refusals
from automl.cluster.names import new_run_name, run_name
from automl.cluster.package import pack
from automl.cluster.submission import Runs, Submission
from automl.runs import load_space
from automl.space import UserError
from automl.space.owners import labels_of, owner_name
from tests.conftest import write_space

BAD = [
    "../up",
    "a/b",
    "a;rm -rf ~",
    "<b>x</b>",
    "$(id)",
    "",
    "a" * 64,
    "..",
    "a..b",
    "-x",
    "x\n",
    "a b",
    "\u00e9",
    ".x",
]


@pytest.mark.parametrize("name", BAD)
def test_what_is_more_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="is no name of a run"):
        run_name(name)


@given(st.text(max_size=80))
def test_every_space_gives_a_name_of_its_own(space: str) -> None:
    name = new_run_name(space)
    assert run_name(name) == name != new_run_name(space)


@pytest.mark.parametrize("label", ["x", "a b=c", "team=<b>", "team=$(id)", "=x", "team=" + "x" * 64])
def test_labels_are_plain(label: str) -> None:
    with pytest.raises(UserError, match="label"):
        labels_of([label])
    assert labels_of(["team=search", "cost.centre=a/b 7"]) == {"team": "search", "cost.centre": "a/b 7"}
    with pytest.raises(UserError, match="owner"):
        owner_name("<script>")


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8265", "ftp://x:1", "http://user:secret@host:1", "http://", "http://h:x"]
)
def test_an_address_is_a_dashboard(address: str) -> None:
    with pytest.raises(UserError, match="expected the cluster's dashboard"):
        connect(address)


def test_a_cluster_that_lets_anybody_in_is_refused_unless_it_is_on_this_machine() -> None:
    class Open(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"authentication_mode": "disabled", "ray_version": "2.60.0"}')

    with HTTPServer(("127.0.0.1", 0), Open) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        connect(f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(UserError, match="lets anybody in"):  # a name for it that does not say it is this machine
            connect(f"http://127.1:{server.server_port}")
        server.shutdown()


@pytest.mark.parametrize(
    "error", [ConnectionError("refused"), requests.ConnectionError("Connection aborted."), requests.ReadTimeout("slow")]
)
def test_a_cluster_that_goes_away_is_said_in_a_sentence(error: Exception) -> None:
    with pytest.raises(UserError, match=f"http://head:8265 does not answer: {error}"), refusals("http://head:8265"):
        raise error


def test_an_installed_family_does_not_travel(small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "installed_net.py").write_text("def net(vocabulary: int, classes: int): ...\n")
    monkeypatch.syspath_prepend(str(installed))
    space = write_space(tmp_path / "space.yaml", small_data)
    space.write_text(space.read_text().replace("model:\n", 'model:\n  "installed_net:net": {}\n'))
    for name, travels in (("here", True), ("there", False)):
        (tmp_path / name).mkdir()
        pack(space, load_space(space), tmp_path / name)
        assert (tmp_path / name / "installed_net.py").exists() is travels
        monkeypatch.setattr("sysconfig.get_path", lambda name: str(installed))


def test_what_travels(small_data: Path, tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "__init__.py").touch()
    function = "def small(vocabulary: int, classes: int):\n    return parts.net(vocabulary, classes)\n"
    (tmp_path / "nets" / "mine.py").write_text(f"import os\nfrom . import parts\nimport helper\n{function}")
    (tmp_path / "nets" / "parts.py").write_text("from nets.deep import thing\n")
    (tmp_path / "nets" / "deep.py").write_text("thing = 1\n")
    (tmp_path / "nets" / "other.py").write_text("unused = 1\n")
    (tmp_path / "helper.py").write_text("x = 1\n")
    (tmp_path / "secret.env").write_text("KEY=1\n")
    base = write_space(tmp_path / "base.yaml", small_data)
    base.write_text(base.read_text().replace("model:\n", 'model:\n  "nets.mine:small": {}\n'))
    space = tmp_path / "space.yaml"
    space.write_text("extends: base.yaml\nname: extended\n")
    folder = tmp_path / "packed"
    folder.mkdir()
    pack(space, load_space(space), folder)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"space.yaml", "helper.py", *(f"nets/{each}.py" for each in ("__init__", "mine", "parts", "deep"))}
    assert "name: extended" in (folder / "space.yaml").read_text()


@pytest.mark.parametrize(
    ("override", "setting"),
    [
        ("data.train=a.csv", "data.train"),
        ("data.test=../b.csv", "data.test"),
        ("search.warm_start=[runs/x]", "search.warm"),
    ],
)
def test_what_the_cluster_would_not_find_is_refused(
    override: str, setting: str, small_data: Path, tmp_path: Path
) -> None:
    space = write_space(tmp_path / "space.yaml", small_data)
    with pytest.raises(UserError, match=rf"{setting}.* is found from this folder alone"):
        pack(space, load_space(space, [override]), tmp_path)


def test_an_archive_cannot_leave_its_folder(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../outside.txt"))
    with pytest.raises(UserError, match="outside the destination"):
        unpack(buffer.getvalue(), tmp_path / "inside")
    assert not (tmp_path / "outside.txt").exists()


def test_an_archive_has_what_a_reader_wants(tmp_path: Path) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    (run / "trials" / "0").mkdir(parents=True)
    for name in ("manifest.json", "driver.lock", ".stop", "trials/0/metrics.jsonl", "trials/0/checkpoint.pt"):
        (run / name).write_text(name)
    (run / "link").symlink_to("/etc/passwd")
    copy.mkdir()
    unpack(archive(run, wanted(run)), copy)
    files = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert files == {"manifest.json", "trials/0/metrics.jsonl"}


def test_an_answer_is_found_in_a_log_or_is_not_whole() -> None:
    lines = [f"{MARK}{'x' * LINE}", "INFO something else", f"{MARK}yz", f"{MARK}end"]
    assert answer_in("\n".join(lines)) == "x" * LINE + "yz"
    assert answer_in("\n".join(lines[:-1])) is None
    assert answer_in("Traceback ...") is None


def test_a_record_is_read_back_and_an_unknown_one_is_not(tmp_path: Path) -> None:
    runs = Runs(str(tmp_path / "runs"))
    assert runs.names() == []
    record = Submission("a", "me", {"k": "v"}, "2026-01-01T00:00:00+00:00", "space.yaml", ["--set", "x=1"], ["a.1"])
    runs.write(record)
    assert (runs.names(), runs.record("a")) == (["a"], record)
    with pytest.raises(UserError, match="no run b was submitted"):
        runs.record("b")
