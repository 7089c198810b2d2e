"""The source of a user's own family is what a resumed run had when it began, with all that it imports beside it."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest

import automl
from automl.models.family_source import require_same_source, source_files
from automl.models.family_source import source_digest as digest_of
from automl.space import UserError
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.conftest import copy_run


@pytest.fixture
def name(tmp_path: Path) -> str:
    """A module that imports one of a package beside it, which imports another."""
    module = f"nets_{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{module}.py").write_text(f"from {module}_more import part\n\ndef net(vocabulary, classes): ...\n")
    package = tmp_path / f"{module}_more"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("from . import other\nimport json\n")
    (package / "other.py").write_text("size = 3\n")
    (package / "unused.py").write_text("")
    return module


def test_all_that_is_imported_beside_it_counts(name: str, tmp_path: Path) -> None:
    files = [path.relative_to(tmp_path).as_posix() for path in source_files(name, tmp_path)]
    assert files == [f"{name}.py", *(f"{name}_more/{each}.py" for each in ("__init__", "other", "part"))]
    digests = {f"{name}:net": digest_of(f"{name}:net", tmp_path)}
    for file in files:
        require_same_source(digests, [tmp_path])
        content = (tmp_path / file).read_text()
        (tmp_path / file).write_text(f"{content}raise SystemExit  # it is not run\n")
        with pytest.raises(UserError, match=f"the source of {name}:net .* has changed since the run began"):
            require_same_source(digests, [tmp_path])
        (tmp_path / file).write_text(content)
    (tmp_path / f"{name}_more" / "unused.py").write_text("changed = True")
    require_same_source(digests, [tmp_path / "elsewhere", tmp_path])
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / f"{name}_more", moved / f"{name}_more")
    shutil.copy(tmp_path / f"{name}.py", moved)
    require_same_source(digests, [moved])


@pytest.mark.ray
def test_resume_refuses_a_changed_family(finished: RunDirectory, name: str, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    manifest = read_json(run.manifest)
    assert manifest["families"] == {}
    families = {f"{name}:net": digest_of(f"{name}:net", tmp_path)}
    write_json(run.manifest, {**manifest, "families": families, "space_file": str(tmp_path / "space.yaml")})
    (tmp_path / f"{name}.py").write_text("raise SystemExit\n")
    with pytest.raises(UserError, match="has changed since the run began"):
        automl.resume(run.path, trials=12, quiet=True)
