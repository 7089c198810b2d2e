"""Leaderboard and report written again as a search goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from automl.space import UserError
from automl.space.printable import say
from automl.training.run_directory import RunDirectory

FIRST_SECONDS = 30.0
MOST_OF_THE_TIME = 0.02  # that writing may take of the driver's


@contextmanager
def kept_up_to_date(run: RunDirectory) -> Iterator[None]:
    """Write them every half a minute, and less often where that takes long, for the time of the block.

    What cannot be written now, as before the first trial, is written the next time.
    """
    over = threading.Event()
    thread = threading.Thread(target=_keep, args=(run, over), name="report", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _keep(run: RunDirectory, over: threading.Event) -> None:
    from automl.results import summarise

    pause, said = FIRST_SECONDS, set[type[Exception]]()
    while not over.wait(pause):
        began = time.monotonic()
        try:
            summarise(run)
        except (OSError, UserError):
            pass
        except Exception as error:  # a fault of ours or a library's costs one report, and is said once
            if type(error) not in said:
                said.add(type(error))
                say(f"the report of the running search is not up to date: {type(error).__name__}: {error}")
        pause = max(FIRST_SECONDS, (time.monotonic() - began) / MOST_OF_THE_TIME)
