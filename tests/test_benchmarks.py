"""The benchmarks run at the smallest size and count what they say they count; no figure of time is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from automl.training.run_directory import RunDirectory
from tests.conftest import make_texts

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def run_benchmark(name: str, *arguments: str | Path, output: Path) -> tuple[Any, str]:
    """The figures that a benchmark writes, and what it prints."""
    command = [sys.executable, str(BENCHMARKS / name), *map(str, arguments), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(output.read_text()), done.stdout


def test_turnaround_counts_every_report_of_every_arm(tmp_path: Path) -> None:
    arms = ["ray-tuned-optuna", "optuna-journal"]
    chosen = [argument for arm in arms for argument in ("--arm", arm)]
    figures, printed = run_benchmark(
        "turnaround.py", "--trials", "6", "--long", "12", *chosen, output=tmp_path / "figures.json"
    )
    assert {arm: found["reports"] for arm, found in figures["arms"].items()} == dict.fromkeys(arms, 18)
    long = figures["long"]
    assert (long["trials"], long["reports"], len(long["deciles"])) == (12, 36, 10)
    assert long["files"] >= 24  # a configuration and metrics for each trial
    assert long["memory_mb"] > 50 and long["resume_seconds"] > 0
    assert "ratio" in printed


def test_time_to_accuracy_follows_each_search(tmp_path: Path) -> None:
    for seed, (split, rows) in enumerate({"train": 300, "validation": 100, "test": 100}.items()):
        pq.write_table(pa.Table.from_pylist(make_texts(rows, seed)), tmp_path / f"{split}.parquet")
    searches, printed = run_benchmark(
        "time_to_accuracy.py", "--data", tmp_path, "--trials", "3", "--seeds", "1", output=tmp_path / "figures.json"
    )
    assert [search["arm"] for search in searches] == ["optuna", "ray", "ours"]
    for search in searches:
        assert 3 <= search["epochs"] <= 27
        moments = [moment for moment, _ in search["curve"]]
        assert moments == sorted(moments) and moments[0] > 0 and moments[-1] < search["seconds"]
        assert search["curve"][-1][1] == pytest.approx(search["validation"], abs=1e-6)
        assert 0.5 < search["test"] <= 1
    spans = searches[2]["spans"]
    assert min(spans.values()) > -1 and spans["training and measuring (all cores)"] > 0
    assert "ours sooner" in printed


def test_throughput_measures_every_arm_on_the_same_rows(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(make_texts(300, 0)), tmp_path / "train.parquet")
    figures, printed = run_benchmark(
        "throughput.py", "--data", tmp_path, "--rounds", "2", "--network", "GRU", output=tmp_path / "figures.json"
    )
    gru = figures["networks"]["GRU"]
    assert gru["rows"] == 285  # a twentieth is validation
    arms = ("automl", "float32", "tight", "lightning", "plain")
    assert {arm: len(seconds) for arm, seconds in gru["seconds"].items()} == dict.fromkeys(arms, 2)
    assert min(gru["rows_per_second"].values()) > 0 and set(gru["automl_faster_than"]) == set(arms[1:])
    assert "automl : plain" in printed


def test_preparation_is_the_same_work_in_every_arm(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    pq.write_table(pa.Table.from_pylist(make_texts(300, 0)), tmp_path / "train.parquet")
    figures, printed = run_benchmark(
        "prepare.py", "--data", tmp_path, "--rows", "3000", output=tmp_path / "figures.json"
    )
    assert [each["arm"] for each in figures] == ["ours", "datasets", "datasets, our cleaning"]
    for each in figures:
        assert each["rows"] == 3150 and each["cpu_seconds"] > 0.1 and each["peak_bytes"] > 50e6
    vocabularies = [each["vocabulary"] for each in figures]
    assert vocabularies[0] == vocabularies[2] and abs(vocabularies[0] - vocabularies[1]) <= 2
    assert "ours faster" in printed


def test_loader_draws_every_row_in_every_arm(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(make_texts(300, 0)), tmp_path / "train.parquet")
    figures, printed = run_benchmark(
        "loader.py", "--data", tmp_path, "--rows", "1000", "--rounds", "1", output=tmp_path / "figures.json"
    )
    assert (figures["rows"], figures["batches"]) == (990, 16)
    assert min(figures["batches_per_second"].values()) > 0
    assert set(figures["automl_faster_than"]) == {"copied", "resident", "lists", "streamed"} and "batches/s" in printed


def test_serve_asks_beside_hostile_clients(finished: RunDirectory, tmp_path: Path) -> None:
    sizes = ["--honest", "10", "--hostile", "7", "--seconds", "3", "--runs", "1"]
    (figures,), printed = run_benchmark("serve.py", finished.path, *sizes, output=tmp_path / "figures.json")
    for arm in ("quiet", "beside hostile ones"):
        found = figures[arm]
        assert found["statuses"] == {"200": found["requests"]} and found["requests"] > 0
        assert 0 < found["p50_ms"] <= found["p99_ms"] and found["memory_mb"] < 1000
    assert "p99" in printed


def test_commands_times_each_command_on_both_sides(tmp_path: Path) -> None:
    arguments = ["--beside", sys.executable, "--repeats", "1", "--command", "leaderboard", "--command", "status --runs"]
    figures, printed = run_benchmark("commands.py", *arguments, output=tmp_path / "figures.json")
    assert list(figures) == ["leaderboard", "status --runs"]
    for found in figures.values():
        for figure in ("seconds", "cpu_seconds"):
            here, beside = (found[side][figure] for side in ("here", "beside"))
            assert here > 0 and found["ratio"][figure] == pytest.approx(here / beside)
    assert "status --runs" in printed
