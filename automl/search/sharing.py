"""How many trials share a GPU: as many as fit of the largest that has run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl.search.resources import Share, packed, whole


def is_part(gpus: float) -> bool:
    """Whether a trial with so many GPUs has neighbours on its own."""
    return 0 < gpus < 1


class Sharing:
    """What trials get, by what those before them took.

    With `gpus: auto` each has a whole GPU until one has told how much of its memory it takes. Then as many share one
    as fit of the largest so far: the share grows where a later trial takes more. A share that the file names stays.
    """

    def __init__(self, asked: Share) -> None:
        self.asked = asked
        self._own: float | None = None  # the largest share of a GPU's memory that a trial had for itself
        self._around = 0.0  # in use beside that: what CUDA needs for each process, and what others have

    def share(self) -> Share:
        """What the next trials get."""
        if not self.asked.measure_first or self._own is None:
            return self.asked
        return packed(self.asked, self._own + self._around)

    def whole(self) -> Share:
        """What trials get that have failed beside others."""
        return whole(self.asked)

    def report(self, result: Mapping[str, Any], gpus: float) -> None:
        """Take the figures of an epoch of a trial with so many GPUs; one that has none, or has failed, tells nothing.

        Beside neighbours `gpu_memory` is also theirs, so there only what the trial itself had counts.
        """
        if "gpu_memory" not in result:
            return
        own = float(result["gpu_reserved"])
        self._own = max(own, self._own or 0.0)
        if not is_part(gpus):
            self._around = max(self._around, float(result["gpu_memory"]) - own)
