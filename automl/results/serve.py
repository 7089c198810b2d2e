"""A model behind HTTP: requests that come at the same time are answered together.

POST /predict   {"texts": ["...", "..."]}  ->  {"predictions": [{"label": ..., "probabilities": {...}}, ...]}
GET  /          the model's classes, and how many rows and batches it has answered
GET  /health    {"status": "ok"}
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from automl.results.package import Model, Prediction

BATCH_ROWS = 256
WAIT_SECONDS = 0.005  # for other requests, where the model is idle
MOST_BYTES = 8 * 1024 * 1024  # of a request
MOST_TEXTS = 4096  # in one request
MOST_WAITING = 16_384  # texts that wait for the model


class TooBusyError(Exception):
    """More texts wait than may."""


@dataclass
class Batcher:
    """Texts of many requests, put together into batches for one model; one batch is computed at a time."""

    model: Model
    rows: int = 0
    batches: int = 0
    _waiting: asyncio.Queue[tuple[list[str], asyncio.Future[list[Prediction]]]] = field(default_factory=asyncio.Queue)
    _texts: int = 0

    async def predict(self, texts: list[str]) -> list[Prediction]:
        """The predictions of texts, in their order; raises TooBusyError where too many wait."""
        if self._texts + len(texts) > MOST_WAITING:
            raise TooBusyError
        answer: asyncio.Future[list[Prediction]] = asyncio.get_running_loop().create_future()
        self._texts += len(texts)
        try:
            self._waiting.put_nowait((texts, answer))
            return await answer
        finally:
            self._texts -= len(texts)

    async def work(self) -> None:
        """Answer requests until cancelled."""
        while True:
            together = [await self._waiting.get()]
            await asyncio.sleep(WAIT_SECONDS)
            while not self._waiting.empty() and sum(len(texts) for texts, _ in together) < BATCH_ROWS:
                together.append(self._waiting.get_nowait())
            texts = [text for texts, _ in together for text in texts]
            try:
                found = await asyncio.to_thread(self.model.predict, texts)
            except Exception as error:  # what it is concerns these requests; the next ones are answered
                for _, answer in together:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            self.rows += len(texts)
            self.batches += 1
            for said, answer in together:
                mine, found = found[: len(said)], found[len(said) :]
                if not answer.done():
                    answer.set_result(mine)


def application(model: Model) -> Starlette:
    """The ASGI application that serves `model`."""
    batcher = Batcher(model)

    @contextlib.asynccontextmanager
    async def working(_: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(batcher.work())
        yield
        task.cancel()

    async def predict(request: Request) -> JSONResponse:
        texts = await _texts(request)
        try:
            found = await batcher.predict(texts)
        except TooBusyError:
            raise HTTPException(503, f"more than {MOST_WAITING:,} texts are waiting; try again later") from None
        said = [{"label": each.label, "probabilities": each.probabilities} for each in found]
        return JSONResponse({"predictions": said})

    async def about(_: Request) -> JSONResponse:
        return JSONResponse({"classes": list(model.classes), "rows": batcher.rows, "batches": batcher.batches})

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def failed(_: Request, error: Exception) -> JSONResponse:
        status, reason = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "failed")
        return JSONResponse({"error": reason}, status_code=status)

    routes = [Route("/predict", predict, methods=["POST"]), Route("/", about), Route("/health", health)]
    return Starlette(routes=routes, lifespan=working, exception_handlers={HTTPException: failed, 500: failed})


async def _texts(request: Request) -> list[str]:
    """The texts of a request; raises HTTPException with one sentence where it is not as it should be."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"a request has at most {MOST_BYTES // 1024 // 1024} MiB")
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error
    texts = content.get("texts") if isinstance(content, dict) else None
    if not isinstance(texts, list):
        raise HTTPException(422, 'expected a JSON object with a list of texts: {"texts": ["..."]}')
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise HTTPException(422, f"texts[{number}] is {'empty' if isinstance(text, str) else 'no text'}")
    if not 0 < len(texts) <= MOST_TEXTS:
        raise HTTPException(422, f"a request has 1 to {MOST_TEXTS:,} texts, this one {len(texts):,}")
    return texts
