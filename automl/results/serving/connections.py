"""Connections that cannot be held for ever, on top of uvicorn's: none of its settings bounds a slow client."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import json
import logging
import os
import resource
import select
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import IO, Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from automl.results.serving.batcher import Batcher
from automl.results.serving.limits import Limits
from automl.results.serving.metrics import Metrics
from automl.space import UserError

TICK = 0.25
PIECES, SMALL_PIECE = 1000, 128
"""A body in more pieces than this, of fewer bytes each in the mean, costs the parser far more than it holds."""
LEFT = getattr(select, "POLLRDHUP", 0)
OTHER_FILES = 64
LAST_SECONDS = 3.0
"""After those in which requests are answered, until the process is ended whatever still runs."""


class _Parser(h11.Connection):
    """The parser of HTTP, but for large headers that come at once and bodies in a great many tiny pieces."""

    pieces = size = 0

    def __init__(self, header_bytes: int) -> None:
        super().__init__(h11.SERVER, header_bytes)
        self._most = header_bytes

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Data):
            self.pieces, self.size = self.pieces + 1, self.size + len(event.data)
            if self.pieces > PIECES and self.size < SMALL_PIECE * self.pieces:
                raise h11.RemoteProtocolError("the body comes in too many small chunks")
        elif isinstance(event, h11.Request):
            self.pieces = self.size = 0
            if len(event.target) + sum(len(name) + len(value) + 4 for name, value in event.headers) > self._most:
                raise h11.RemoteProtocolError("the headers are too large")
        return event


class Connection(H11Protocol):
    """One client's connection. What it is waited for has an end: a request, an answer to be taken, the last bytes."""

    limits: Limits
    metrics: Metrics

    def __init__(
        self, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any], **more: Any
    ) -> None:
        super().__init__(config, server_state, app_state, **more)
        self.conn = _Parser(self.limits.header_bytes)
        self._phase: tuple[str, Any] | None = None
        self._since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Where there are too many, the one that has waited longest for a request makes room."""
        super().connection_made(transport)
        self.check()
        if len(self.connections) > self.limits.connections:
            others = [each for each in self.connections if isinstance(each, Connection) and each is not self]
            idle = [each for each in others if each.phase[0] == "request"]
            (min(idle, key=lambda each: each._since) if idle else self).close("too many")

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, but nothing that a client sends is a traceback."""
        try:
            super().data_received(data)
        except Exception:
            self.close("malformed")

    def send_400_response(self, msg: str) -> None:
        """A sentence as JSON, and the end of the connection."""
        body = json.dumps({"error": "this is not an HTTP request, or its headers or chunks are too many"}).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        self.metrics.requests.labels("other", "400").inc()
        try:
            response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # an answer is under way already
            self.close("malformed")
        else:
            self.transport.close()

    @property
    def phase(self) -> tuple[str, Any]:
        """What is waited for now, and in which request."""
        if self.transport.is_closing():
            return "closing", None
        if self.transport.get_write_buffer_size():
            return "sending", self.cycle
        if self.cycle is None or self.cycle.response_complete:
            return "request", self.cycle
        return ("body" if self.cycle.more_body else "answer"), self.cycle

    def check(self) -> None:
        """Close the connection where its phase has lasted too long, or its client left while the answer is computed."""
        now, phase = self.loop.time(), self.phase
        if phase != self._phase:
            self._phase, self._since = phase, now
        limits = self.limits
        most = {
            "request": limits.receive_seconds,
            "body": limits.receive_seconds + 2 * TICK,  # the application answers with 408 before
            "answer": limits.answer_seconds + limits.send_seconds,
        }.get(phase[0], limits.send_seconds)
        if now - self._since >= most:
            self.close(f"slow: {phase[0]}")
        elif phase[0] == "answer" and self._left():
            self.close("hung up")

    def close(self, reason: str) -> None:
        """End the connection at once, whatever is still to be sent."""
        self.metrics.closed.labels(reason).inc()
        self.transport.abort()

    def _left(self) -> bool:
        """Whether the client has left; asyncio does not see it where a next request waits to be read."""
        end = self.transport.get_extra_info("socket")
        if not LEFT or end is None or end.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(end.fileno(), LEFT)
        return bool(poll.poll(0))


class HttpServer(uvicorn.Server):
    """uvicorn's server, with an end that comes whatever clients and the model do."""

    def __init__(self, config: uvicorn.Config, batcher: Batcher, limits: Limits) -> None:
        super().__init__(config)
        self._batcher, self._limits = batcher, limits
        self._nowhere: IO[str] | None = None
        batcher.metrics.connections.set_function(lambda: len(self.server_state.connections))

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; whoever called goes on without the watch, unless a batch still runs that could not be ended."""
        try:
            super().run(sockets)
        finally:
            if not self._batcher.computing:
                faulthandler.cancel_dump_traceback_later()
                if self._nowhere is not None:
                    self._nowhere.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a watch that needs neither the event loop nor the interpreter's lock sees to it."""
        if not self.should_exit:
            # Its file is where the stacks of all threads are written to: they are of no use to anybody here.
            self._nowhere = Path(os.devnull).open("w")  # noqa: SIM115 (the watch writes to it later)
            faulthandler.dump_traceback_later(
                self._limits.shutdown_seconds + LAST_SECONDS, exit=True, file=self._nowhere
            )
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; connections are looked at from then on."""
        asyncio.get_running_loop().set_exception_handler(self._say)
        await super().startup(sockets)
        self._checks = asyncio.get_running_loop().create_task(self._check())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Requests that wait have some seconds; what is left then is answered with 503 and closed."""
        self._batcher.close()
        loop, seconds = asyncio.get_running_loop(), self._limits.shutdown_seconds
        loop.call_later(seconds, self._batcher.end)
        loop.call_later(seconds + 1, self._abort)
        await super().shutdown(sockets)
        self._checks.cancel()

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            for each in list(self.server_state.connections):
                if isinstance(each, Connection):
                    each.check()

    def _abort(self) -> None:
        for each in list(self.server_state.connections):
            each.transport.abort()

    def _say(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What asyncio would log with a traceback (no more file descriptors, a client that broke off) is one line."""
        error = context.get("exception")
        if not isinstance(error, ConnectionError):
            what = context.get("message", "")
            self._batcher.say(f"{what}{'' if error is None else f' ({type(error).__name__}: {error})'}")


def http_server(application: ASGIApp, batcher: Batcher, limits: Limits) -> HttpServer:
    """uvicorn with bounds, silent about its clients."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files != resource.RLIM_INFINITY:
        limits = replace(limits, connections=max(1, min(limits.connections, files - OTHER_FILES)))
    own = type("OwnConnection", (Connection,), {"limits": limits, "metrics": batcher.metrics})
    config = uvicorn.Config(
        application,
        http=own,
        ws="none",
        loop="asyncio",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=limits.connections,
        timeout_keep_alive=limits.idle_seconds,
        timeout_graceful_shutdown=round(limits.shutdown_seconds + 2),
    )
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it tells each malformed request
    return HttpServer(config, batcher, limits)


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """A socket that listens on `host`, and its URL; IPv6 and names, too.

    Raises UserError where `host` is no address of this machine, OSError where the port is taken.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise UserError(f"--host {host!r} is no address or name of this machine") from None
    family, *_, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    both = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
    with socket.create_server(address, family=family, dualstack_ipv6=both, backlog=512) as server:
        shown = f"[{host}]" if ":" in host else host
        yield server, f"http://{shown}:{server.getsockname()[1]}"
