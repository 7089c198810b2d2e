"""Work on parts of a large data set by processes of their own, results in order; what is small is done at once."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

import loky
from loky.process_executor import TerminatedWorkerError

from automl.data.machine import cpu_count
from automl.data.parts import Part
from automl.space import UserError

MANY_ROWS = 100_000  # fewer take less time than processes take to start
AHEAD = 2  # parts in work or waiting, for each process: bounds what is in memory
LOOK_SECONDS = 1.0  # a process looks so often whether the one that started it is still there

R = TypeVar("R")


class Map(Protocol):
    """Like the builtin `map`: the results of a function for each part, in order."""

    def __call__(self, work: Callable[[Part], R], parts: Iterable[Part], /) -> Iterator[R]:
        """Functions and results are pickled where other processes do the work."""


Workers = Callable[[int], AbstractContextManager[Map]]
"""What gives a `Map` for parts of so many rows, for the time of a block."""


@contextmanager
def workers(rows: int) -> Iterator[Map]:
    """What applies functions to parts of `rows` rows: as many processes as there are cores, or this one.

    The processes (loky's, which do not run the main module again) end with the block. Raises UserError where one of
    them is killed.
    """
    processes = cpu_count()
    if rows < MANY_ROWS or processes == 1:
        yield map
        return
    environment = {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    pool = loky.ProcessPoolExecutor(processes, env=environment, initializer=_end_with_parent)
    try:
        yield partial(_through, pool, processes * AHEAD)
    except TerminatedWorkerError as error:
        raise UserError("a process that prepared data was killed, most likely because memory ran out") from error
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def _through(pool: Any, most: int, work: Callable[[Part], R], parts: Iterable[Part]) -> Iterator[R]:
    waiting: deque[Any] = deque()
    for part in parts:
        waiting.append(pool.submit(work, part))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _end_with_parent() -> None:
    """End this process when the one that started it has been killed: nobody else would tell it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
