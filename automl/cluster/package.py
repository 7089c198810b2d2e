"""What travels to the cluster: the search-space file and the user's own modules. Never data, and no secrets."""

from __future__ import annotations

import ast
import os
import sysconfig
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
    from automl.models.user_family import family_folder, is_user_family  # PyTorch, which no other command here needs

    _refuse_relative_paths(spec)
    (folder / SPACE).write_text(resolved_text(space), encoding="utf-8")
    for family in spec.model.named():
        where = family_folder(family)
        if is_user_family(family) and where is not None and not _is_installed(where):
            _copy_modules(family.partition(":")[0], Path(where), folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > MOST_BYTES:
        raise UserError(f"the modules that {space} names have {size / 2**20:.0f} MB; at most 10 MB travel with a file")


def _is_installed(folder: str) -> bool:
    """Whether a folder is where Python keeps packages; all of them lie beside each other there."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(Path(folder).resolve() == Path(place).resolve() for place in places)


def _copy_modules(name: str, root: Path, folder: Path) -> None:
    """Copy a module, by its dotted name, and all modules of `root` that it imports."""
    waiting, seen = [name], set[Path]()
    while waiting:
        for path in _files(waiting.pop(), root):
            if path in seen:
                continue
            seen.add(path)
            text = path.read_text(encoding="utf-8")
            inside = path.relative_to(root)
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            (folder / inside).write_text(text, encoding="utf-8")
            waiting += _imports(ast.parse(text), ".".join(inside.parent.parts))


def _files(name: str, root: Path) -> Iterator[Path]:
    """The files of a module and of the packages that it is in; nothing where it is not in `root`."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:depth])
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                yield path


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """All names that may be modules which a module imports; `package` is the one that it lies in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".") if node.level else []
            base = ".".join([*above[: len(above) - node.level + 1], *(node.module or "").split(".")]).strip(".")
            yield base
            yield from (f"{base}.{alias.name}".strip(".") for alias in node.names)


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
