"""How workers learn that the search is to end: a file beside the run, and where it has one, in its store."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from automl.data.store import Store

LOOK_SECONDS = 2.0  # between two looks into a store

NAME = ".stop"


@dataclass
class StopFile:
    """The stop file of a run whose folder is `folder` here and, where workers do not share that, `url` in a store."""

    folder: Path
    url: str | None
    may_write: Callable[[], bool] = lambda: True
    """Whether the store may be written: by the run's driver, while it is that."""
    _looked: float = field(default=float("-inf"), init=False)

    def set(self) -> None:
        """Ask all workers to end. On a full disk they end with the session instead."""
        with suppress(OSError):
            (self.folder / NAME).touch()
            if self.url and self.may_write():
                Store(self.url).put(self.folder / NAME, NAME)

    def clear(self) -> None:
        """Ask no more."""
        (self.folder / NAME).unlink(missing_ok=True)
        if self.url and self.may_write():
            Store(self.url).remove(NAME)

    def is_set(self) -> bool:
        """Whether workers are to end; cheap enough to ask after every batch."""
        if (self.folder / NAME).exists():
            return True
        now = time.monotonic()
        if self.url is None or now - self._looked < LOOK_SECONDS:
            return False
        self._looked = now
        return Store(self.url).has(NAME)
