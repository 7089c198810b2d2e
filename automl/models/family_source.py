"""The source of users' own families: a module, and the modules beside it that it imports."""

from __future__ import annotations

import ast
import hashlib
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from automl.models.user_family import family_folder, is_user_family
from automl.space import UserError


def source_files(name: str, root: Path) -> list[Path]:
    """The files of a module, by its dotted name, and of all modules of `root` that it imports, in order."""
    waiting, seen = [name], set[Path]()
    while waiting:
        for path in _files(waiting.pop(), root):
            if path not in seen:
                seen.add(path)
                inside = path.relative_to(root)
                try:
                    tree = ast.parse(path.read_bytes())
                except (SyntaxError, ValueError):  # whoever imports it will say so
                    continue
                waiting += _imports(tree, ".".join(inside.parent.parts))
    return sorted(seen)


def is_installed(folder: Path) -> bool:
    """Whether a folder is where Python keeps packages; all of them lie beside each other there."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(folder.resolve() == Path(place).resolve() for place in places)


def family_digests(names: Iterable[str]) -> dict[str, str]:
    """What changes when the source of each family of a user's own does, which have been imported."""
    places = {name: family_folder(name) for name in names if is_user_family(name)}
    return {name: source_digest(name, Path(place)) for name, place in places.items() if place is not None}


def require_same_source(digests: Mapping[str, str], folders: Sequence[Path]) -> None:
    """Raise UserError where a family's source, in one of `folders` or where Python looks, is not as it was.

    Nothing of it is imported or run.
    """
    for name, digest in digests.items():
        place = _place(name.partition(":")[0], folders)
        if place is not None and source_digest(name, place) != digest:
            raise UserError(
                f"the source of {name} in {place}, or of a module beside it that it imports, has changed since the run "
                "began; put the old one back, or run it as a new search"
            )


def source_digest(name: str, root: Path) -> str:
    """What changes when the source of a family in the folder `root` does."""
    module = name.partition(":")[0]
    files = list(_files(module, root)) if is_installed(root) else source_files(module, root)
    said = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        said.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        said.update(content)
    return said.hexdigest()


def _place(module: str, folders: Sequence[Path]) -> Path | None:
    """The folder in which a module lies, found as `find_family` does."""
    for folder in folders:
        if any(_files(module, folder)):
            return folder.resolve()
    top = module.partition(".")[0]
    try:
        found = find_spec(top)
    except (ImportError, ValueError):
        return None
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).resolve()
    return path.parents[1 if path.name == "__init__.py" else 0]


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
