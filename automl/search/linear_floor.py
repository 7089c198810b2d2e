"""The linear floor, trained beside the trials."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from automl.data import Prepared
from automl.search.budget import Stop
from automl.search.manifest import update_manifest
from automl.search.reasons import first_line
from automl.space import SearchSpec
from automl.training.floor import fit_floor
from automl.training.run_directory import RunDirectory, write_json

FLOOR_GRACE_SECONDS = 5.0  # to wait for it where the budget of time is used


def start_floor(spec: SearchSpec, run: RunDirectory, prepared: Prepared, data: Mapping[str, Any]) -> Any:
    """Train the linear floor as a task beside the trials; it writes its figures, and itself if need be.

    It holds no core, or one worker less would start with the search; it takes what the trials leave. Where nodes share
    no file system it runs on this one, which has the data and the run's folder.
    """
    path = run.floor.resolve()
    averaged = spec.search.ensemble is not None and spec.search.ensemble.linear
    kept = run.linear.resolve() if averaged or spec.search.pack_linear else None
    metric, maximize = spec.search.metric, spec.search.mode == "max"

    def task() -> None:
        os.nice(10)
        linear, figures = fit_floor(prepared, data.get("clean"), metric=metric, maximize=maximize)
        if kept is not None:
            linear.save(kept)
        write_json(path, figures)

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False) if run.url else "DEFAULT"
    # `max_calls`: no trial gets its process after it.
    return ray.remote(num_cpus=0, max_calls=1, scheduling_strategy=here)(task).remote()


def wait_for_floor(run: RunDirectory, floor: Any, stop: Stop) -> None:
    """Wait for the linear floor, but not long where the budget of time is used; a run goes on without it."""
    if floor is None or stop.search_ended is None:
        return
    try:
        ray.get(floor, timeout=FLOOR_GRACE_SECONDS if stop.search_ended else None)
    except ray.exceptions.GetTimeoutError:
        update_manifest(run, floor_error="the time budget ended before it was trained")
    except ray.exceptions.RayTaskError as error:
        update_manifest(run, floor_error=first_line(error.cause))
    except ray.exceptions.WorkerCrashedError as error:
        update_manifest(run, floor_error=first_line(error))
