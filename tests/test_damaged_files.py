"""Every file of a run and a model, damaged in every way, opened with every command that reads it.

`AUTOML_FUZZ=1000` opens as many damaged copies; `AUTOML_FUZZ_SEED` makes others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from automl.training.run_directory import RunDirectory, write_json
from tests.conftest import copy_run

CASES, SEED = int(os.environ.get("AUTOML_FUZZ", "40")), os.environ.get("AUTOML_FUZZ_SEED", "16")
AT_ONCE = 40  # by one process
MOST_BYTES = 10**9


@pytest.fixture
def whole(finished: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A run with every file that a run can have."""
    run = copy_run(finished, tmp_path / "whole")
    best = str(json.loads(run.leaderboard("json").read_text())["trials"][0]["trial"])
    write_json(run.confirmed, {"trials": {best: {"1": {"score": 0.8, "values": [0.7, 0.8]}, "2": {"error": "lost"}}}})
    run.refit.mkdir()
    write_json(run.refit_record, {"trial": int(best), "epochs": 2, "error": "no memory"})
    write_json(run.warm_start, {"points": [], "trials": [], "notes": []})
    variant = {"name": "original", "how": "as trained", "validation": 0.8, "test": 0.8, "lost": 0.0, "test_lost": 0.0}
    variant |= {"bytes": 9, "smaller": 1.0, "latency_ms": {"1": 0.1, "32": 0.2}, "faster": {"1": 1.0, "32": 1.0}}
    variant |= {"recommended": True, "path": None}
    run.compressed.mkdir()
    variants = [variant, {**variant, "name": "int8"}]
    write_json(run.compressed_record, {"schema_version": 1, "metric": "accuracy", "trial": 0, "variants": variants})
    return run


@pytest.mark.ray
def test_damaged_files_are_one_sentence_and_nothing_else(whole: RunDirectory) -> None:
    """No traceback, nothing written outside the run, nobody connected to, no module imported, less than 1 GB."""
    folder = Path(__file__).parent.parent
    for first in range(0, CASES, AT_ONCE):
        counts = [str(first), str(min(AT_ONCE, CASES - first)), SEED]
        command = [sys.executable, "-m", "tests.damage_runs", str(whole.path), *counts]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=1200)
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout.splitlines()[-1])
        assert not found["wrong"], "\n".join(found["wrong"][:20])
        assert not found["imported"]
        assert found["peak"] < MOST_BYTES
