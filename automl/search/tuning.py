"""Ray Tune runs what a book hands out, always in a fresh `Tuner`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ray import tune

from automl.data.private_folder import private_folder
from automl.search.budget import Stop
from automl.search.memory_watch import MemoryWatch
from automl.search.ray_session import PENDING
from automl.search.resources import Share, packed
from automl.search.trainable import TrialWorker
from automl.search.tune_adapters import Assign, Book, BookScheduler, BookSearcher, Silent


def run_trials(
    book: Book,
    assign: Assign,
    on_close: Callable[[int], None],
    stop: Stop,
    share: Share,
    worker: type[TrialWorker],
    memory: MemoryWatch,
) -> None:
    """Give the book's trials to Ray Tune until it has no more or `stop` ends it."""
    scheduler = BookScheduler(book, stop.request, on_close, memory.reason)
    if share.measure_first:  # one trial for each GPU tells how many of them fit
        first = BookSearcher(book, assign, stop.request, share.concurrent)
        first.limit = share.concurrent
        _fit(first, scheduler, stop, share, worker)
        share = packed(share, scheduler.gpu_memory)
    _fit(BookSearcher(book, assign, stop.request, share.concurrent), scheduler, stop, share, worker)


def _fit(searcher: BookSearcher, scheduler: BookScheduler, stop: Stop, share: Share, worker: type[TrialWorker]) -> None:
    """One run of Ray Tune, always a fresh one."""
    if searcher.book.remaining() == 0 or stop.stop_all():
        return
    stop.gpus_in_use = lambda: share.gpus and share.gpus * share.workers * scheduler.at_work(share.workers)
    scheduler.begin(searcher.max_concurrent)
    os.environ[PENDING] = str(searcher.max_concurrent)  # else workers start one after the other
    with private_folder() as scratch:
        tune.Tuner(
            _trainable(share, worker),
            tune_config=tune.TuneConfig(search_alg=searcher, scheduler=scheduler, num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(
                name="search",
                storage_path=str(scratch),
                verbose=0,
                callbacks=[Silent()],
                stop=stop,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        ).fit()


def _trainable(share: Share, worker: type[TrialWorker]) -> Any:
    """What Ray Tune runs, with the resources of one trial."""
    if share.workers == 1:
        return tune.with_resources(worker, share.request())
    from automl.search.data_parallel import data_parallel_trial

    return data_parallel_trial()
