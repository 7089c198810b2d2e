"""A server around a model that tests steer, in a thread of this process, and plain sockets as its clients."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from automl.data.modalities import MODALITIES, Modality
from automl.results.package import Model, Prediction
from automl.results.serve import Server
from automl.results.serving.access import Access
from automl.results.serving.connections import HttpServer, http_server, listening
from automl.results.serving.limits import Limits


class Panic(BaseException):
    """As a panic of Rust comes to Python: no Exception."""


@dataclass
class SteeredModel:
    """Answers each text by its length, waits where it is `wait`, raises where it is one of `raising`."""

    classes: tuple[str, ...] = ("even", "odd")
    modality: Modality = MODALITIES["text"]
    seen: list[list[str]] = field(default_factory=list)
    raising: dict[str, BaseException] = field(default_factory=dict)
    go: threading.Event = field(default_factory=threading.Event)
    long: int = 0
    """Characters that class names are made longer by."""

    def predict_read(self, texts: Sequence[str]) -> list[Prediction]:
        self.seen.append(list(texts))
        if any(text == "wait" for text in texts):
            self.go.wait(60)
        for text in texts:
            if text in self.raising:
                raise self.raising[text]
        return [
            Prediction(
                self.classes[len(text) % 2], {"even": 1.0 - len(text) % 2, "odd" + "d" * self.long: len(text) % 2}
            )
            for text in texts
        ]

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.seen for text in batch]


@dataclass
class Running:
    """A server that runs."""

    port: int
    server: Server
    http: HttpServer
    model: SteeredModel

    def on_loop(self, call: Callable[[], object]) -> None:
        """Call something in the server's thread."""
        task = self.server.batcher._task
        assert task is not None
        task.get_loop().call_soon_threadsafe(call)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def ask(self, request: bytes) -> tuple[int, dict[str, str], Any]:
        with self.connect() as client:
            client.sendall(request)
            return answer_of(client)

    def predict(self, texts: object, **headers: str) -> tuple[int, Any]:
        status, _, content = self.ask(post(json.dumps({"texts": texts}).encode(), **headers))
        return status, content

    def health(self) -> tuple[int, Any]:
        status, _, content = self.ask(get("/health"))
        return status, content


def get(path: str, **headers: str) -> bytes:
    return _request("GET", path, {"Host": "127.0.0.1", **headers})


def post(body: bytes, path: str = "/predict", **headers: str) -> bytes:
    """A request; `headers` with _ for -, an empty one is left out."""
    said = {"Host": "127.0.0.1", "Content_Type": "application/json", "Content_Length": str(len(body)), **headers}
    return _request("POST", path, said) + body


def _request(method: str, path: str, headers: dict[str, str]) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items() if value]
    return f"{method} {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode("latin-1")


def answer_of(client: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON (or text) of one answer; ConnectionError where the connection ends before it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += _some(client, 1)
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines) if name}
    body = b""
    while len(body) < int(headers["content-length"]):
        body += _some(client, int(headers["content-length"]) - len(body))
    is_json = headers.get("content-type") == "application/json"
    return int(first.split()[1]), headers, json.loads(body) if is_json else body.decode()


def _some(client: socket.socket, most: int) -> bytes:
    if not (found := client.recv(min(most, 65536))):
        raise ConnectionResetError("the server closed the connection")
    return found


def closed(client: socket.socket) -> bool:
    """Whether the server ends the connection before it says more (or the socket's timeout comes)."""
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the time is a hang."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


@contextmanager
def running(
    limits: Limits | None = None, access: Access | None = None, real: Model | None = None, **model: Any
) -> Iterator[Running]:
    """A server around a `real` model, or one that is steered."""
    limits, steered = limits or Limits(), SteeredModel(**model)
    server = Server(cast(Model, real or steered), access or Access(), limits)
    with listening("127.0.0.1", 0) as (found, url):
        http = http_server(server, server.batcher, limits)
        thread = threading.Thread(target=http.run, kwargs={"sockets": [found]}, daemon=True)
        thread.start()
        until(lambda: http.started)
        try:
            yield Running(int(url.rpartition(":")[2]), server, http, steered)
        finally:
            steered.go.set()
            http.should_exit = True
            thread.join(30)
            assert not thread.is_alive()
