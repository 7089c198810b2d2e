"""A trial that takes the memory of the machine ends alone, before the kernel ends what it likes.

Ray's own monitor would end the whole experiment (Ray 2.60), so it is off.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

from automl.data.machine import Memory, memory, out_of_memory_kills
from automl.space.printable import printable

FULL = 0.95  # of the memory that there is
OURS = 0.1  # of it: where trials have less together, somebody else has it
LOOK_SECONDS = 0.1
RECOVERY_SECONDS = 2.0  # in which the memory of a process that was ended comes back
UNCLAIMED_SECONDS = 60.0
GIB = 2**30

_PROCESS = re.compile(r"\bpid[:=] ?(\d+)")


class MemoryWatch:
    """Ends the largest of the processes of trials where memory runs out, and remembers why."""

    def __init__(self, measure: Callable[[], Memory] | None = None) -> None:
        self._measure = measure or memory
        self._ended: dict[int, tuple[float, str]] = {}  # by process, when and why
        self._kills = out_of_memory_kills()

    def keep_looking(self, over: threading.Event) -> None:
        """Look until it is over."""
        pause = LOOK_SECONDS
        while not over.wait(pause):
            try:
                pause = RECOVERY_SECONDS if self.look() else LOOK_SECONDS
            except Exception as error:  # a look that fails is not the last one
                pause = RECOVERY_SECONDS
                logging.getLogger(__name__).warning("memory was not looked at: %s", printable(error))

    def look(self) -> bool:
        """End a process if that has to be; whether it was."""
        now = self._measure()
        if now.share < FULL:
            return False
        sizes = _trial_processes()
        if not sizes or sum(sizes.values()) < OURS * now.limit:
            return False
        process = max(sizes, key=lambda each: sizes[each])
        why = f"out of memory: its process had {sizes[process] / GIB:.1f} GiB when {now.used / GIB:.1f} GiB"
        self._ended[process.pid] = time.monotonic(), f"{why} of {now.limit / GIB:.1f} GiB were in use"
        with suppress(psutil.Error):
            process.kill()
        return True

    def reason(self, error: BaseException | None) -> str | None:
        """Why a worker died, where it was for its memory; `error` is what Ray says of it. Each is told once."""
        named = [int(found) for found in _PROCESS.findall(str(error))]
        kills, before = out_of_memory_kills(), self._kills
        self._kills = kills
        for process in named:
            if process in self._ended:
                return self._ended.pop(process)[1]
        if not named:  # one of several workers of a trial, whose error does not say which
            for process, (moment, why) in list(self._ended.items()):
                if time.monotonic() - moment < UNCLAIMED_SECONDS:
                    del self._ended[process]
                    return why
        return "out of memory: the kernel ended its process" if kills > before else None


@contextmanager
def watch_memory(*, here: bool) -> Iterator[MemoryWatch]:
    """Watch for the time of the block, where trials run `here`; a cluster's nodes are watched by their own Ray."""
    watch, over = MemoryWatch(), threading.Event()
    thread = threading.Thread(target=watch.keep_looking, args=(over,), name="memory", daemon=True)
    if here:
        thread.start()
    try:
        yield watch
    finally:
        over.set()
        if here:
            thread.join()


def _trial_processes() -> dict[psutil.Process, int]:
    """The processes of our Ray that are at work, and the bytes that each has for itself."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            title = " ".join(process.cmdline())
            if title.startswith("ray::") and not title.startswith(("ray::IDLE", "ray::Dashboard", "ray::RuntimeEnv")):
                size = process.memory_info()
                found[process] = size.rss - getattr(size, "shared", 0)
    return found
