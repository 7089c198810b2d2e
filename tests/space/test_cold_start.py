"""A mistake in a file is said at once: what only a search needs is not loaded before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SAID = """\
import sys
from automl.cli import main
try:
    main(["check", "movies.yaml"])
finally:
    print(sorted({"torch", "ray", "optuna", "pandas", "pyarrow.dataset"} & set(sys.modules)))
"""


def test_a_mistake_is_said_without_loading_pytorch_optuna_or_ray(tmp_path: Path) -> None:
    (tmp_path / "movies.yaml").write_text("name: movies\ndata: {train: t.csv}\nmodel: {ccn: {}}\n")
    done = subprocess.run([sys.executable, "-c", SAID], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "unknown family 'ccn'; did you mean" in done.stderr
    assert done.stdout == "[]\n"
