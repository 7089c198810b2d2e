"""manifest.json: what was asked, on what it ran, and how much of the budget is used."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from automl.data import Prepared
from automl.data.machine import memory_limit
from automl.models.family_source import family_digests
from automl.search.resources import Capacity
from automl.space import SearchSpec
from automl.training.database import Database
from automl.training.identity import new_run_id
from automl.training.named_files import digest_named_files
from automl.training.run_directory import RunDirectory, read_json, write_json

SCHEMA_VERSION = 1
PACKAGES = ("torch", "ray", "optuna", "numpy", "pyarrow", "tokenizers", "scikit-learn")


def create_manifest(
    run: RunDirectory,
    spec: SearchSpec,
    prepared: Prepared,
    capacity: Capacity,
    *,
    space_file: Path,
    space_hash: str,
    overrides: Sequence[str],
    database: Database | None = None,
    owner: str = "",
    labels: Mapping[str, str] | None = None,
) -> None:
    """Write the manifest of a run that is about to start."""
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run": run.name,
        "id": new_run_id(),
        "name": spec.name,
        "owner": owner,
        "labels": dict(labels or {}),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "status": "running",
        "automl_version": version("automl"),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "git_commit": _git_commit(space_file.resolve().parent),
        "hardware": {
            "cpus": capacity.cpus,
            "gpus": capacity.gpus,
            "memory_bytes": memory_limit(),
            "platform": platform.platform(),
        },
        "study": database and database.described(),
        "seed": spec.search.seed,
        "space_file": str(space_file),
        "space_hash": space_hash,
        "overrides": list(overrides),
        "working_directory": str(Path.cwd()),
        "task": spec.task,
        "data": {
            "fingerprint": prepared.fingerprint,
            "files": prepared.files,
            "classes": list(prepared.classes),
            "profile": prepared.profile,
        },
        "gpus_per_trial": spec.resources.per_trial.gpus,
        "named_files": digest_named_files(spec, prepared.path.parent),
        "families": family_digests(spec.model.named()),
        "prepared": str(prepared.path),
        "metric": spec.search.metric,
        "mode": spec.search.mode,
        "objectives": list(spec.search.sought),
        "rungs": list(spec.search.early_stopping.rungs()),
        "max_epochs": spec.search.max_epochs,
        "budget": budget(spec),
        "finalists": spec.search.finalists,
        "confirm": spec.search.confirm.model_dump() if spec.search.confirm else None,
        "pack_linear": spec.search.pack_linear,
        "ensemble": spec.search.ensemble.model_dump() if spec.search.ensemble else None,
        "used": {"trials": 0, "infeasible": 0, "seconds": 0.0, "gpu_hours": 0.0},
    }
    write_json(run.manifest, content)


def budget(spec: SearchSpec) -> dict[str, Any]:
    """What the search may use; null is no limit."""
    return {
        "trials": spec.search.trials,
        "time_budget_seconds": spec.search.time_budget_seconds,
        "gpu_hours": spec.search.gpu_hours,
        "plateau": spec.search.plateau,
    }


def update_manifest(run: RunDirectory, **changes: Any) -> None:
    """Replace top-level entries of the manifest."""
    write_json(run.manifest, {**read_json(run.manifest), **changes})


def _git_commit(folder: Path) -> str | None:
    """The commit of the repository that holds the search-space file, if one does."""
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
