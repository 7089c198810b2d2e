from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from automl.results import read_run
from automl.space import UserError
from automl.training.run_directory import RunDirectory
from tests.conftest import write_space


@pytest.fixture
def slow_space(tmp_path: Path, slow_data: Path) -> Path:
    return write_space(tmp_path / "slow.yaml", slow_data, trials=8, epochs=4)


def start_automl(arguments: Sequence[str | Path], folder: Path) -> subprocess.Popen[str]:
    """The command in a process group of its own, as a shell would start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "automl", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ},
    )


def ended(run: RunDirectory) -> dict[int, Any]:
    """The trials that have ended, as the study has them now."""
    try:
        return {trial.number: trial for trial in read_run(run).trials if trial.status != "running"}
    except UserError:
        return {}
