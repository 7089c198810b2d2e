"""What a person waits for: past one second a line on stderr that turns, on a terminal alone, gone when it is done."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TextIO

from rich.cells import set_cell_size

from automl.space.printable import hear_output, printable

FIRST_SECONDS, EVERY_SECONDS = 1.0, 0.1
FRAMES, PLAIN_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\"
CLEARED = "\r\x1b[K"
# Words of a command whose reader is a program, or wants no progress.
UNSEEN = frozenset({"--json", "json", "--format=json", "--quiet"})

_spinner: _Spinner | None = None


@contextmanager
def spinning(arguments: Sequence[str]) -> Iterator[None]:
    """For the time of the block, a command with these arguments shows what it is `waiting` for, where a person sees it.

    Nothing is shown without a terminal, or where the output goes into a pipe, whose other end may draw on it.
    """
    global _spinner
    if UNSEEN & set(arguments) or not _is_seen(sys.stderr, sys.stdout):
        yield
        return
    _spinner = spinner = _Spinner(sys.stderr)
    try:
        with hear_output(spinner.make_room):
            yield
    finally:
        _spinner = None
        spinner.end()


@contextmanager
def waiting(doing: str) -> Iterator[None]:
    """Say what is being done, as "reading the data", while the block takes longer than a second.

    Within another such block it is the inner one that is named. What is printed meanwhile stands alone in its lines.
    """
    spinner = _spinner
    if spinner is None:
        yield
        return
    entry = [doing]  # one of its own: other threads wait for something, too
    spinner.begin(entry)
    try:
        yield
    finally:
        spinner.finish(entry)


class _Spinner:
    """The line, drawn by a thread of its own; the cursor is left alone, as a process may be killed at any time."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO = getattr(stream, "rich_proxied_file", stream)
        self._lock = threading.RLock()
        self._entries: list[list[str]] = []
        self._due, self._drawn, self._frame = float("inf"), False, 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        unicode = (getattr(stream, "encoding", None) or "").lower().startswith("utf")
        self._frames = FRAMES if unicode else PLAIN_FRAMES

    def begin(self, entry: list[str]) -> None:
        with self._lock:
            if not self._entries:
                self._due = time.monotonic() + FIRST_SECONDS
            self._entries.append(entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._draw, name="spinner", daemon=True)
                self._thread.start()

    def finish(self, entry: list[str]) -> None:
        with self._lock:
            self._entries = [each for each in self._entries if each is not entry]
            if not self._entries:
                self._clear()

    def make_room(self, text: str) -> None:
        """Clear the line before `text` is written; it comes back after a second in which nothing is."""
        with self._lock:
            self._clear()
            self._due = time.monotonic() + FIRST_SECONDS if text.endswith("\n") else float("inf")

    def end(self) -> None:
        self._over.set()
        with self._lock:
            self._entries = []
            self._clear()

    def _draw(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            with self._lock, suppress(OSError, ValueError):  # the terminal may be gone
                if self._entries and time.monotonic() >= self._due:
                    self._frame += 1
                    frame = self._frames[self._frame % len(self._frames)]
                    line = f"{frame} {printable(self._entries[-1][0])} …"
                    width = os.get_terminal_size(self._stream.fileno()).columns or 80
                    shown = line if len(line) < width // 2 else set_cell_size(line, width - 1).rstrip()
                    self._stream.write(f"{CLEARED}{shown}")
                    self._stream.flush()
                    self._drawn = True

    def _clear(self) -> None:
        if self._drawn:
            self._drawn = False
            with suppress(OSError, ValueError):
                self._stream.write(CLEARED)
                self._stream.flush()


def _is_seen(stream: TextIO, output: TextIO) -> bool:
    try:
        terminal = stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
        return terminal and not stat.S_ISFIFO(os.fstat(output.fileno()).st_mode)
    except (OSError, ValueError, AttributeError):  # no file at all, as in a test or a notebook
        return False
