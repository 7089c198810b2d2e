"""YAML text to plain values, each with its place in the file; and `--set` overrides on top of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from automl.space.errors import Problem, SpaceError, UserError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 40
MAX_VALUES = 20_000
MAX_BRACKETS = 200

Key = tuple[str | int, ...]


@dataclass
class Document:
    """Plain values of a file; `keys` and `values` give the line and column (from 0) where each path stands."""

    file: str
    lines: list[str]
    data: dict[str, Any]
    keys: dict[Key, tuple[int, int]] = field(default_factory=dict)
    values: dict[Key, tuple[int, int]] = field(default_factory=dict)
    overridden: dict[Key, str] = field(default_factory=dict)

    def problem(self, path: Key, message: str, *, at_key: bool = False) -> Problem:
        """A problem at `path`, or at the nearest of its parents that stands in the file."""
        for override, text in self.overridden.items():
            if path[: len(override)] == override or (override[: len(path)] == path and path not in self.keys):
                return Problem(f"--set {text}", 0, 0, "", message)
        for length in range(len(path), 0, -1):
            part = path[:length]
            places = self.keys if at_key or length < len(path) else self.values
            if part in places:
                line, column = places[part]
                source = self.lines[line] if line < len(self.lines) else ""
                return Problem(self.file, line + 1, column + 1, source, message)
        return Problem(self.file, 1, 1, "", message)


def read_text(path: Path) -> str:
    """The text of a search-space file; raises UserError or SpaceError where it cannot be one."""
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a search-space file")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"there is no search-space file {path}{_beside(path)}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES // 1024} KiB; is it a search-space file?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n")
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1)
        message = "the file is not UTF-8 text; save it as UTF-8"
        raise SpaceError([Problem(str(path), line + 1, column + 1, "", message)]) from error


def parse_yaml(text: str, file: str) -> Document:
    """YAML 1.2 `text` as a document whose top is a mapping; raises SpaceError with the place of the first fault."""
    lines = text.splitlines()
    if not text.strip():
        raise SpaceError([Problem(file, 1, 1, "", "the file is empty")])
    if _bracket_depth(text) > MAX_BRACKETS:
        raise SpaceError([Problem(file, 1, 1, "", "it is nested too deeply")])
    try:
        loaded = YAML(typ="rt", pure=True).load(text)
    except DuplicateKeyError as error:
        name = str(error.problem).partition('"')[2].partition('"')[0]
        raise SpaceError([_marked(file, lines, error.problem_mark, f"{name!r} is given twice here")]) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise SpaceError([_marked(file, lines, mark, _yaml_words(error, lines, mark))]) from error
    except (
        YAMLError,
        RecursionError,
        ValueError,
        AttributeError,
        TypeError,
        AssertionError,
        KeyError,
    ) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else "it is not valid YAML"
        raise SpaceError([Problem(file, 1, 1, "", reason)]) from error
    document = Document(file, lines, {})
    if not isinstance(loaded, dict):
        message = "expected a mapping at the top of the file: name: ..., task: ..., data: ..."
        raise SpaceError([Problem(file, 1, 1, lines[0] if lines else "", message)])
    document.data = _Plain(document).mapping(loaded, ())
    return document


class _Plain:
    """Turns ruamel's values into plain ones and notes their places; bounded, for aliases can multiply a file."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0

    def mapping(self, node: Any, path: Key) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, value in node.items():
            if not isinstance(key, str):
                place = getattr(node, "lc", None)
                where = place.data.get(key) if place is not None and place.data else None
                if where:
                    self.document.keys[(*path, str(key))] = (where[0], where[1])
                shown = "null" if key is None else str(key)
                self._refuse((*path, str(key)), f"a name is text; put {shown} in quotes", at_key=True)
            name = str(key)
            inner = (*path, name)
            self._place(node, key, inner, mapping=True)
            plain[name] = self.value(value, inner)
        return plain

    def value(self, node: Any, path: Key) -> Any:
        self.count += 1
        if self.count > MAX_VALUES:
            self._refuse(path, f"the file has more than {MAX_VALUES:,} values once its aliases are expanded")
        if len(path) > MAX_DEPTH:
            self._refuse(path, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, dict):
            return self.mapping(node, path)
        if isinstance(node, list | tuple | set):
            items = []
            for position, item in enumerate(node):
                inner = (*path, position)
                self._place(node, position, inner, mapping=False)
                items.append(self.value(item, inner))
            return items
        if isinstance(node, bool | ScalarBoolean):
            return bool(node)
        if node is None:
            return None
        if isinstance(node, int):
            return int(node)
        if isinstance(node, float):
            return float(node)
        return str(node)

    def _place(self, node: Any, key: Any, path: Key, *, mapping: bool) -> None:
        data = getattr(getattr(node, "lc", None), "data", None)
        found = data.get(key) if data else None
        if not found:  # merged with <<: what it was merged from tells no place of its own
            return
        self.document.keys[path] = (found[0], found[1])
        self.document.values[path] = (found[2], found[3]) if mapping else (found[0], found[1])

    def _refuse(self, path: Key, message: str, *, at_key: bool = False) -> None:
        raise SpaceError([self.document.problem(path, message, at_key=at_key)])


def apply_overrides(document: Document, overrides: Sequence[str]) -> None:
    """Put each `key.path=value` (a YAML value) into the document, making sections on the way.

    Raises UserError where an override is not of that form.
    """
    for override in overrides:
        path, equals, text = override.partition("=")
        names = [name.strip() for name in path.split(".")]
        if not equals or not all(names):
            raise UserError(f"--set {override}: expected key.path=value, as in training.batch_size=64")
        try:
            value = parse_yaml(f"value: {text}" if text.strip() else "value: null", "--set").data["value"]
        except SpaceError as error:
            raise UserError(f"--set {override}: {error.problems[0].message}") from error
        section: Any = document.data
        for name in names[:-1]:
            inner = section.get(name)
            if not isinstance(inner, dict):
                inner = section[name] = {}
            section = inner
        section[names[-1]] = value
        document.overridden[tuple(names)] = override


def _bracket_depth(text: str) -> int:
    """How deeply brackets are nested at most, quotes and comments ignored: parsing thousands would take seconds."""
    depth = deepest = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}" and depth:
            depth -= 1
    return deepest


def _marked(file: str, lines: list[str], mark: Any, message: str) -> Problem:
    if mark is None:
        return Problem(file, 0, 0, "", message)
    source = lines[mark.line] if mark.line < len(lines) else ""
    return Problem(file, mark.line + 1, mark.column + 1, source, message)


def _yaml_words(error: MarkedYAMLError, lines: list[str], mark: Any) -> str:
    source = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    if "\t" in source[: (mark.column if mark else 0) + 1]:
        return "a tab cannot indent YAML; use spaces"
    problem = str(error.problem or error.context or "it is not valid YAML").strip()
    return f"not valid YAML: {problem}"


def _beside(path: Path) -> str:
    """A hint at files of nearly that name."""
    from difflib import get_close_matches

    if not path.parent.is_dir():
        return ""
    close = get_close_matches(path.name, [entry.name for entry in path.parent.glob("*.y*ml")], n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""
