"""What `run`, `check`, `data` and `prepare` refuse before anything is trained: one way through it for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl.data import prepare
from automl.data.column_faults import require_columns
from automl.data.prepared import Prepared
from automl.data.remote import cache_directory
from automl.data.workers import Workers, workers
from automl.places import shared_cache
from automl.space import SearchSpec, sample_configs
from automl.training.beforehand import check_files, require_trackers


def require_all(spec: SearchSpec) -> None:
    """Raise UserError where a file, run, package or column that a space names is missing or not right.

    Of columns and data files it is DataFaultsError, with all that was found.
    """
    check_files(spec)
    require_trackers(spec)
    require_columns(spec.data.model_dump())


def prepare_section(spec: SearchSpec, data: Mapping[str, Any], by: Workers = workers) -> Prepared:
    """Prepare the `data` section of a configuration of `spec` in this machine's cache, or find it there."""
    return prepare(data, seed=spec.search.seed, cache=cache_directory(), shared=shared_cache(), workers=by)


def first_config(spec: SearchSpec) -> dict[str, Any]:
    """One configuration of the space: its data settings are prepared before the search and feed the linear floor."""
    return (sample_configs(spec, 1, seed=0) or sample_configs(spec, 1, seed=0, feasible=False))[0]
