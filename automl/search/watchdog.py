"""A trial that makes no progress ends its process, and leaves behind where it was stuck."""

from __future__ import annotations

import faulthandler
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from automl.data.store import Store
from automl.training.run_directory import TrialDirectory

PREPARING = 10.0  # so much more time without a sign of progress while data is prepared, which gives none

PUBLISH_SECONDS = 60.0  # for the stacks to be copied to where others see them

_FRAME = re.compile(r'  File "(.*)", line (\d+) in (.*)')
_TIMEOUT = re.compile(r"Timeout \((\d+):(\d+):(\d+(?:\.\d+)?)\)!")


@contextmanager
def watch(
    path: Path, timeout: float | None, publish: Callable[[Path], None] | None = None
) -> Iterator[Callable[[float], None]]:
    """In the block, this process ends once `timeout` seconds have passed without a call of what is given.

    The call takes a factor: the next one may be so many times later. The stacks of all threads are then written to
    `path`, which is there during the block only. The clock is a thread of C, so neither a loop in native code nor a
    held interpreter lock stops it. Without a timeout nothing is watched.
    Where others do not see `path`, a thread of Python's gives it to `publish` first, if it can run.
    """
    if timeout is None:
        yield lambda factor: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        grace = 0.0 if publish is None else PUBLISH_SECONDS
        deadline, over = [math.inf, timeout], threading.Event()

        def alive(factor: float) -> None:
            faulthandler.dump_traceback_later(timeout * factor + grace, exit=True, file=file)
            deadline[:] = time.monotonic() + timeout * factor, timeout * factor

        def end_late() -> None:
            while not over.wait(min(1.0, timeout / 4)):
                if time.monotonic() >= deadline[0] and publish is not None:
                    minutes, seconds = divmod(deadline[1], 60)
                    file.write(f"Timeout ({minutes // 60:.0f}:{minutes % 60:02.0f}:{seconds:09.6f})!\n")
                    file.flush()
                    faulthandler.dump_traceback(file=file, all_threads=True)
                    with suppress(Exception):  # its place on this machine is better than none
                        publish(path)
                    os._exit(1)

        if publish is not None:
            threading.Thread(target=end_late, name="watchdog", daemon=True).start()
        try:
            file.write(f"thread {threading.get_ident():#x}\n")
            file.flush()
            alive(1.0)
            yield alive
        finally:
            over.set()
            faulthandler.cancel_dump_traceback_later()
            path.unlink(missing_ok=True)


def stall_of(folder: TrialDirectory, path: Path) -> str | None:
    """The same of a note in a trial's folder, which may lie in the folder's store only."""
    if folder.url is not None and not path.exists():
        with suppress(OSError):
            Store(folder.url).get(path.name, path)
    return stall_reason(path)


def stall_reason(path: Path) -> str | None:
    """`no progress for 900 s, in <function> (<file>:<line>)` as `watch` left it at `path`; None where it did not."""
    if not path.exists():
        return None
    header, _, stacks = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    found = _TIMEOUT.search(stacks)
    if found is None:
        return None
    hours, minutes, seconds = map(float, found.groups())
    watched = int(header.split()[1], 16)
    place = ""
    for stack in re.split(r"^(?=(?:Thread|Current thread) 0x)", stacks, flags=re.MULTILINE):
        thread, frame = re.search(r"hread (0x\w+)", stack), _FRAME.search(stack)
        if thread and frame and int(thread[1], 16) == watched:
            file = frame[1].rpartition("site-packages/")[2]
            place = f", in {frame[3]} ({file}:{frame[2]})"
    return f"no progress for {hours * 3600 + minutes * 60 + seconds:g} s{place}"
