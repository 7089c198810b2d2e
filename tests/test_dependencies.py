"""Dependencies: no versions with known holes, and bounds from above where private names are used."""

from __future__ import annotations

import ast
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import automl

SOURCE = Path(automl.__file__).parent
ROOT = SOURCE.parent

SOUND = {  # no earlier version is allowed, and what the bound is for
    "aiohttp": "3.13.4",  # Ray's dashboard: requests and their sizes
    "filelock": "3.20.3",  # locks are not made through links
    "flask": "3.1.3",
    "flask-cors": "6.0",
    "h11": "0.16",  # where one request ends and the next begins
    "jinja2": "3.1.6",  # templates
    "mlflow-skinny": "3.9",
    "onnx": "1.21",  # external data stays in the model's folder
    "pillow": "12.1.1",  # damaged images
    "pyarrow": "23.0.1",  # damaged IPC files
    "pymysql": "1.1.1",  # how parameters are quoted
    "pytest": "9.0.3",
    "ray": "2.60",  # token authentication, with which our own is private
    "sentencepiece": "0.2.1",  # damaged models
    "starlette": "0.49.1",  # headers that take long to parse
    "torch": "2.10",  # weights_only
}


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return [
        Requirement(each)
        for group in (project["dependencies"], *project["optional-dependencies"].values())
        for each in group
    ]


def constrained() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): number for name, number in pairs}


@pytest.mark.parametrize("asked", requirements(), ids=str)
def test_the_tested_and_the_installed_version_are_allowed(asked: Requirement) -> None:
    name = canonicalize_name(asked.name)
    assert asked.specifier.contains(constrained()[name], prereleases=True)
    try:
        installed = version(name)
    except PackageNotFoundError:
        return  # of an extra
    assert asked.specifier.contains(installed, prereleases=True)


@pytest.mark.parametrize("name", SOUND)
def test_no_version_with_a_known_hole_is_allowed(name: str) -> None:
    asked = [each for each in requirements() if canonicalize_name(each.name) == name]
    assert asked
    parts = [int(part) for part in SOUND[name].split(".")]
    before = ".".join(map(str, [*parts[:-1], parts[-1] - 1, 999] if parts[-1] else [parts[0] - 1, 999]))
    for each in asked:
        assert not each.specifier.contains(before), each
        assert each.specifier.contains(constrained()[name]), each


def private_packages() -> set[str]:
    """Packages of which a name that begins with `_` is imported."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [*node.module.split("."), *(each.name for each in node.names)]
            elif isinstance(node, ast.Import):
                names = [part for each in node.names for part in each.name.split(".")]
            else:
                continue
            if names[0] not in ("automl", "__future__") and any(
                name.startswith("_") and not name.startswith("__") for name in names
            ):
                found.add(names[0])
    return found


def test_packages_whose_private_names_are_used_have_an_upper_bound() -> None:
    private = private_packages()
    assert {"ray", "torch", "optuna"} <= private
    for asked in requirements():
        if canonicalize_name(asked.name) in private:
            assert any(each.operator in ("<", "<=", "==", "~=") for each in asked.specifier), asked
            assert not asked.specifier.contains("999"), asked
