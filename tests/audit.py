"""Connections, programs and written files of a block of code, as Python's audit events report them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_listeners: list[tuple[list[str], Sequence[Path]]] = []


@contextmanager
def audited(allowed: Sequence[Path]) -> Iterator[list[str]]:
    """Gives a list of what the block does and should not: it connects, starts a program, or writes elsewhere.

    Files may be written in the `allowed` folders, in /dev/null and in /proc. What a library writes in C is not seen.
    """
    if not _listeners:
        sys.addaudithook(_hear)
    offences: list[str] = []
    _listeners.append((offences, [path.resolve() for path in allowed]))
    try:
        yield offences
    finally:
        _listeners[-1] = ([], [Path("/")])  # a hook cannot be removed, so this listener ignores all


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _listeners:
        return
    offences, allowed = _listeners[-1]
    if allowed == [Path("/")]:
        return
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen", "os.system", "os.exec"):
        offences.append(f"{event} {arguments[-1] if event == 'socket.connect' else arguments[0]!r}")
    elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike) and arguments[2] & WRITING:
        _judge(event, arguments[0], offences, allowed)
    elif event in CHANGES:
        paths = 2 if event in ("os.rename", "os.link") else 1
        folders = [each for each in arguments[paths:] if isinstance(each, int)] if event != "os.chmod" else []
        for place, path in enumerate(arguments[:paths]):
            folder = folders[min(place, len(folders) - 1)] if folders and event != "os.mkdir" else -1
            held = Path(f"/proc/self/fd/{folder}")
            known = folder >= 0 and held.exists()
            _judge(event, held.readlink() / os.fsdecode(path) if known else path, offences, allowed)


def _judge(event: str, path: Any, offences: list[str], allowed: Sequence[Path]) -> None:
    if isinstance(path, int):
        return
    where = Path(os.fsdecode(path)).absolute()
    real = where.parent.resolve() / where.name if event != "open" else where.resolve()
    if not any(real.is_relative_to(each) for each in allowed) and not str(real).startswith(("/dev/null", "/proc/")):
        offences.append(f"{event} {where}")
