"""`extends: base.yaml`: a file that says only how it differs from another."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from automl.space.document import Document, Key, parse_yaml, read_text
from automl.space.errors import Problem, SpaceError, UserError, closest, nearest
from automl.space.ranges import RANGES

ENDINGS = {".yaml", ".yml"}
TOP = ("name", "task", "data", "model", "training", "search", "resources", "extends")
_OUTER = re.compile(r"^(?![#\s]|---|\.\.\.)([^:\n]*)", re.MULTILINE)  # the beginning of a line, up to a colon
MAX_FILES = 10  # in a row, each over the next
FORM = "extends: base.yaml, or extends: {file: base.yaml, without: [model.rnn]}"


def read_document(text: str, file: str, seen: tuple[Path, ...] = ()) -> Document:
    """The document of `text` laid over those that it extends, each place of it known.

    Sections are laid over each other name by name; a value, a list or a range replaces what stands in the base.
    What `without` lists is left out of the base. Raises SpaceError, placed in the file that is wrong. Of a file that is
    extended and is no search space nothing is shown.
    """
    document = recognised(text, file) if seen else parse_yaml(text, file)
    if "extends" not in document.data:
        return document
    extends = document.data.pop("extends")
    asked = extends if isinstance(extends, dict) else {"file": extends}
    name, without = asked.get("file"), asked.get("without", [])
    if not isinstance(name, str) or not isinstance(without, list) or set(asked) - {"file", "without"}:
        raise SpaceError([document.problem(("extends",), f"expected {FORM}")])
    path = Path(file).parent / name
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a character that no path has
        raise SpaceError([document.problem(("extends",), f"{name!r} cannot be followed")]) from error
    if not {path.suffix.lower(), resolved.suffix.lower()} <= ENDINGS:
        raise SpaceError([document.problem(("extends",), f"{name} is no search-space file: expected .yaml or .yml")])
    chain = (*seen, Path(file).resolve())
    if resolved in chain or len(chain) >= MAX_FILES:
        why = "extends itself" if resolved in chain else f"is the {MAX_FILES + 1}th file in a row"
        raise SpaceError([document.problem(("extends",), f"{name} {why}")])
    try:
        base = read_document(read_text(path), str(path), chain)
    except SpaceError:
        raise
    except UserError as error:
        raise SpaceError([document.problem(("extends",), str(error))]) from error
    for position, dotted in enumerate(without):
        _leave_out(document, base, str(dotted), ("extends", "without", position))
    document.problems = [*base.problems, *document.problems]
    document.base = base
    document.data = _laid_over(base, base.data, document.data, ())
    return document


def recognised(text: str, file: str) -> Document:
    """The document of a file that the user has not named: another extends it, or it is a run's.

    Its lines are shown only once it looks like a search space.
    """
    try:
        document = parse_yaml(text, file)
    except SpaceError as error:
        if all(_is_known(name) for name in _OUTER.findall(text)) and _OUTER.search(text):
            raise
        raise SpaceError([_concealed(problem) for problem in error.problems]) from None
    if not document.data or not all(_is_known(name) for name in document.data):
        message = f"no search-space file: it has names at its top other than {', '.join(TOP)}"
        raise SpaceError([Problem(file, 1, 1, "", message)])
    return document


def _is_known(name: str) -> bool:
    return name in TOP or closest(name, TOP, cutoff=0.7) is not None


def _concealed(problem: Problem) -> Problem:
    """The place of a problem without words of the file."""
    words = "not valid YAML" if problem.message.startswith("not valid YAML") else "not what a search space can be"
    return replace(problem, source="", message=f"{words}; is it a search-space file?")


def _leave_out(document: Document, base: Document, dotted: str, place: Key) -> None:
    *sections, last = dotted.split(".")
    section: Any = base.data
    for name in sections:
        section = section.get(name) if isinstance(section, dict) else None
    if not isinstance(section, dict) or last not in section:
        hint = nearest(last, section) if isinstance(section, dict) else ""
        raise SpaceError([document.problem(place, f"{base.file} has no {dotted}{hint}")])
    del section[last]
    base.forget(tuple(dotted.split(".")))


def _laid_over(base: Document, below: Any, above: Any, path: Key) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)) or _is_range(below) or _is_range(above):
        base.forget(path)
        return above
    merged = dict(below)
    for name, value in above.items():
        inner = (*path, name)
        # `cnn:` with nothing behind it names an alternative, which the base may describe.
        keep = value is None and isinstance(below.get(name), dict) and not _is_range(below[name])
        if name in below and not keep:
            merged[name] = _laid_over(base, below[name], value, inner)
        elif not keep:
            merged[name] = value
    return merged


def _is_range(value: dict[str, Any]) -> bool:
    return any(word in value for word in RANGES)


def resolved_text(path: Path) -> str:
    """The text of a search-space file on its own: as it stands, or with what it extends written out."""
    text = read_text(path)
    document = parse_yaml(text, str(path))
    if "extends" not in document.data:
        return text
    buffer = StringIO()
    buffer.write(f"# {path} with the files that it extends.\n")
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output = False
    yaml.default_flow_style = None
    yaml.width = 110
    yaml.dump(read_document(text, str(path)).data, buffer)
    return buffer.getvalue()
