"""A model behind HTTP: requests that come at the same time are answered together.

POST /predict   {"texts": ["...", "..."]}  ->  {"predictions": [{"label": ..., "probabilities": {...}}, ...]}
                {"images": ["BASE64", ...]} of files, {"series": [[0.5, 1.0], ...]}: what the model is for
GET  /          the model's classes, and how many rows and batches it has answered
GET  /health    {"status": "ok"}, or 503 where requests are not answered
GET  /metrics   counts, latencies and the queue, for Prometheus
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from automl.data.pixels import DAMAGED, PixelScaleError
from automl.results.hosts import is_loopback
from automl.results.package import Model
from automl.results.serving.access import Access, RefusedError, check_content
from automl.results.serving.batcher import Batcher, FailedError, TooBusyError, said
from automl.results.serving.bodies import Bodies, GoneError, HeldBytes
from automl.results.serving.connections import http_server, listening
from automl.results.serving.content import Picture, content_of, unpacked, wanted_of
from automl.results.serving.limits import Limits
from automl.results.serving.metrics import Metrics

FAULT = b"\0"  # begins what is no answer but the reason why there is none; no JSON does
RETRY = {"Retry-After": "1"}
CHUNK = 64 * 1024
LEFT = 499
"""As nginx calls it: the client closed the connection."""


class Server:
    """An ASGI application, and the parts of it that whoever runs it needs."""

    def __init__(self, model: Model, access: Access, limits: Limits) -> None:
        self.model, self.access, self.limits = model, access, limits
        self.metrics = Metrics()
        self.wanted = wanted_of(model)
        self.batcher = Batcher(self._compute, limits, self.metrics, self.wanted.key)
        self.held = HeldBytes(limits)
        self.metrics.held_bytes.set_function(lambda: self.held.bytes)
        each = len(json.dumps({"label": "", "probabilities": dict.fromkeys(model.classes, 0.1234567890123456)}))
        self.most_texts = max(1, min(self.wanted.most(limits), limits.answer_bytes // each))
        routes = [
            Route("/predict", self._predict, methods=["POST"]),
            Route("/", self._about, methods=["GET"]),
            Route("/health", self._health, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
        ]
        self._paths = frozenset(route.path for route in routes)
        self.application = Starlette(
            routes=routes,
            lifespan=self._working,
            exception_handlers={HTTPException: _missing, RefusedError: _refused, GoneError: self._left, 500: _failed},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Whatever happens is an answer or the end of the connection, never an exception."""
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        began = time.monotonic()
        path = scope["path"] if scope["path"] in self._paths else "other"
        scope["automl.bodies"] = bodies = Bodies(scope, receive, self.held, self.limits)
        answer = _Answer(bodies, send)
        try:
            try:
                self.access.check(scope)
            except RefusedError as refused:
                await _error(refused)(scope, receive, answer.send)
            else:
                await self.application(scope, receive, answer.send)
        except asyncio.CancelledError:  # the server ends
            pass
        except Exception as error:  # Starlette has answered with 500
            self.batcher.say(f"a request failed: {said(error)}")
        finally:
            bodies.release()
            if answer.status is not None:
                self.metrics.requests.labels(path, str(answer.status)).inc()
                self.metrics.seconds.labels(path).observe(time.monotonic() - began)

    @contextlib.asynccontextmanager
    async def _working(self, _: Starlette) -> AsyncIterator[None]:
        self.batcher.start()
        yield
        self.batcher.end()

    def _compute(self, rows: Sequence[Any]) -> list[bytes]:
        """Predictions as JSON, in the thread of the model."""
        contents = [row.content if isinstance(row, Picture) else row for row in rows]
        try:
            return self._answers(contents)
        except DAMAGED:
            faults = self._faults(contents) if self.wanted.key == "images" else {}
            if not faults:
                raise
        answers = iter(self._answers([each for number, each in enumerate(contents) if number not in faults]))
        return [faults[number] if number in faults else next(answers) for number in range(len(contents))]

    def _answers(self, contents: Sequence[Any]) -> list[bytes]:
        return [
            json.dumps({"label": each.label, "probabilities": each.probabilities}, allow_nan=False).encode()
            for each in self.model.predict_read(contents)
        ]

    def _faults(self, contents: Sequence[Any]) -> dict[int, bytes]:
        """Of images whose headers are sound and whose pixels are not, by their number: `FAULT` and what is wrong."""
        found = {}
        for number, content in enumerate(contents):
            try:
                for encoder in self.model.encoders:
                    encoder.encode([content])
            except DAMAGED as error:
                scale = isinstance(error, PixelScaleError)
                found[number] = FAULT + (str(error) if scale else "its pixels cannot be decoded").encode()
        return found

    async def _predict(self, request: Request) -> Response:
        check_content(request.headers)
        bodies: Bodies = request.scope["automl.bodies"]
        rows = content_of(await bodies.read(request.headers), self.limits, self.most_texts, self.wanted)
        bodies.hold_also(unpacked(rows))
        asked = asyncio.ensure_future(self.batcher.predict(rows))
        gone = asyncio.ensure_future(bodies.gone())
        try:
            await asyncio.wait([asked, gone], timeout=self.limits.answer_seconds, return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                found = asked.result()
            elif gone.done():
                raise GoneError
            else:
                raise RefusedError(
                    503, f"no answer within {self.limits.answer_seconds:g} seconds; try again later", RETRY
                )
        except TooBusyError as error:
            raise RefusedError(503, str(error), RETRY) from None
        except FailedError as error:
            self.batcher.say(f"a request failed: {error}")
            raise RefusedError(500, "the model failed on this request") from None
        finally:
            asked.cancel()
            gone.cancel()
        for number, each in enumerate(found):
            if each.startswith(FAULT):
                raise RefusedError(422, f"{self.wanted.key}[{number}]: {each.removeprefix(FAULT).decode()}")
        content = b'{"predictions": [' + b", ".join(found) + b"]}"
        bodies.hold(len(content))
        return Response(content, media_type="application/json")

    async def _about(self, _: Request) -> Response:
        about = {"classes": list(self.model.classes), "takes": self.wanted.key}
        return _json({**about, "rows": self.batcher.rows, "batches": self.batcher.batches})

    async def _health(self, _: Request) -> Response:
        trouble = self.batcher.trouble
        if trouble is None and self.batcher.failing:  # was it that request, or is it the model?
            try:
                async with asyncio.timeout(self.limits.answer_seconds):
                    await self.batcher.predict([self.wanted.sample])
            except FailedError as error:
                trouble = f"the model fails ({str(error).partition(':')[0]})"
            except TimeoutError:
                trouble = "a batch does not end"
            except TooBusyError as error:
                trouble = self.batcher.trouble and str(error)
        return _json({"status": "ok"}) if trouble is None else _json({"status": "failing", "error": trouble}, 503)

    async def _left(self, _: Request, error: Exception) -> Response:
        """The client has left: for the figures, as nobody reads it."""
        self.metrics.hung_up.inc()
        return Response(status_code=LEFT)

    async def _metrics(self, _: Request) -> Response:
        return Response(generate_latest(self.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def serve(model: Model, host: str, port: int, access: Access, tell: Callable[[str], None]) -> None:
    """Answer requests until interrupted; `tell` hears where. Raises UserError for no host, OSError for a taken port."""
    limits = Limits()
    server = Server(model, access, limits)
    with listening(host, port) as (socket, url):
        tell(f"serving on {url}")
        if access.token is None and not is_loopback(host):
            tell("warning: other machines reach this server, and it wants no token; set one with AUTOML_TOKEN")
        http_server(server, server.batcher, limits).run(sockets=[socket])


def application(model: Model, access: Access | None = None, limits: Limits | None = None) -> ASGIApp:
    """The ASGI application that serves `model`: to whom `access` lets in, within `limits`."""
    return Server(model, access or Access(), limits or Limits())


class _Answer:
    """The sending side of a request: large bodies by pieces, and answers that come before the client has sent all."""

    def __init__(self, bodies: Bodies, send: Send) -> None:
        self.status: int | None = None
        self._bodies, self._send = bodies, send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if not self._bodies.finished:
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await self._send(message)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        for start in range(0, len(body), CHUNK):  # each waits until the client has taken most of those before
            await self._send({"type": "http.response.body", "body": body[start : start + CHUNK], "more_body": True})
        if not more:
            await self._bodies.discard()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _json(content: object, status: int = 200) -> Response:
    return Response(json.dumps(content), status, media_type="application/json")


def _error(refused: RefusedError) -> Response:
    response = _json({"error": refused.reason}, refused.status)
    response.headers.update(refused.headers)
    return response


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return _error(error)


async def _missing(_: Request, error: Exception) -> Response:
    """What Starlette refuses: paths and methods that there are not."""
    assert isinstance(error, HTTPException)
    return _error(RefusedError(error.status_code, error.detail, dict(error.headers or {})))


async def _failed(_: Request, error: Exception) -> Response:
    return _json({"error": "failed"}, 500)
