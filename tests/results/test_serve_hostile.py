"""`automl serve` under clients that are slow, hang up, send too much or nonsense, and under a model that fails."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

import automl
from automl.results.hosts import host_name
from automl.results.serving.access import access
from automl.results.serving.connections import listening
from automl.results.serving.limits import MIB, Limits
from tests.results.serving import Panic, Running, answer_of, closed, get, post, running, until

NOT_HTTP = "this is not an HTTP request"


QUICK = Limits(receive_seconds=0.4, send_seconds=0.4, answer_seconds=0.6, batch_seconds=0.5, shutdown_seconds=0.5)
OK = json.dumps({"texts": ["ab"]}).encode()


@pytest.fixture(scope="module")
def usual() -> Iterator[Running]:
    with running() as server:
        yield server


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No client and no fault of the model is a traceback."""
    yield
    for record in caplog.get_records("call"):
        assert record.exc_info is None, record
        assert record.levelno < logging.ERROR or "\n" not in record.getMessage()
    assert "Traceback" not in capfd.readouterr().err


def hang_up(client: socket.socket) -> None:
    """Close with a reset, as a client that dies."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


# A deadline a request, and clients that leave


def test_a_request_that_the_model_does_not_get_to_is_answered_by_its_deadline() -> None:
    with running(replace(QUICK, batch_seconds=30)) as server:
        status, answer = server.predict(["wait"])
        assert status == 503 and "no answer within 0.6 seconds" in answer["error"]
        server.model.go.set()
        assert server.predict(["ab"])[0] == 200


@pytest.mark.parametrize("more", [b"", get("/") * 3], ids=["alone", "with pipelined requests behind it"])
def test_texts_of_a_client_that_hangs_up_are_not_computed(more: bytes) -> None:
    with running() as server, ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.predict, ["wait"])
        until(lambda: server.model.texts == ["wait"])
        clients = [server.connect() for _ in range(20)]
        for client in clients:
            client.sendall(post(json.dumps({"texts": ["nobody waits for it"] * 100}).encode()) + more)
        until(lambda: server.server.batcher.waiting == 2001)
        assert server.server.held.bytes > 20 * 100 * 19
        for client in clients:
            hang_up(client)
        until(lambda: server.server.batcher.waiting == 1)
        until(lambda: server.server.held.bytes < 100)
        server.model.go.set()
        assert first.result()[0] == 200 and server.predict(["ab"])[0] == 200
        assert server.model.texts == ["wait", "ab"]


def test_a_client_that_hangs_up_in_the_middle_of_its_request_holds_nothing(usual: Running) -> None:
    for part in (b"POST /pre", post(OK)[:-3], post(b"x" * 1000, Content_Length="100000")):
        client = usual.connect()
        client.sendall(part)
        hang_up(client)
    until(lambda: usual.server.held.bytes == 0)
    assert usual.predict(["ab"])[0] == 200


# What waits is bounded


def test_waiting_bytes_are_bounded_before_a_body_is_read() -> None:
    limits = Limits(held_bytes=MIB, small_bytes=1000)
    large = json.dumps({"texts": ["wait", *["x" * 1000] * 500]}).encode()
    with running(limits) as server, ThreadPoolExecutor(5) as pool:
        first = pool.submit(server.ask, post(large))
        until(lambda: "wait" in server.model.texts)
        second = pool.submit(server.ask, post(large))
        until(lambda: server.server.held.bytes == 2 * len(large))
        status, headers, answer = server.ask(post(b"", Content_Length=str(len(large))))  # of which nothing is sent
        assert status == 503 and "1 MiB would wait" in answer["error"] and headers["retry-after"] == "1"
        small = pool.submit(server.predict, ["ab"])  # a small request is not kept out by large ones
        until(lambda: server.server.batcher.waiting == 2 * 501 + 1)
        server.model.go.set()
        assert first.result()[0] == second.result()[0] == small.result()[0] == 200
        until(lambda: server.server.held.bytes == 0)


def test_bodies_that_are_being_read_count_too_and_need_not_say_their_length() -> None:
    limits = Limits(held_bytes=MIB, small_bytes=1000)
    chunk = b"80000\r\n" + b" " * 0x80000 + b"\r\n"
    begin = post(b"", Content_Length="", Transfer_Encoding="chunked")
    with running(limits) as server:
        clients = [server.connect() for _ in range(2)]
        for number, client in enumerate(clients, 1):
            client.sendall(begin + chunk)
            until(lambda number=number: server.server.held.bytes == number * 0x80000)
        assert server.ask(begin + chunk + b"0\r\n\r\n")[0] == 503
        assert server.predict(["ab"])[0] == 200
        for client in clients:
            client.close()
        until(lambda: server.server.held.bytes == 0)


def test_waiting_texts_are_bounded() -> None:
    with running(Limits(waiting_texts=100)) as server, ThreadPoolExecutor(5) as pool:
        first = pool.submit(server.predict, ["wait"])
        until(lambda: server.model.texts == ["wait"])
        second = pool.submit(server.predict, ["ab"] * 90)
        until(lambda: server.server.batcher.waiting == 91)
        status, answer = server.predict(["ab"] * 20)
        assert status == 503 and answer["error"].startswith("more than 100 texts would wait")
        server.model.go.set()
        assert first.result()[0] == second.result()[0] == 200


def test_a_large_request_does_not_stand_before_all_others() -> None:
    with running() as server, ThreadPoolExecutor(5) as pool:
        first = pool.submit(server.predict, ["wait"])
        until(lambda: server.model.texts == ["wait"])
        large = pool.submit(server.predict, [f"large {number}" for number in range(4000)])
        until(lambda: server.server.batcher.waiting == 4001)
        small = pool.submit(server.predict, ["ab"])
        until(lambda: server.server.batcher.waiting == 4002)
        server.model.go.set()
        assert small.result()[0] == first.result()[0] == 200
        assert "ab" in server.model.seen[1]
        status, answer = large.result()
        assert status == 200 and [each["label"] for each in answer["predictions"]] == [
            ("even", "odd")[len(f"large {number}") % 2] for number in range(4000)
        ]
        assert max(map(len, server.model.seen)) <= 256


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (post(b"", Content_Length=str(9 * MIB)), 413, "a request has at most 8 MiB"),
        (post(b"", Content_Length="9" * 18), 413, "a request has at most 8 MiB"),
        (post(b"", Content_Length=str(9 * MIB), Expect="100-continue"), 413, "a request has at most 8 MiB"),
        (post(json.dumps({"texts": ["a", "b" * 100_001]}).encode()), 422, "texts[1] has 100,001 characters; a text"),
        (get("/" + "x" * 20_000), 400, NOT_HTTP),
        (get("/", Cookie="x" * 20_000), 400, NOT_HTTP),
        (get("/", **{f"X_{number}": "x" for number in range(5000)}), 400, NOT_HTTP),
        (post(b"", Content_Length="", Transfer_Encoding="chunked") + b"1\r\n \r\n" * 20_000, 400, NOT_HTTP),
        (post(OK, Transfer_Encoding="chunked"), 400, "a request has Content-Length or Transfer-Encoding"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9 + b"\r\n\r\n", 400, NOT_HTTP),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "a request names its host"),
    ],
)
def test_what_is_too_large_or_no_http_is_refused_in_a_sentence(
    usual: Running, request_: bytes, status: int, reason: str
) -> None:
    found, headers, answer = usual.ask(request_)
    assert found == status and answer["error"].startswith(reason)
    assert headers.get("connection", "none") == ("close" if status in (413, 400) and b"PRI" not in request_ else "none")
    assert usual.predict(["ab"])[0] == 200


def test_an_answer_is_as_bounded_as_a_request() -> None:
    with running(Limits(answer_bytes=1000), classes=tuple(f"class {n}" for n in range(10))) as server:
        status, answer = server.predict(["ab"] * 4)
        assert status == 422 and answer["error"] == "a request has 1 to 2 texts, this one 4"


# Slow clients


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"GET / HTTP/1.1\r\nHost: localhost\r\n"],
        [b"G", b"E", b"T", b" ", b"/", b" ", b"H"] * 9,
        [post(OK, Content_Length="1000")],
        [post(OK, Content_Length="1000"), *[b" "] * 90],
        [post(b"", Content_Length="", Transfer_Encoding="chunked"), *[b"1\r\n \r\n"] * 90],
        [get("/"), b"GET / "],
        [post(b"", Content_Length="100000000"), *[b" "] * 90],  # refused, and still sending
        [get("/nothing", Content_Length="1000"), *[b" "] * 90],
    ],
    ids=lambda parts: repr(parts[0][:12]) + str(len(parts)),
)
def test_slow_senders_are_closed(parts: list[bytes]) -> None:
    with running(replace(QUICK, idle_seconds=1)) as server, server.connect() as client:
        ended = threading.Event()

        def send() -> None:
            for part in parts:
                try:
                    client.sendall(part)
                except OSError:
                    return
                if ended.wait(0.1):
                    return

        sending = threading.Thread(target=send)
        sending.start()
        assert closed(client)
        ended.set()
        sending.join()
        until(lambda: not server.http.server_state.connections)
        assert server.server.held.bytes == 0 and server.predict(["ab"])[0] == 200


@pytest.mark.parametrize("pipelined", [1, 50])
def test_slow_readers_are_closed(pipelined: int) -> None:
    with running(QUICK, long=20_000) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        client.connect(("127.0.0.1", server.port))
        client.sendall(post(json.dumps({"texts": ["ab"] * (1000 // pipelined)}).encode()) * pipelined)
        until(lambda: bool(server.model.seen))
        until(lambda: not server.http.server_state.connections)
        until(lambda: server.server.held.bytes == 0)
        assert server.predict(["ab"])[0] == 200


def test_connections_are_bounded_and_those_that_ask_nothing_make_room() -> None:
    with running(Limits(connections=10)) as server:
        idle = [server.connect() for _ in range(40)]
        for client in idle[::2]:
            client.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(20):
            assert server.predict(["ab"])[0] == 200
        assert len(server.http.server_state.connections) <= 10
        for client in idle:
            client.close()


# A model that fails


FAULTS = [
    RuntimeError("it failed"),
    MemoryError(),
    Panic("called `Option::unwrap()` on a `None` value"),
    SystemExit(1),
    KeyboardInterrupt(),
    GeneratorExit(),
    StopIteration(),
    asyncio.CancelledError(),
    TimeoutError(),
    RecursionError(),
    OSError(28, "No space left"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_whatever_the_model_raises_fails_that_request_alone(fault: BaseException) -> None:
    with running(raising={"poison": fault}) as server, ThreadPoolExecutor(10) as pool:
        blocking = pool.submit(server.predict, ["wait"])
        until(lambda: server.model.texts == ["wait"])
        poisoned = pool.submit(server.predict, ["ab", "poison"])
        others = [pool.submit(server.predict, ["ab", "abc"]) for _ in range(5)]
        until(lambda: server.server.batcher.waiting == 13)
        server.model.go.set()
        assert poisoned.result() == (500, {"error": "the model failed on this request"})
        for other in (*others, pool.submit(server.predict, ["ab", "abc"])):
            status, answer = other.result()
            assert status == 200 and [each["label"] for each in answer["predictions"]] == ["even", "odd"]
        assert blocking.result()[0] == 200 and server.health() == (200, {"status": "ok"})
        assert server.predict(["poison"])[0] == 500
        assert server.health() == (200, {"status": "ok"})  # as it is that request, not the model


def test_an_exception_whose_own_text_fails() -> None:
    class BadError(Exception):
        def __str__(self) -> str:
            raise ValueError

    with running(raising={"poison": BadError()}) as server:
        assert server.predict(["poison"])[0] == 500 and server.predict(["ab"])[0] == 200


def test_health_says_when_the_model_always_fails_and_when_it_does_no_more() -> None:
    with running() as server:
        assert server.health() == (200, {"status": "ok"})
        server.model.raising = {"is it well": Panic(), "ab": Panic()}
        assert server.predict(["ab"])[0] == 500
        status, answer = server.health()
        assert status == 503 and answer["status"] == "failing" and "Panic" in answer["error"]
        server.model.raising = {}
        assert server.health() == (200, {"status": "ok"}) and server.predict(["ab"])[0] == 200


def test_a_batch_that_does_not_end_is_said_and_others_are_answered() -> None:
    with running(replace(QUICK, stuck_threads=2, answer_seconds=30)) as server:
        assert server.predict(["wait"])[0] == 500
        assert server.predict(["ab"])[0] == 200 and server.health()[0] == 200  # by another thread
        assert server.predict(["wait"])[0] == 500
        assert server.health()[0] == 503  # no third one
        assert server.predict(["ab"])[0] == 503
        server.model.go.set()
        until(lambda: server.health()[0] == 200)
        assert server.predict(["ab"])[0] == 200


def test_a_batcher_that_ends_is_started_again_and_no_request_hangs() -> None:
    with running() as server, ThreadPoolExecutor(5) as pool:
        for _ in range(3):
            server.model.go.clear()
            asked = pool.submit(server.predict, ["wait"])
            until(lambda: server.model.texts[-1:] == ["wait"])
            task = server.server.batcher._task
            assert task is not None
            server.on_loop(task.cancel)
            assert asked.result()[0] == 500
            server.model.go.set()
            assert server.predict(["ab"])[0] == 200 and server.health()[0] == 200


def test_a_model_that_answers_other_than_it_was_asked() -> None:
    with running() as server:
        whole = server.model.predict_read
        server.model.predict_read = lambda texts: whole(texts)[1:]  # type: ignore[method-assign]
        assert server.predict(["ab", "abc"])[0] == 500


# Who may ask


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "LOCALHOST."}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "[0:0:0:0:0:0:0:1]"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8000"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "10.0.0.1"}, 421),
        ({"Host": "localhost@evil.example"}, 400),
        ({"Host": "localhost:80:80"}, 421),
        ({"Host": "[::1"}, 400),
        ({"Host": ""}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:3000"}, 403),
        ({"Origin": "http://127.0.0.1"}, 200),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Content_Type": ""}, 415),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": "multipart/form-data; boundary=application/json"}, 415),
        ({"Content_Type": "text/plain; application/json"}, 415),
        ({"Content_Type": "Application/JSON; Charset=UTF-8"}, 200),
        ({"Content_Type": "application/json; charset=utf-16"}, 415),
        ({"Content_Encoding": "gzip"}, 415),
    ],
    ids=str,
)
def test_host_origin_and_type_are_checked(usual: Running, headers: dict[str, str], status: int) -> None:
    found, said, answer = usual.ask(post(OK, **headers))
    assert found == status and ("predictions" in answer) == (status == 200)
    assert "server" not in said and not any(name.startswith("access-control") for name in said)


@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/nothing"])
def test_every_path_answers_its_own_hosts_only(usual: Running, path: str) -> None:
    assert usual.ask(get(path, Host="evil.example"))[0] == 421
    assert usual.ask(get(path))[0] == (404 if path == "/nothing" else 200)


def test_a_page_elsewhere_may_not_ask_first_either(usual: Running) -> None:
    request = get("/predict", Origin="http://evil.example", Access_Control_Request_Method="POST")
    status, headers, _ = usual.ask(request.replace(b"GET", b"OPTIONS", 1))
    assert status == 403 and not any(name.startswith("access-control") for name in headers)


@pytest.mark.parametrize(
    ("host", "allowed", "own", "names"),
    [
        ("127.0.0.1", [], False, {"localhost", "127.0.0.1", "::1"}),
        ("0.0.0.0", ["Models.Example"], True, {"localhost", "127.0.0.1", "::1", "models.example"}),
        ("::", [], True, {"localhost", "127.0.0.1", "::1"}),
        ("10.1.2.3", ["a:80"], False, {"localhost", "127.0.0.1", "::1", "10.1.2.3", "a"}),
    ],
)
def test_names_that_a_server_answers_to(host: str, allowed: list[str], own: bool, names: set[str]) -> None:
    found = access(host, allowed)
    assert found.hosts == names and found.own_address == own


def test_names_and_tokens_that_cannot_be() -> None:
    for name in ("", "http://a", "a/b", "a b"):
        with pytest.raises(automl.UserError, match="is no host name"):
            access("127.0.0.1", [name])
    for token in ("", "a b", "a\n", "ä"):
        with pytest.raises(automl.UserError, match="the token has to be"):
            access("127.0.0.1", token=token)
    assert host_name("*") == "*"  # a name like any other: nothing stands for all


def test_where_it_listens_on_all_the_address_that_was_reached_is_a_name() -> None:
    with running(access=access("0.0.0.0")) as server:
        assert server.predict(["ab"])[0] == 200
        assert server.predict(["ab"], Host="192.0.2.1")[0] == server.predict(["ab"], Host="evil.example")[0] == 421


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("", 401),
        ("Bearer", 401),
        ("Bearer wrong", 401),
        ("Bearer secret-and-more", 401),
        ("Basic secret", 401),
        ("Bearer \xe9", 401),
        ("secret", 401),
        ("Bearer secret", 200),
        ("bearer secret", 200),
    ],
)
def test_a_token(said: str, status: int) -> None:
    with running(access=access("127.0.0.1", token="secret")) as server:
        found, headers, _ = server.ask(post(OK, Authorization=said))
        assert found == status and (headers.get("www-authenticate") == "Bearer") == (status == 401)
        for path in ("/", "/metrics", "/nothing"):
            assert (server.ask(get(path, Authorization=said))[0] == 401) == (status == 401)
        assert server.health()[0] == 200


# What is no JSON that it wants


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b'{"texts": ["a"], "x": NaN}', 400),
        (b'{"texts": ["a"], "x": -Infinity}', 400),
        (b'{"texts": ["a"], "x": ' + b"9" * 100_000 + b"}", 400),
        (b'{"texts": ["a"], "texts": ["b"]}', 400),
        (b'{"texts": ["a"], "x": {"y": 1, "y": 2}}', 400),
        (b'{"texts": ["\xff"]}', 400),
        (b'{"texts": ["\xed\xa0\x80"]}', 400),  # a surrogate in UTF-8
        ('{"texts": ["a"]}'.encode("utf-16"), 400),
        (b'{"texts": ["a"]} {}', 400),
        (b'{"texts": ["a\n"]}', 400),
        (b'{"a":' * 100_000, 400),
        (b'{"texts": ' + b"[" * 900 + b"]" * 900 + b"}", 422),
        (b'{"texts": [[], {}, null, 1e999]}', 422),
        (b'{"texts": {"0": "a"}}', 422),
        (b'{"texts": null}', 422),
        (b"null", 422),
        (b'"texts"', 422),
        (b"1e999", 422),
        (b'{"texts": ["\\u0000"]}', 200),
        (b'{"texts": ["\\ud83d"]}', 200),
        (b'\xef\xbb\xbf{"texts": ["a"]}', 200),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else str(value),
)
def test_bodies(usual: Running, body: bytes, status: int) -> None:
    found, _, answer = usual.ask(post(body))
    assert found == status and list(answer) == ["predictions" if status == 200 else "error"]
    assert len(json.dumps(answer)) < 500


def test_chunks_and_pipelined_requests(usual: Running) -> None:
    chunked = post(b"", Content_Length="", Transfer_Encoding="chunked")
    chunked += b"".join(b"1\r\n%c\r\n" % byte for byte in OK) + b"0\r\n\r\n"
    with usual.connect() as client:
        client.sendall((chunked + post(OK) + get("/health")) * 5)
        assert [answer_of(client)[0] for _ in range(15)] == [200] * 15


# Figures


def test_metrics_are_those_of_prometheus() -> None:
    with running(raising={"poison": Panic()}) as server:
        assert server.predict(["ab"] * 3)[0] == 200 and server.predict(["poison"])[0] == 500
        assert server.predict(["ab"], Content_Type="text/plain")[0] == 415
        for number in range(20):
            server.ask(get(f"/nothing/{number}"))
        server.ask(b"nonsense\r\n\r\n")
        _, headers, text = server.ask(get("/metrics"))
        assert headers["content-type"].startswith("text/plain; version=")
        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        for status, count in (("200", 1), ("500", 1), ("415", 1)):
            assert samples["automl_requests_total", "/predict", status] == count
        assert samples["automl_requests_total", "other", "404"] == 20
        assert samples["automl_requests_total", "other", "400"] == 1
        assert samples["automl_request_seconds_count", "/predict"] == 3
        assert samples["automl_batches_total",] == 2 and samples["automl_batches_failed_total",] == 1
        assert samples["automl_batch_texts_sum",] == 4
        assert samples["automl_queue_texts",] == samples["automl_queue_bytes",] == 0
        assert samples["automl_connections",] >= 1
        assert len(samples) < 200  # whatever paths clients ask for


# Addresses


@pytest.mark.parametrize(
    ("host", "shown", "asked"),
    [
        ("::1", "http://[::1]:", "::1"),
        ("::", "http://[::]:", "127.0.0.1"),
        ("::", "http://[::]:", "::1"),
        ("localhost", "http://localhost:", "127.0.0.1"),
        ("0.0.0.0", "http://0.0.0.0:", "127.0.0.1"),
    ],
)
def test_addresses_to_listen_on(host: str, shown: str, asked: str) -> None:
    with listening(host, 0) as (server, url):
        assert url.startswith(shown)
        socket.create_connection((asked, server.getsockname()[1]), timeout=10).close()


@pytest.mark.parametrize("host", ["nowhere.invalid", "http://127.0.0.1", "\udcff", "x" * 300])
def test_addresses_that_there_are_not(host: str) -> None:
    with pytest.raises(automl.UserError, match="is no address or name of this machine"), listening(host, 0):
        pass


# The end

SERVED = """
import sys, threading, time
from automl.results.serve import serve
from automl.results.serving.access import access
from tests.results.serving import SteeredModel

class Model(SteeredModel):
    def predict_read(self, texts):
        while "stuck" in texts:
            sum(range(1000))
        return super().predict_read(texts)

serve(Model(), sys.argv[1], 0, access(sys.argv[1]), lambda line: print(line, file=sys.stderr, flush=True))
"""


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_whatever_clients_and_the_model_do(signal_: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVED, "::1"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("serving on http://[::1]:"), line + process.stderr.read()
        port = int(line.rpartition(":")[2])
        clients = [socket.create_connection(("::1", port), timeout=30) for _ in range(12)]
        stuck = post(json.dumps({"texts": ["stuck"]}).encode())
        for number, client in enumerate(clients):
            client.sendall((stuck, post(OK, Content_Length="9999"), b"GET / HTTP", get("/health"))[number % 4])
        assert answer_of(clients[3])[0] == 200
        process.send_signal(signal_)
        _, rest = process.communicate(timeout=10)
        assert "Traceback" not in rest.replace("KeyboardInterrupt", "") or signal_ == signal.SIGINT
        for client in clients:
            client.close()
    finally:
        process.kill()
        process.wait()


# All at once


def test_honest_clients_are_answered_beside_hostile_ones_in_bounded_memory() -> None:
    """`benchmarks/serve.py` measures how fast."""
    limits = Limits(receive_seconds=1, send_seconds=1, held_bytes=8 * MIB, connections=100)
    before, ended = psutil.Process().memory_info().rss, threading.Event()
    with running(limits, raising={"poison": Panic()}) as server:
        large = json.dumps({"texts": ["x" * 2000] * 1000}).encode()
        requests = [
            b"GET / HTTP/1.1\r\n",
            post(OK, Content_Length="1000"),
            post(large),
            post(large, Content_Length=str(8 * MIB)),
            post(b"", Content_Length=str(99 * MIB)) + b"x" * MIB,
            post(b"{" * 1000),
            post(b'{"texts": ["poison"]}'),
            post(OK, Host="evil.example") * 50,
            os.urandom(1000) + b"\r\n\r\n",
            get("/metrics") * 100,
        ]

        def hostile(number: int) -> None:
            chance = random.Random(number)
            while not ended.is_set():
                try:
                    with server.connect() as client:
                        client.sendall(chance.choice(requests))
                        if chance.random() < 0.5:
                            hang_up(client)
                        else:
                            ended.wait(chance.random() * 2)
                except OSError:
                    pass

        def honest(number: int) -> int:
            texts = ["a" * (1 + (number * 7 + each) % 50) for each in range(1 + number % 3)]
            status, answer = server.predict(texts)
            if status == 200:
                assert [each["label"] for each in answer["predictions"]] == [
                    ("even", "odd")[len(text) % 2] for text in texts
                ]
            return status

        attackers = [threading.Thread(target=hostile, args=(number,)) for number in range(20)]
        for attacker in attackers:
            attacker.start()
        try:
            with ThreadPoolExecutor(20) as pool:
                assert set(pool.map(honest, range(600))) == {200}
        finally:
            ended.set()
            for attacker in attackers:
                attacker.join()
        until(lambda: server.server.held.bytes == server.server.batcher.waiting == 0)
        assert server.health() == (200, {"status": "ok"})
        until(lambda: not server.http.server_state.connections)
    assert psutil.Process().memory_info().rss - before < 300 * MIB
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > psutil.Process().num_fds()
