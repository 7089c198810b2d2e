"""Bodies of requests, read within bounds: of each, and of all together."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from automl.results.serving.access import RefusedError
from automl.results.serving.limits import MIB, Limits

DISCARD_WAIT = 0.002


class GoneError(Exception):
    """The client has left."""


class HeldBytes:
    """The bytes of all requests that are read, that wait, or whose answers are being sent."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.bytes = limits, 0

    def check(self, more: int, size: int) -> None:
        """Raise RefusedError (503) where `more` bytes of a body of `size` are too many."""
        most = self.limits.most_held(size <= self.limits.small_bytes)
        if self.bytes + more > most:
            raise RefusedError(503, f"more than {most // MIB} MiB would wait; try again later", {"Retry-After": "1"})


class Bodies:
    """The body of one request, what it holds of the bytes of all, and whether its client is still there."""

    def __init__(self, scope: Scope, receive: Receive, held: HeldBytes, limits: Limits) -> None:
        self._receive, self._held, self._limits = receive, held, limits
        headers = Headers(scope=scope)
        self._mine = 0
        self._waits = "expect" in headers
        """Whether the client waits to be told that it may send the body."""
        self.finished = "transfer-encoding" not in headers and headers.get("content-length", "0").strip("0") == ""
        """Whether the whole body has been received, or there is none."""

    async def read(self, headers: Headers) -> bytes:
        """The body.

        Raises RefusedError where it is too large, too much waits (before anything is read), or it is too slow;
        GoneError where the client leaves.
        """
        limits, body = self._limits, bytearray()
        said = headers.get("content-length")
        if said is not None:  # digits: the parser of HTTP has seen to it
            self._check(int(said))
            self._held.check(int(said), int(said))
        try:
            async with asyncio.timeout(limits.receive_seconds):
                while not self.finished:
                    chunk = await self._next()
                    self._check(len(body) + len(chunk))
                    self._held.check(len(chunk), len(body) + len(chunk))
                    self.hold(len(chunk))
                    body += chunk
        except TimeoutError:
            raise RefusedError(408, f"the request was not received within {limits.receive_seconds:g} seconds") from None
        return bytes(body)

    async def discard(self) -> None:
        """Read what the client still sends, within bounds: else it would see a broken connection, not its answer."""
        most = 2 * self._limits.request_bytes
        if self._waits:
            return
        with contextlib.suppress(GoneError, TimeoutError):
            async with asyncio.timeout(self._limits.receive_seconds):
                while not self.finished and most > 0:
                    most -= len(await self._next())
                    await asyncio.sleep(DISCARD_WAIT)  # at its leisure: others are waiting

    async def gone(self) -> None:
        """Wait until the client has left."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def hold(self, size: int) -> None:
        """Count `size` bytes more, until `release`."""
        self._mine += size
        self._held.bytes += size

    def hold_also(self, size: int) -> None:
        """The same of what a body unpacks to; raises RefusedError (503) where too much would wait."""
        self._held.check(size, self._mine + size)
        self.hold(size)

    def release(self) -> None:
        """Count none any more."""
        self._held.bytes -= self._mine
        self._mine = 0

    def _check(self, size: int) -> None:
        if size > self._limits.request_bytes:
            raise RefusedError(413, f"a request has at most {self._limits.request_bytes // MIB} MiB")

    async def _next(self) -> bytes:
        message = await self._receive()
        self._waits = False
        if message["type"] == "http.disconnect":
            self.finished = True
            raise GoneError
        self.finished = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk
