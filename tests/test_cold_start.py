"""What is said at once: what only a search needs is not loaded for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from automl.training.run_directory import RunDirectory

SAID = """\
import sys
from automl.cli import main
try:
    main({words})
finally:
    print(sorted({modules} & set(sys.modules)))
"""


def loaded_by(words: list[str], modules: set[str], folder: Path) -> tuple[str, subprocess.CompletedProcess[str]]:
    """Which of these modules a command has loaded at its end, and how it ended."""
    said = SAID.format(words=words, modules=modules)
    done = subprocess.run([sys.executable, "-c", said], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[-1], done


def test_a_mistake_is_said_without_loading_pytorch_optuna_or_ray(tmp_path: Path) -> None:
    (tmp_path / "movies.yaml").write_text("name: movies\ndata: {train: t.csv}\nmodel: {ccn: {}}\n")
    unwanted = {"torch", "ray", "optuna", "pandas", "pyarrow.dataset", "pyarrow.compute"}
    _, done = loaded_by(["check", "movies.yaml"], unwanted, tmp_path)
    assert done.returncode == 2 and "unknown family 'ccn'; did you mean" in done.stderr
    assert done.stdout == "[]\n"


def test_a_leaderboard_is_read_without_loading_pytorch(finished: RunDirectory, tmp_path: Path) -> None:
    for words in (["leaderboard", str(finished.path)], ["leaderboard", "--compare", *[str(finished.path)] * 2]):
        loaded, done = loaded_by(words, {"torch", "ray", "sklearn", "plotly", "sqlalchemy"}, tmp_path)
        assert done.returncode == 0, done.stderr
        assert loaded == "[]"


def test_a_command_that_needs_no_data_loads_nothing_that_reads_it(tmp_path: Path) -> None:
    unwanted = {"numpy", "pyarrow", "fsspec", "asyncio", "pandas", "torch", "ray", "optuna"}
    for words in (["--version"], ["--help"], ["check", "--help"]):
        assert loaded_by(words, unwanted, tmp_path)[0] == "[]", words


def test_submitted_runs_are_read_without_asking_or_loading_ray(tmp_path: Path) -> None:
    (tmp_path / "runs" / ".submissions").mkdir(parents=True)
    unwanted = {"torch", "ray", "optuna", "pyarrow", "pandas", "sklearn"}
    loaded, done = loaded_by(["jobs", "--runs", "runs"], unwanted, tmp_path)
    assert done.returncode == 0, done.stderr
    assert loaded == "[]"


def test_a_check_costs_its_networks_without_the_compiler(small_space: Path, tmp_path: Path) -> None:
    unwanted = {"ray", "torch._dynamo", "sympy", "scipy", "torchmetrics", "sklearn", "sqlalchemy"}
    loaded, done = loaded_by(["check", str(small_space)], unwanted, tmp_path)
    assert done.returncode == 0, done.stderr
    assert loaded == "[]"


def test_rows_are_labelled_without_what_measures_or_searches(finished: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\na lovely day\n")
    unwanted = {"ray", "torch._dynamo", "sympy", "matplotlib", "torchmetrics", "sqlalchemy", "plotly"}
    loaded, done = loaded_by(["predict", str(finished.path), "rows.csv"], unwanted, tmp_path)
    assert done.returncode == 0, done.stderr
    assert loaded == "[]"
