"""Requests that come at the same time are computed together, each in its turn, one batch at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from automl.results.serving.limits import Limits
from automl.results.serving.metrics import Metrics
from automl.results.serving.thread import Compute, Failed, ModelThread, Outcome

log = logging.getLogger("automl.serve")
LOG_SECONDS = 1.0


class TooBusyError(Exception):
    """More waits than may, or the server ends, or no thread computes."""


class FailedError(Exception):
    """The model failed on a request."""


class _StuckError(Exception):
    """A batch does not end."""


@dataclass(eq=False)
class _Request:
    """One request in the line: rows that are still to be taken, and the answers to those before."""

    rows: Sequence[Any]
    answer: asyncio.Future[list[bytes] | Exception]
    """An error is a value here: a future that raises when nobody waits any more is logged with a traceback."""
    taken: int = 0
    found: list[bytes] = field(default_factory=list)

    def take(self, most_rows: int, most_bytes: int) -> Sequence[Any]:
        """The next rows, one at least."""
        start, size = self.taken, 0
        while self.taken < len(self.rows) and (
            self.taken == start or (self.taken - start < most_rows and size < most_bytes)
        ):
            size += len(self.rows[self.taken])
            self.taken += 1
        return self.rows[start : self.taken]

    @property
    def done(self) -> bool:
        """Whether nobody waits for it, or all is answered."""
        return self.answer.done()

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_result(error)

    def drop(self) -> None:
        """Nothing more of it is computed or kept."""
        self.answer.cancel()
        self.rows, self.found = (), []


class Batcher:
    """The line of requests before one model.

    Large requests are cut: each has its share of every batch, so that small ones do not wait for all of a large one.
    """

    def __init__(self, compute: Compute, limits: Limits, metrics: Metrics, rows: str = "texts") -> None:
        self.limits, self.metrics, self.plural = limits, metrics, rows
        self.rows = self.batches = self.waiting = 0
        self.failing = False
        """Whether the last batch failed."""
        self._compute = compute
        self._line: deque[_Request] = deque()
        self._current: list[_Request] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread: ModelThread | None = None
        self._abandoned: list[asyncio.Future[Outcome]] = []
        self._since: float | None = None
        self._closing = False
        self._logged = 0.0
        self._speed = float("inf")
        """Bytes a second of the last batches that were not tiny."""
        metrics.waiting_texts.set_function(lambda: self.waiting)

    def start(self) -> None:
        """Start to answer; ends of the task that nobody asked for are mended."""
        self._task = asyncio.get_running_loop().create_task(self._work(), name="automl-batcher")
        self._task.add_done_callback(self._ended)

    def close(self) -> None:
        """Take no more requests; those that wait are answered."""
        self._closing = True

    def end(self) -> None:
        """Answer what waits with an error, and end; a batch that is being computed is not waited for."""
        self._closing = True
        for request in (*self._line, *self._current):
            request.fail(TooBusyError("the server ends"))
        if self._task is not None:
            self._task.cancel()
        if self._thread is not None:
            self._thread.end()

    @property
    def trouble(self) -> str | None:
        """Why requests are not answered; None where they are."""
        if self._closing:
            return "the server ends"
        if self._task is None or self._task.done():
            return "nothing computes requests"
        if self._stuck >= self.limits.stuck_threads or (
            self._since is not None and time.monotonic() - self._since > self.limits.batch_seconds
        ):
            return "a batch does not end"
        return None

    @property
    def computing(self) -> bool:
        """Whether a batch was being computed at the end, or a thread was given up that still runs."""
        return self._since is not None or self._stuck > 0

    async def predict(self, rows: Sequence[Any]) -> list[bytes]:
        """The answers to `rows`, in their order; rows of a call that is cancelled are computed no more.

        Raises TooBusyError where too many wait, FailedError where the model fails on them.
        """
        if not rows:
            return []
        if self.trouble is not None:
            raise TooBusyError(f"{self.trouble}; try again later")
        most = self.limits.most_texts(len(rows) <= self.limits.small_texts)
        if self.waiting + len(rows) > most:
            raise TooBusyError(f"more than {most:,} {self.plural} would wait; try again later")
        request = _Request(rows, asyncio.get_running_loop().create_future())
        self.waiting += len(rows)
        self._line.append(request)
        self._wake.set()
        try:
            found = await request.answer
            if isinstance(found, Exception):
                raise found
            return found
        finally:
            self.waiting -= len(rows)
            request.drop()

    async def _work(self) -> None:
        while True:
            if not self._line:
                self._wake.clear()
                await self._wake.wait()
                await asyncio.sleep(self.limits.batch_wait)
            parts = self._next()
            if not parts:
                continue
            self._current = [request for request, _ in parts]
            outcome = await self._computed([row for _, rows in parts for row in rows])
            if not isinstance(outcome, Failed):
                self._give(parts, outcome)
            elif len(set(map(id, self._current))) == 1 or isinstance(outcome.error, _StuckError):
                self._failed(parts, outcome.error)
            else:  # one of them fails it: the others are answered
                for part in parts:
                    if not part[0].done:
                        alone = await self._computed(part[1])
                        if isinstance(alone, Failed):
                            self._failed([part], alone.error)
                        else:
                            self._give([part], alone)
            self._current = []
            # Requests that are not wholly answered go to the end of the line, in the order they were in.
            for request in dict.fromkeys(request for request, _ in parts):
                if not request.done and request.taken < len(request.rows):
                    self._line.append(request)

    def _next(self) -> list[tuple[_Request, Sequence[Any]]]:
        """The parts of the next batch: small requests whole, an equal share of each large one, of one at least."""
        parts: list[tuple[_Request, Sequence[Any]]] = []
        waiting = [request for request in self._line if not request.done]
        small = deque(request for request in waiting if len(request.rows) <= self.limits.small_texts)
        large = deque(request for request in waiting if len(request.rows) > self.limits.small_texts)
        rows, size = self.limits.batch_rows, self._most_bytes()
        for line in (small, large):
            first = True
            while line and ((rows > 0 and size > 0) or (first and line is large)):
                request = line.popleft()
                part = request.take(max(1, rows // (len(line) + 1)), max(1, size // (len(line) + 1)))
                parts.append((request, part))
                rows, size, first = rows - len(part), size - sum(map(len, part)), False
        self._line = small + large
        return parts

    def _most_bytes(self) -> int:
        """Of a batch, so that it does not take much longer than small requests can wait for it."""
        return int(min(max(self._speed * self.limits.batch_target, self.limits.least_batch), self.limits.batch_bytes))

    async def _computed(self, rows: Sequence[Any]) -> Outcome:
        """The model's answers, or how it failed; _StuckError, and another thread, where it takes too long."""
        if self._thread is None or not self._thread.alive:
            self._thread = ModelThread(self._compute)
        while self._stuck >= self.limits.stuck_threads:
            await asyncio.wait(self._abandoned, return_when=asyncio.FIRST_COMPLETED)
        self._since = started = time.monotonic()
        answer = self._thread.start(rows)
        await asyncio.wait([answer], timeout=self.limits.batch_seconds)
        self._since = None
        if answer.done():
            outcome = answer.result()
        else:
            self._thread.end()
            self._thread = None
            self._abandoned.append(answer)
            self.metrics.stuck_batches.inc()
            outcome = Failed(_StuckError(f"a batch took more than {self.limits.batch_seconds:g} s"))
        self.failing = isinstance(outcome, Failed)
        self.batches += 1
        self.metrics.batches.inc()
        self.metrics.batch_texts.observe(len(rows))
        self.metrics.batch_seconds.observe(time.monotonic() - started)
        if isinstance(outcome, Failed):
            self.metrics.failed_batches.inc()
            self.say(f"a batch of {len(rows):,} failed: {said(outcome.error)}")
        else:
            self.rows += len(rows)
            if (size := sum(map(len, rows))) >= self.limits.least_batch:
                speed = size / max(time.monotonic() - started, 1e-6)
                self._speed = speed if self._speed == float("inf") else 0.7 * self._speed + 0.3 * speed
        return outcome

    @property
    def _stuck(self) -> int:
        """Threads that were given up and still compute."""
        self._abandoned = [answer for answer in self._abandoned if not answer.done()]
        return len(self._abandoned)

    @staticmethod
    def _give(parts: Sequence[tuple[_Request, Sequence[Any]]], found: list[bytes]) -> None:
        for request, rows in parts:
            mine, found = found[: len(rows)], found[len(rows) :]
            if not request.done:
                request.found += mine
                if len(request.found) == len(request.rows):
                    request.answer.set_result(request.found)

    @staticmethod
    def _failed(parts: Sequence[tuple[_Request, Sequence[Any]]], error: BaseException) -> None:
        for request, _ in parts:
            request.fail(FailedError(said(error)))

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The task ended, though it never should: what it worked on failed, the rest is computed by another."""
        if self._closing:
            return
        error = None if task.cancelled() else task.exception()
        self.say(f"the batcher ended and is started again: {'cancelled' if error is None else said(error)}")
        self._since = None
        for request in self._current:
            request.fail(FailedError("the batcher ended"))
        self._current = []
        self.start()
        if self._line:
            self._wake.set()

    def say(self, line: str) -> None:
        """One line for the operator, at most one a second: a client cannot fill a disk with them."""
        if time.monotonic() - self._logged > LOG_SECONDS:
            self._logged = time.monotonic()
            log.error("automl: %s", line)


def said(error: BaseException) -> str:
    """The class of an error and what it says, in one line; control characters are escaped: they may be a client's."""
    try:
        text = str(error)[:300]
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text!r}"
