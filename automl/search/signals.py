"""Ctrl-C and SIGTERM, answered by what is at work."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

AGAIN_SECONDS = 0.05


@contextmanager
def on_interrupt(answer: Callable[[], None]) -> Iterator[None]:
    """For the time of the block Ctrl-C and SIGTERM call `answer`, in the main thread; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        answer()

    def not_lost(failed: sys.UnraisableHookArgs) -> None:
        """Python drops what is raised while it calls a destructor, such as one of Ray: the signal comes again."""
        if failed.exc_type is KeyboardInterrupt:
            again.append(threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGINT)))
            again[-1].start()
        else:
            hook_before(failed)

    again: list[threading.Timer] = []
    hook_before, sys.unraisablehook = sys.unraisablehook, not_lost
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for timer in again:  # a signal after the block would be answered by somebody else
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook_before


def end_at_once() -> None:
    """What a person expects of Ctrl-C where whatever is written is written whole."""
    raise KeyboardInterrupt
