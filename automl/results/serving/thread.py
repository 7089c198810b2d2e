"""The thread that computes batches, apart from the event loop that talks to clients."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Compute = Callable[[Sequence[Any]], list[bytes]]


@dataclass(frozen=True)
class Failed:
    """What a computation raised, of any class: handed over as a value, as some classes end an event loop."""

    error: BaseException


Outcome = list[bytes] | Failed


@dataclass(frozen=True)
class _Job:
    rows: Sequence[Any]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Outcome]


class ModelThread:
    """A daemon thread, so that a batch that never ends does not keep the process from ending."""

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="automl-model", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still takes jobs."""
        return self._thread.is_alive()

    def start(self, rows: Sequence[Any]) -> asyncio.Future[Outcome]:
        """Compute `rows` after what was started before; the future never raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outcome] = loop.create_future()
        self._jobs.put(_Job(rows, loop, answer))
        return answer

    def end(self) -> None:
        """Take no more jobs; not waited for."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome: Outcome
            try:
                outcome = self._compute(job.rows)
                if len(outcome) != len(job.rows):
                    raise ValueError(f"the model answered {len(outcome)} rows of {len(job.rows)}")
            except BaseException as error:  # SystemExit, a panic of Rust, ...: the next job is computed all the same
                outcome = Failed(error)
            with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
                job.loop.call_soon_threadsafe(_settle, job.answer, outcome)
            del job, outcome


def _settle(answer: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not answer.done():
        answer.set_result(outcome)
