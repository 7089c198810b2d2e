"""Ray Tune runs what a book hands out, always in a fresh `Tuner`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from ray import tune

from automl.data.private_folder import private_folder
from automl.search.budget import Stop
from automl.search.memory_watch import MemoryWatch
from automl.search.ray_session import PENDING
from automl.search.resources import Share
from automl.search.sharing import Sharing
from automl.search.standing import Proposal
from automl.search.trainable import Assignment, TrialWorker
from automl.search.tune_adapters import Assign, Book, BookScheduler, BookSearcher, Silent
from automl.search.waiting import lacking


def run_trials(
    book: Book,
    assign: Assign,
    on_close: Callable[[int], None],
    stop: Stop,
    sharing: Sharing,
    worker: type[TrialWorker],
    memory: MemoryWatch,
) -> None:
    """Give the book's trials to Ray Tune until it has no more or `stop` ends it.

    In one run of Ray Tune all trials have the same share of the machines, which ends where trials are to have another.
    """
    scheduler = BookScheduler(book, stop.request, on_close, memory.reason, sharing.report)
    over = True
    while over and book.remaining() > 0 and not stop.stop_all():
        alone = book.waiting_alone() > 0
        share = sharing.whole() if alone else sharing.share()
        is_over = partial(_is_over, book, sharing, None if alone else share)
        assign_share = partial(_assign, assign, share)
        searcher = BookSearcher(book, assign_share, stop.request, share.concurrent, is_over, alone=alone)
        _fit(searcher, scheduler, stop, share, worker)
        over = is_over()


def _is_over(book: Book, sharing: Sharing, share: Share | None) -> bool:
    """Whether trials are to have another share than `share`, or than the whole GPU of those that run alone."""
    if share is None:
        return book.waiting_alone() == 0
    return book.waiting_alone() > 0 or sharing.share() != share


def _assign(assign: Assign, share: Share, proposal: Proposal) -> Assignment:
    return replace(assign(proposal), worker_resources=share.worker_resources())


def _fit(searcher: BookSearcher, scheduler: BookScheduler, stop: Stop, share: Share, worker: type[TrialWorker]) -> None:
    """One run of Ray Tune, always a fresh one."""
    stop.gpus_in_use = lambda: share.gpus and share.gpus * share.workers * scheduler.at_work(share.workers)
    scheduler.begin(searcher.max_concurrent)
    os.environ[PENDING] = str(searcher.max_concurrent)  # else workers start one after the other
    with private_folder() as scratch, _seen(stop, scheduler, share):
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


@contextmanager
def _seen(stop: Stop, scheduler: BookScheduler, share: Share) -> Iterator[None]:
    """For the time of the block `stop` sees which trials wait for resources."""
    stop.places, stop.lacks = lambda: scheduler.places(share.workers), partial(lacking, share)
    try:
        yield
    finally:
        stop.places = None
        stop.waiting.end()


def _trainable(share: Share, worker: type[TrialWorker]) -> Any:
    """What Ray Tune runs, with the resources of one trial."""
    if share.workers == 1:
        return tune.with_resources(worker, share.request())
    from automl.search.data_parallel import data_parallel_trial

    return data_parallel_trial()
