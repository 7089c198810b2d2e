"""Preparing large data on all nodes of a cluster: Ray Data maps its parts, which lie in the shared cache meanwhile."""

from __future__ import annotations

import logging
import pickle
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ray.exceptions import RayError

from automl.data.parts import Part
from automl.data.store import Store
from automl.data.workers import MANY_ROWS, Map, Workers, workers
from automl.search.ray_session import nodes_that_work
from automl.search.reasons import first_line
from automl.space import UserError

R = TypeVar("R")

RETRIES = 3  # of a part whose worker or node dies


def choose_workers(address: str | None, shared: str | None) -> Workers:
    """Who prepares data: the nodes of the cluster at `address`, or this machine's processes.

    It is the cluster where the data is large, where it has several nodes, and where they share a cache by a URL; one
    machine's own processes are faster than Ray Data there (docs/decisions.md).
    """
    return workers if address is None or shared is None else partial(_cluster_workers, Store(f"{shared}/parts"))


@contextmanager
def _cluster_workers(store: Store, rows: int) -> Iterator[Map]:
    if rows >= MANY_ROWS and nodes_that_work() > 1:
        yield partial(_map_from_store, store)
    else:
        with workers(rows) as apply:
            yield apply


def map_by_ray_data(work: Callable[[Part], R], parts: Iterable[Part]) -> Iterator[R]:
    """The results of `work` for each part, in order, worked out by the Ray that this process is connected to.

    Every node must reach the places of the parts. A part whose worker or node dies is worked on again. Raises what
    `work` raises, and UserError where Ray fails.
    """
    import ray.data  # seconds

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    items = [asdict(part) for part in parts]
    dataset = ray.data.from_items(items, override_num_blocks=len(items))
    with warnings.catch_warnings(action="ignore"):  # Ray 2.60 has no other way yet to end after so many deaths
        mapped = dataset.map(partial(_outcome, work), max_retries=RETRIES)
    try:
        for row in mapped.iter_rows():
            error, result = pickle.loads(row["outcome"])
            if error is not None:
                raise error
            yield result
    except RayError as error:
        raise UserError(f"the cluster could not prepare the data: {first_line(error)}") from error


def _map_from_store(store: Store, work: Callable[[Part], R], parts: Iterable[Part]) -> Iterator[R]:
    """The same for parts on this machine, whose files lie in `store` for that time."""
    parts = list(parts)
    names = {place: f"{uuid.uuid4().hex}-{Path(place).name}" for place in {part.place for part in parts}}
    try:
        for place, name in names.items():
            store.put(Path(place), name)
        yield from map_by_ray_data(work, [Part(f"{store.url}/{names[part.place]}", part.number) for part in parts])
    finally:
        for name in names.values():
            store.remove(name)


def _outcome(work: Callable[[Part], Any], item: dict[str, Any]) -> dict[str, Any]:
    """What `work` raises, which Ray Data would bring wrapped in its own words, and what it gives."""
    try:
        return {"outcome": pickle.dumps((None, work(Part(**item))))}
    except Exception as error:
        return {"outcome": pickle.dumps((error, None))}
