"""What a URL of a stranger may fetch, from where, and where it may come to lie."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.cluster.archive import unpack
from automl.data import addresses, store
from automl.data.addresses import is_forbidden, require_allowed_host
from automl.data.names import leads_out
from automl.data.remote import user_cache
from automl.data.store import Store
from automl.data.tables import find_files
from automl.places import model_folder, open_run
from automl.space import UserError

ROWS = b"text,label\na,x\nb,y\n"
Answer = Callable[[BaseHTTPRequestHandler], None]


class Web:
    """A web server on this machine: its pages, and what it was asked."""

    def __init__(self) -> None:
        self.pages: dict[str, Answer] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(f"{self.command} {self.path}")
                page = outer.pages.get(self.path)
                if page is None:
                    self.send_error(404)
                else:
                    page(self)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, path: str, content: bytes, *, kind: str = "text/plain", announced: int | None = None) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Type", kind)
            handler.send_header("Content-Length", str(len(content) if announced is None else announced))
            handler.end_headers()
            if handler.command == "GET":
                handler.wfile.write(content)

        self.pages[path] = answer

    def redirect(self, path: str, to: str) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", to)
            handler.end_headers()

        self.pages[path] = answer

    def endless(self, path: str, announced: str | None = None, pause: float = 0.0) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            if announced is not None:
                handler.send_header("Content-Length", announced)
            handler.end_headers()
            ended = threading.Event()
            try:
                while handler.command == "GET" and not ended.wait(pause):
                    handler.wfile.write(b"word,1\n" * (1 if pause else 10_000))
            except OSError:
                pass

        self.pages[path] = answer


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(Store, "__init__", _impatient(Store.__init__))
    return tmp_path / "cache"


def _impatient(made: Callable[..., None]) -> Callable[..., None]:
    return lambda self, url, patience=0.0: made(self, url, 0.0)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize(
    "path",
    [
        "/../../../.local/lib/python3.11/site-packages/x.pth",
        "/../../../.local/x.csv",
        "/a/%2e%2e/%2e%2e/x.csv",
        "/a/%252e%252e/x.csv",
        "/a/..%2f..%2fx.csv",
        "/a\\..\\x.csv",
        "/a/%5c..%5cx.csv",
        "/a/%00/x.csv",
        "/a/\0/x.csv",
        "/a/./x.csv",
        "/a//x.csv",
        "/a/x\n.csv",
        "/*/../../x.csv",
    ],
)
def test_a_path_that_leads_out_is_refused_before_anything_is_asked(path: str, web: Web, tmp_path: Path) -> None:
    for open_ in (lambda url: find_files([url]), model_folder, open_run):
        with pytest.raises(UserError):
            open_(web.url + path)
        with pytest.raises(UserError):
            open_(f"memory://bucket{path}")
    assert not [each for each in web.asked if "*" not in path] and not files_in(tmp_path)


def test_another_ending_is_refused_before_anything_is_asked(web: Web, cache: Path) -> None:
    for name in ("x.pth", "x.py", "x.csv.gz.pth", "x.csv.pth", "x.parquet.gz", ".csv"):
        web.add(f"/{name}", ROWS)
        with pytest.raises(UserError, match=r"names no file that ends in \.parquet"):
            find_files([f"{web.url}/{name}"])
    assert not web.asked and not files_in(cache)


def test_copies_are_named_by_digests_in_a_private_folder(web: Web, cache: Path) -> None:
    names = ["x.csv", "a b.csv.GZ", "sitecustomize.py;x.tsv", "%C3%A4.jsonl.zst"]
    for name in names:
        web.add(f"/{name.replace(' ', '%20')}", ROWS)
    copies = [find_files([f"{web.url}/{name}"])[0] for name in names]
    endings = [path.name.partition(".")[::2] for path in copies]
    assert [ending for _, ending in endings] == ["csv", "csv.gz", "tsv", "jsonl.zst"]
    assert all(set(name) <= set("0123456789abcdef") and len(name) == 32 for name, _ in endings)
    assert {path.parent for path in copies} == {cache / "sources"}
    assert stat.S_IMODE((cache / "sources").stat().st_mode) == 0o700
    (cache / "sources").chmod(0o777)
    assert find_files([f"{web.url}/x.csv"]) == copies[:1]
    assert stat.S_IMODE((cache / "sources").stat().st_mode) == 0o700


def test_a_cache_that_is_a_link_is_not_used(web: Web, cache: Path, tmp_path: Path) -> None:
    web.add("/x.csv", ROWS)
    cache.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (cache / "sources").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is no folder of yours"):
        find_files([f"{web.url}/x.csv"])


def test_a_signed_url_is_read_and_never_shown(web: Web) -> None:
    web.add("/x.csv?sig=a/b%2Fc&se=hunter2", ROWS)
    (path,) = find_files([f"{web.url}/x.csv?sig=a/b%2Fc&se=hunter2"])
    assert path.read_bytes() == ROWS and "hunter2" not in str(path)
    for broken in ("/none.csv?token=hunter2", "/x.pth?token=hunter2", "/x.csv?token=hunter2#a"):
        with pytest.raises(UserError) as error:
            find_files([web.url + broken])
        assert "hunter2" not in str(error.value)
    with pytest.raises(UserError, match="credentials") as error:
        find_files([web.url.replace("//", "//user:hunter2@") + "/x.csv"])
    assert "hunter2" not in str(error.value)


def test_redirects_are_followed_on_the_same_host_alone(web: Web, cache: Path) -> None:
    other = Web()
    web.add("/there.csv", ROWS)
    other.add("/there.csv", ROWS)
    web.redirect("/x.csv", "/there.csv")
    assert find_files([f"{web.url}/x.csv"])[0].read_bytes() == ROWS
    for number, target in enumerate(
        (
            f"{other.url}/there.csv",
            web.url.replace("127.0.0.1", "localhost") + "/there.csv",
            "http://169.254.169.254/latest/meta-data/x.csv",
            "//169.254.169.254/x.csv",
            "file:///etc/passwd",
            "ftp://127.0.0.1/x.csv",
            web.url.replace("//", "//user:pw@") + "/there.csv",
            "/%2e%2e/there.csv",
        )
    ):
        web.redirect(f"/{number}.csv", target)
        with pytest.raises(UserError) as error:
            find_files([f"{web.url}/{number}.csv"])
        assert "pw" not in str(error.value)
    web.redirect("/loop.csv", "/loop.csv")
    with pytest.raises(UserError, match="redirects more than 5 times"):
        find_files([f"{web.url}/loop.csv"])
    assert not other.asked and len(files_in(cache)) == 1
    other.server.shutdown()
    other.server.server_close()


FORBIDDEN = {
    "link-local": ["169.254.169.254", "169.254.0.23", "fe80::1%eth0"],
    "inside of IPv6": ["::ffff:169.254.169.254", "2002:a9fe:a9fe::1", "64:ff9b::a9fe:a9fe", "::a9fe:a9fe"],
    "metadata": ["fd00:ec2::254", "100.100.100.200", "168.63.129.16"],
    "none": ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"],
}
ALLOWED = ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "8.8.8.8", "2606:4700::1111", "fd12::1", "64:ff9b::808:808"]


def test_addresses_of_metadata_are_known_however_they_are_written() -> None:
    assert all(is_forbidden(each) for group in FORBIDDEN.values() for each in group)
    assert not any(map(is_forbidden, ALLOWED))


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "metadata.google.internal",
        "METADATA.google.internal.",
        "metadata",
        "instance-data.ec2.internal",
    ],
)
def test_metadata_is_never_asked(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("connected"))
    for scheme in ("http", "https"):
        with pytest.raises(UserError, match="never fetched from there"):
            find_files([f"{scheme}://{host}/latest/x.csv"])


def test_other_machines_of_a_cloud_are_asked() -> None:
    require_allowed_host("ip-10-0-0-12.ec2.internal")
    require_allowed_host("data.compute.internal")


def test_the_address_that_is_checked_is_the_one_connected_to(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    port = web.server.server_port
    answers = iter(["127.0.0.1", "169.254.169.254", "127.0.0.1", "169.254.169.254"])

    def rebinding(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", rebinding)
    web.add("/x.csv", ROWS)
    with pytest.raises(UserError, match=r"is at 169\.254\.169\.254"):
        find_files([f"http://rebinding.example:{port}/x.csv"])


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd.csv",
        "FILE:///etc/passwd.csv",
        "local:///etc/passwd.csv",
        "ftp://127.0.0.1/x.csv",
        "github://a:b@c/x.csv",
        "reference://x.csv",
        "simplecache::http://127.0.0.1/x.csv",
        "memory://a/x.csv::file:///etc/passwd",
        "zip://x.csv::http://127.0.0.1/x.zip",
        "dir://x.csv",
        "data://x.csv",
        "sftp://host/x.csv",
        "hdfs://host/x.csv",
        "s3://bucket/x?endpoint_override=169.254.169.254",
        "s3://bucket/x?scheme=http&region=a&endpoint_override=evil",
        "s3://key:secret@bucket/x.csv",
        "abfs://169.254.169.254/x/y.csv",
        "abfss://account.evil.example/x/y.csv",
        "abfs://[::1]:80/x/y.csv",
        "gs://bucket/x?endpoint_override=evil",
    ],
)
def test_other_kinds_of_urls_are_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("connected"))
    openers = [model_folder, open_run, *([] if "?" in url else [lambda each: find_files([each])])]  # there ? is a glob
    for open_ in openers:
        with pytest.raises(UserError):
            open_(url)


def test_a_user_may_allow_another_kind_of_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.csv").write_bytes(ROWS)
    with pytest.raises(UserError, match="set AUTOML_URL_SCHEMES=file if you trust it"):
        find_files([f"file://{tmp_path}/x.csv"])
    monkeypatch.setenv("AUTOML_URL_SCHEMES", "sftp, file")
    assert find_files([f"file://{tmp_path}/x.csv"])[0].read_bytes() == ROWS


def test_downloads_are_bounded_whatever_the_server_says(web: Web, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_MAX_DOWNLOAD", "1M")
    web.endless("/endless.csv")
    web.endless("/large.csv", announced="99999999999")
    web.endless("/negative.csv", announced="-1")
    web.add("/two/a.csv", b"x" * 600_000)
    web.add("/two/b.csv", b"x" * 600_000)
    web.add("/two/", b'<a href="a.csv">a</a> <a href="b.csv">b</a>', kind="text/html")
    for name in ("endless.csv", "large.csv", "negative.csv", "two/"):
        with pytest.raises(UserError, match=r"more than 1,048,576 bytes; set AUTOML_MAX_DOWNLOAD to allow more"):
            find_files([f"{web.url}/{name}"])
    assert "GET /large.csv" not in web.asked
    assert [path.stat().st_size for path in files_in(cache)] == [600_000]
    for wrong in ("0", "many", "-1", "1e3"):
        monkeypatch.setenv("AUTOML_MAX_DOWNLOAD", wrong)
        with pytest.raises(UserError, match="AUTOML_MAX_DOWNLOAD is"):
            find_files([f"{web.url}/two/a.csv"])


def test_an_answer_that_takes_too_long_is_given_up(web: Web, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_DOWNLOAD_SECONDS", "1")
    web.endless("/slow.csv", pause=0.05)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        ended = threading.Event()
        try:
            handler.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
            while not ended.wait(0.05):
                handler.wfile.write(b"x")
        except OSError:
            pass

    web.pages["/headers.csv"] = drip
    for name in ("slow.csv", "headers.csv"):
        with pytest.raises(UserError, match=r"takes more than 1 seconds; set AUTOML_DOWNLOAD_SECONDS"):
            find_files([f"{web.url}/{name}"])
    assert not files_in(cache)


def test_a_file_that_ends_early_is_not_taken_for_whole(web: Web, cache: Path) -> None:
    web.add("/x.csv", ROWS, announced=1000)
    with pytest.raises(UserError, match="ended early"):
        find_files([f"{web.url}/x.csv"])
    assert not files_in(cache)


def test_folders_of_web_servers_are_bounded_and_lead_nowhere_else(
    web: Web, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = ["a.csv", "sub/", "../", "/", "//169.254.169.254/x.csv", f"{web.url}/d/b.csv", "?C=N", "notes.txt", "#a"]
    web.add("/d/", "".join(f'<A HREF="{link}">' for link in links).encode(), kind="text/html")
    web.add("/d/sub/", b'<a href="c.csv"><a href="sub/"><a href="../">', kind="text/html")
    for name in ("a.csv", "b.csv", "sub/c.csv"):
        web.add(f"/d/{name}", ROWS)
    assert len(find_files([f"{web.url}/d/"])) == 3 and len(find_files([f"{web.url}/d/*.csv"])) == 2
    web.add("/bad/", b'<a href="%2e%2e/x.csv">', kind="text/html")
    with pytest.raises(UserError, match="leads out of its folder"):
        find_files([f"{web.url}/bad/"])
    monkeypatch.setenv("AUTOML_MAX_FILES", "2")
    with pytest.raises(UserError, match="more than 2 files; set AUTOML_MAX_FILES"):
        find_files([f"{web.url}/d/"])
    monkeypatch.delenv("AUTOML_MAX_FILES")

    class Deep(dict[str, Answer]):
        def get(self, path: str, default: Any = None) -> Any:
            web.add(path, b'<a href="a/"><a href="b/">', kind="text/html")
            return self[path]

    web.pages = Deep()
    with pytest.raises(UserError, match="more than 1,000 folders"):
        find_files([f"{web.url}/deep/"])
    web.pages = {}
    web.endless("/page/")
    web.pages["/page/"] = _html(web.pages["/page/"])
    with pytest.raises(UserError, match="is a page of more than"):
        find_files([f"{web.url}/page/"])


def _html(answer: Answer) -> Answer:
    def with_kind(handler: BaseHTTPRequestHandler) -> None:
        send = handler.send_response
        handler.send_response = lambda *a: (send(*a), handler.send_header("Content-Type", "text/html"))[0]  # type: ignore[method-assign]
        answer(handler)

    return with_kind


def test_a_server_that_refuses_is_asked_once(web: Web) -> None:
    web.pages["/x.csv"] = lambda handler: handler.send_error(403)
    with pytest.raises(UserError, match="answers 403"):
        find_files([f"{web.url}/x.csv"])
    assert web.asked == ["HEAD /x.csv", "GET /x.csv"]


HOSTILE = ["../x", "a/../../x", "%2e%2e/x", "a\\..\\x", "a\0b", "a//b", "/x", "a/./b", "é" * 200]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_of_a_store_leads_out_of_the_folder_it_is_copied_to(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs, models, data and fetched runs are all copied by `Store.get`, from names that `Store.names` gives."""
    assert leads_out(name)
    memory = fsspec.filesystem("memory")
    with memory.open("/hostile/other.json", "wb") as file:
        file.write(b"{}")
    find = type(memory).find
    with monkeypatch.context() as patch:
        patch.setattr(
            type(memory),
            "find",
            lambda self, path, **kind: {
                **find(self, path, **kind),
                f"/hostile/{name}": {"name": f"/hostile/{name}", "type": "file", "size": 2},
            },
        )
        for open_ in (lambda url: open_run(url, models=True), model_folder, lambda url: find_files([f"{url}/**"])):
            with pytest.raises(UserError, match="leads out of its folder"):
                open_("memory://hostile")
    with pytest.raises(UserError, match="leads out of its folder"):
        Store("memory://hostile").get(name, tmp_path / "x")
    assert not files_in(tmp_path)
    memory.rm("/hostile", recursive=True)


@given(st.text(alphabet="./\\%25ecf\0ab:"))
def test_a_name_that_passes_stays_inside(name: str) -> None:
    if not leads_out(name):
        assert Path("/folder", name).resolve().is_relative_to("/folder")
        assert Path("/folder", name).resolve() != Path("/folder")


def test_an_archive_of_a_cluster_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for number in range(3):
            member = tarfile.TarInfo(f"{number}.bin")
            member.size = 1 << 20
            tar.addfile(member, io.BytesIO(bytes(1 << 20)))
    monkeypatch.setenv("AUTOML_MAX_DOWNLOAD", "2M")
    with pytest.raises(UserError, match="AUTOML_MAX_DOWNLOAD"):
        unpack(buffer.getvalue(), tmp_path)
    assert len(files_in(tmp_path)) == 2
    for damaged in (buffer.getvalue()[:200], b"", b"\x1f\x8b", b"nonsense"):
        with pytest.raises(UserError, match="the cluster's answer is not unpacked"):
            unpack(damaged, tmp_path)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_the_cache_is_its_users_alone_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    monkeypatch.setenv("AUTOML_CACHE", str(tmp_path / "deep/cache"))
    before = os.umask(umask)
    try:
        folder = user_cache("sources")
    finally:
        os.umask(before)
    assert {each.stat().st_mode & 0o777 for each in (folder, folder.parent, folder.parent.parent)} == {0o700}
