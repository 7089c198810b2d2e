"""The page of results says what the runs hold; runs that have ended are not repeated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from automl.training.run_directory import RunDirectory, read_json
from tests.conftest import copy_run

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results.py"


@pytest.mark.ray
def test_the_page_shows_what_finished_runs_reached(finished: RunDirectory, tmp_path: Path) -> None:
    for seed in (0, 1):
        copy_run(finished, tmp_path / "runs" / f"movie_reviews-{seed}")
    arguments = ["--data", tmp_path, "--seeds", "2", "--only", "movie_reviews", "--runs", tmp_path / "runs"]
    page = tmp_path / "results.md"
    subprocess.run([sys.executable, str(RESULTS), *map(str, arguments), "--output", str(page)], check=True)
    first, second = (
        line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith(("| [", "| Mov"))
    )
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    rows = read_json(finished.leaderboard("json"))["trials"]
    best = read_json(finished.best_model / "metrics.json")["test"]["accuracy"]
    assert cells[0] == "[Movie reviews, learned vectors](../search_spaces/movie_reviews.yaml)"
    assert cells[1].startswith("10, ") and cells[2] == "2"
    assert cells[3] == f"**{best:.4f} ± 0.0000**"
    assert cells[5] == f"{rows[0]['test_score']:.4f} ± 0.0000"
    assert cells[8] == f"0.765 ({'reached' if best >= 0.765 else 'not reached'})"
    of_families = {row["family"]: row["test_score"] for row in reversed(rows) if row["score"] is not None}
    assert len(of_families) > 1
    assert all(f"{name} {score:.4f} ± 0.0000" in second for name, score in of_families.items())
