"""YAML text to plain values, each with its place in the file; and `--set` overrides on top of them."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.error import ReusedAnchorWarning, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from automl.space.errors import Problem, SpaceError, UserError, closest
from automl.space.safe_files import read_regular
from automl.space.yaml_faults import MAX_DEPTH, MAX_VALUES, UNREADABLE, refuse_hostile, yaml_problem

MAX_BYTES = 256 * 1024
MAX_WHOLE = 2**53  # beyond it neither JSON nor a sampler's floats hold every whole number

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
    problems: list[Problem] = field(default_factory=list)
    base: Document | None = None
    """What this file extends: its places are those of what this file says nothing about."""

    def problem(self, path: Key, message: str, *, at_key: bool = False, offset: int | None = None) -> Problem:
        """A problem at `path`, or at the nearest of its parents that stands in the file.

        `offset` is the column of the problem within the text that stands at `path`.
        """
        for override, text in reversed(self.overridden.items()):
            made_by_it = override[: len(path)] == path and path and path not in self.keys
            if path[: len(override)] == override or made_by_it:
                return Problem(f"--set {text}", 0, 0, "", message)
        for length in range(len(path), 0, -1):
            document: Document | None = self
            while document is not None:
                places = document.keys if at_key or length < len(path) else document.values
                if path[:length] in places:
                    line, column = places[path[:length]]
                    return document.at(line, column, message, offset if length == len(path) else None)
                document = document.base
        return Problem(self.file, 1, 1, "", message)

    def stands(self, path: Key) -> bool:
        """Whether this file, or what it extends, has a value at `path`."""
        return path in self.values or (self.base is not None and self.base.stands(path))

    def forget(self, path: Key) -> None:
        """The places at `path` and inside it are no longer what counts, here and in the base."""
        for places in (self.keys, self.values):
            for inner in [inner for inner in places if inner[: len(path)] == path]:
                del places[inner]
        if self.base is not None:
            self.base.forget(path)

    def at(self, line: int, column: int, message: str, offset: int | None = None) -> Problem:
        """A problem at a line and column, both from 0, or `offset` into the text that begins there."""
        if offset is not None:
            column += offset + (self.lines[line][column : column + 1] in ("'", '"'))
            column = min(column, len(self.lines[line]))
        return Problem(self.file, line + 1, column + 1, self.lines[line] if line < len(self.lines) else "", message)


def read_text(path: Path) -> str:
    """The text of a search-space file: a regular file of bounded size; raises UserError or SpaceError for another."""
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder, not a search-space file")
        content = read_regular(path, MAX_BYTES)
    except UserError as error:
        if not path.is_file():
            raise
        raise UserError(f"{path} is larger than {MAX_BYTES // 1024} KiB; is it a search-space file?") from error
    except FileNotFoundError:
        raise UserError(f"there is no search-space file {path}{_beside(path)}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n")
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1)
        message = "the file is not UTF-8 text; save it as UTF-8"
        raise SpaceError([Problem(str(path), line + 1, column + 1, "", message)]) from error


def parse_yaml(text: str, file: str) -> Document:
    """YAML 1.2 `text` as a document whose top is a mapping.

    Raises SpaceError with the place of the first fault where it is not; names that are given twice are left in
    `problems`, with the first of them in `data`.
    """
    text = text.removeprefix("\ufeff")
    lines = re.split(r"\r\n|\r|\n", text)
    if not text.strip():
        raise SpaceError([Problem(file, 1, 1, "", "the file is empty")])
    refuse_hostile(text, file, lines)
    document = Document(file, lines, {})
    yaml = YAML(typ="rt", pure=True)
    yaml.Constructor = _Constructor
    yaml.constructor.document = document
    try:
        with warnings.catch_warnings(action="ignore", category=ReusedAnchorWarning):
            loaded = yaml.load(text)
    except UNREADABLE as error:
        raise SpaceError([yaml_problem(error, text, file, lines)]) from error
    if not isinstance(loaded, dict):
        message = "expected a mapping at the top of the file: name: ..., task: ..., data: ..."
        raise SpaceError([document.at(0, 0, message)])
    document.data = _Plain(document).mapping(loaded, ())
    return document


class _Constructor(RoundTripConstructor):
    """Notes names that are given twice instead of stopping, and the place of values that cannot be read."""

    document: Document

    def check_mapping_key(self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any) -> bool:
        if key not in mapping:
            return True
        mark = key_node.start_mark
        message = f"{key!r} is given twice; the first stands on line {mapping.lc.key(key)[0] + 1}"
        self.document.problems.append(self.document.at(mark.line, mark.column, message))
        return False

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except YAMLError:
            raise
        except UNREADABLE as error:
            raise ConstructorError(None, None, "this value cannot be read", node.start_mark) from error


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
                shown = json.dumps(key, default=str)
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
            if abs(node) > MAX_WHOLE:
                self._refuse(path, f"expected a whole number up to {MAX_WHOLE}; this one is larger")
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
        # Where nothing is given, YAML's place of the value is that of whatever comes next.
        itself = not mapping or (found[2] != found[0] and node[key] is None)
        self.document.values[path] = (found[0], found[1]) if itself else (found[2], found[3])

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
            parsed = parse_yaml(f"value: {text}", "--set")
        except SpaceError as error:
            raise UserError(f"--set {override}: {error.problems[0].message}") from error
        if parsed.problems or len(parsed.data) > 1:
            raise UserError(f"--set {override}: expected one value")
        section: Any = document.data
        for position, name in enumerate(names[:-1], start=1):
            inner = section.get(name)
            if not isinstance(inner, dict):
                inner = section[name] = {}
                document.overridden[tuple(names[:position])] = override
            section = inner
        section[names[-1]] = parsed.data["value"]
        document.overridden[tuple(names)] = override


def _beside(path: Path) -> str:
    """A hint at files of nearly that name."""
    if not path.parent.is_dir():
        return f"; there is no folder {path.parent} either"
    close = closest(path.name, [entry.name for entry in path.parent.glob("*.y*ml")])
    return f"; did you mean {path.parent / close}?" if close else ""
