"""Ctrl-C and SIGTERM, answered by what is at work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def on_interrupt(answer: Callable[[], None]) -> Iterator[None]:
    """For the time of the block Ctrl-C and SIGTERM call `answer`, in the main thread; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        answer()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_at_once() -> None:
    """What a person expects of Ctrl-C where whatever is written is written whole."""
    raise KeyboardInterrupt
