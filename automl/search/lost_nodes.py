"""Nodes of a cluster that are lost while a search runs, told in a sentence each."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

DRAINED_AS_IDLE = 4  # `DeathReason` of a node that the autoscaler lets go: `NodeDeathInfo` in Ray's common.proto
PAGES = ("Raylet is terminated", "has been marked dead because")  # what Ray prints of it, with its log, more than once
SAME_SECONDS = 60.0  # so long after a node was told to be lost such a page is taken to be of it
GOES_ON = "trials that ran there go on where there is room, from their last checkpoints"


class Losses:
    """What is known of lost nodes; `tell` hears a sentence for each."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._alive: dict[str, Mapping[str, Any]] = {}
        self._heard = False
        self._told = -math.inf

    def look(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        """Take all nodes as `ray.nodes` has them. Those that the autoscaler lets go as they are idle are not lost."""
        for node in nodes:
            before = self._alive.get(node["NodeID"])
            if before and not node["Alive"] and node.get("DeathReason") != DRAINED_AS_IDLE:
                self._heard, self._told = False, time.monotonic()
                self._tell(f"the node {node['NodeManagerAddress']} was lost{_with(before)}; {GOES_ON}")
        self._alive = {node["NodeID"]: node for node in nodes if node["Alive"]}

    def hear(self) -> None:
        """Ray says that some node's process ended, some time before it counts the node as dead."""
        self._heard = time.monotonic() - self._told > SAME_SECONDS

    def end(self) -> None:
        """Tell of a node of which Ray has not said more until now."""
        if self._heard:
            self._heard = False
            self._tell(f"a node was lost; {GOES_ON}")


class RayOutput(io.TextIOBase):
    """What Ray prints, but for what it says of a lost node, of which `losses` hears instead."""

    def __init__(self, stream: TextIO, losses: Losses | None) -> None:
        self._stream = stream
        self._losses = losses
        self._dropped = False

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Write to the stream; `print` writes the end of a line by itself."""
        if self._losses is not None and any(words in text for words in PAGES):
            self._losses.hear()
            self._dropped = True
        elif self._dropped and text == "\n":
            self._dropped = False
        else:
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """That of the stream."""
        return self._stream.fileno()


def _with(node: Mapping[str, Any]) -> str:
    """What a node had; Ray does not say so of a dead one."""
    there = {name: node.get("Resources", {}).get(name, 0) for name in ("CPU", "GPU")}
    words = [f"{amount:g} {name}{'s' if amount != 1 else ''}" for name, amount in there.items() if amount]
    return f", with {' and '.join(words)}" if words else ""
