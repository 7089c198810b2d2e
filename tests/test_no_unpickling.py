"""Nothing in the package loads what could run code: each place where it might is named here, with why it is safe."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import automl

ROOT = Path(automl.__file__).parent

RUN_CODE = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "runpy", "jsonpickle"}
RUNNERS = {"eval", "exec", "compile", "__import__"}
LOADERS = {  # by the last two parts of their names, with the argument that makes them safe
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "jit.load": None,
    "torch.package": None,
    "yaml.unsafe_load": None,
    "yaml.full_load": None,
    "pd.read_pickle": None,
    "pandas.read_pickle": None,
    "Tuner.restore": None,
    "Result.from_path": None,
    "Trial.from_directory": None,
    "os.system": None,
}
ALLOWED = {
    # What the tasks of this search give, which came through Ray's object store: from nodes that run the search's code.
    "search/preparation.py: import pickle",
}


def offences(text: str) -> Iterator[str]:
    """What could run code in a Python source."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (f"import {each.name}" for each in node.names if RUN_CODE & set(each.name.split(".")))
        elif isinstance(node, ast.ImportFrom):
            names = {each.name for each in node.names} | set((node.module or "").split("."))
            yield from (f"import {name}" for name in sorted(RUN_CODE & names))
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in RUNNERS:
                yield name
            last = ".".join(name.split(".")[-2:])
            if last in LOADERS and not name.startswith("safetensors."):
                safe = LOADERS[last]
                given = {each.arg: ast.unparse(each.value) for each in node.keywords}
                if safe is None or given.get(safe[0]) != str(safe[1]):
                    yield name
            for each in node.keywords:
                if (each.arg, ast.unparse(each.value)) in {
                    ("allow_pickle", "True"),
                    ("weights_only", "False"),
                    ("shell", "True"),
                    ("typ", "'unsafe'"),
                    ("trust_remote_code", "True"),
                }:
                    yield f"{each.arg}={ast.unparse(each.value)}"


def test_the_source_loads_nothing_that_could_run_code() -> None:
    files = sorted(ROOT.rglob("*.py"))
    assert len(files) > 150
    found = {f"{path.relative_to(ROOT)}: {each}" for path in files for each in offences(path.read_text("utf-8"))}
    assert found == ALLOWED


def test_temporary_files_are_in_private_folders() -> None:
    """Those beside what they replace, and files without a name, may be elsewhere."""
    found = set()
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name, given = ast.unparse(node.func), {each.arg for each in node.keywords}
                if name.startswith("tempfile.") and "dir" not in given and not name.endswith(".TemporaryFile"):
                    found.add(f"{path.relative_to(ROOT)}: {name}")
    assert found == set()


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from ray import cloudpickle",
        "from ray.cloudpickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=flag)",
        "np.load(path)",
        "numpy.load(path, allow_pickle=True)",
        "eval(text)",
        "from joblib import load",
        "YAML(typ='unsafe')",
        "subprocess.run(text, shell=True)",
        "tune.Tuner.restore(path, f)",
    ],
)
def test_the_check_finds(text: str) -> None:
    assert list(offences(text))
