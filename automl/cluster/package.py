"""What travels to the cluster: the search-space file and the user's own modules. Never data, and no secrets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from automl.data.store import is_url
from automl.space import SearchSpec, UserError, extremes, resolved_text

SPACE = "space.yaml"
MOST_BYTES = 10 * 2**20


def pack(space: Path, spec: SearchSpec, folder: Path) -> None:
    """Write the files that a run of `space` needs into `folder`.

    Those are the file itself, with all that it extends, and the modules of the user's own families with those modules
    beside them that they import. A family of an installed package is to be installed there too.
    Raises UserError where the file names data that only this machine could find.
    """
    _refuse_relative_paths(spec)
    (folder / SPACE).write_text(resolved_text(space), encoding="utf-8")
    for family in spec.model.named():
        if ":" in family:
            _copy_family(family, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > MOST_BYTES:
        raise UserError(f"the modules that {space} names have {size / 2**20:.0f} MB; at most 10 MB travel with a file")


def _copy_family(family: str, folder: Path) -> None:
    """Copy the modules of a family of the user's own, unless it is installed."""
    from automl.models.family_source import is_installed
    from automl.models.user_family import family_folder  # PyTorch, seconds that no other submission takes

    where = family_folder(family)
    if where is not None and not is_installed(Path(where)):
        _copy_modules(family.partition(":")[0], Path(where), folder)


def _copy_modules(name: str, root: Path, folder: Path) -> None:
    """Copy a module, by its dotted name, and all modules of `root` that it imports."""
    from automl.models.family_source import source_files

    for path in source_files(name, root):
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())


def _refuse_relative_paths(spec: SearchSpec) -> None:
    """Data stays where it is, so the file has to say where the cluster finds it."""
    for setting, path in _paths(spec):
        if not is_url(path) and not os.path.isabs(path):  # noqa: PTH117  a pattern is no path
            raise UserError(
                f"{setting}: {path} is found from this folder alone, and data does not travel with the file; "
                "give the path that all nodes of the cluster share, or a URL such as s3://bucket/train.parquet"
            )


def _paths(spec: SearchSpec) -> Iterator[tuple[str, str]]:
    """The settings that name files, and what they name."""
    for name in ("train", "validation", "test"):
        value = getattr(spec.data, name)
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str):
                yield f"data.{name}", path
    if spec.training.init_from is not None:
        yield from (("training.init_from", str(path)) for path in extremes(spec.training.init_from.model))
    yield from (("search.warm_start", str(path)) for path in spec.search.warm_start)
    for family, section in spec.model.named().items():
        for path in extremes(getattr(getattr(section, "vectors", None), "source", None)):
            if isinstance(path, str) and "/" in path:  # else the name of a package
                yield f"model.{family}.vectors", path
