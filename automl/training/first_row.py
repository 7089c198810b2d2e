"""The best trial of a run by the first lines of its leaderboard: manifests of earlier versions do not say it."""

from __future__ import annotations

import csv
from typing import Any

from pydantic import ValidationError

from automl.space import UserError
from automl.space.safe_files import open_regular
from automl.training.run_directory import RunDirectory
from automl.training.run_files import Best

HEAD_BYTES = 64 * 1024  # csv takes no longer cells


def best_of_table(run: RunDirectory) -> dict[str, Any] | None:
    """Score, trial and family of the first row of leaderboard.csv, where that is a ranked trial; else None."""
    try:
        with open_regular(run.leaderboard("csv")) as (file, _):
            head = file.read(HEAD_BYTES).decode("utf-8", "replace")
        row = next(csv.DictReader(head.splitlines()), {})
        if row.get("rank") != "1":
            return None
        score, trial = float(row.get("score") or ""), int(row.get("trial") or "")
        return Best(score=score, trial=trial, family=str(row.get("family") or "")).model_dump()
    except (OSError, UserError, ValueError, csv.Error, ValidationError):  # it is not there, or somebody else's
        return None
