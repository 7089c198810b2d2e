"""The constraints of a search-space file: their names checked against the space, and configurations against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from automl.space.errors import nearest_path
from automl.space.evaluation import ANY, LIST, NUMBER, TEXT, TRUTH, AbsentError, Names, check_kinds, violation
from automl.space.expressions import ExpressionError, Node, parse_expression
from automl.space.ranges import Choice, Each, FloatRange, IntRange
from automl.space.sections import Alternatives, Section, models_in


@dataclass(frozen=True)
class Constraints:
    """Conditions that every trial's configuration meets."""

    conditions: tuple[tuple[str, Node], ...]
    alternatives: frozenset[str]

    def violations(self, config: Mapping[str, Any]) -> dict[str, float]:
        """How far `config` is from meeting each condition, 0 where it meets it.

        What depends on a setting that is not part of the configuration (another family's) cannot be judged. Of
        conditions joined by `and` the others are; a condition of which nothing can be judged is 0.
        """
        return {text: violation(node, lambda name: self._value(config, name)) or 0.0 for text, node in self.conditions}

    def _value(self, config: Mapping[str, Any], name: str) -> Any:
        value: Any = config
        path, _, index = name.partition("[")
        for part in path.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise AbsentError
            value = value[part]
        if path in self.alternatives:
            return next(iter(value))
        if not index:
            return value
        position = int(index.rstrip("]"))
        if not isinstance(value, list) or position >= len(value):
            raise AbsentError
        return value[position]


def constraints_of(texts: list[str], sections: Mapping[str, Any]) -> Constraints:
    """The constraints `texts`, all valid, of a space with these `sections` (data, model, training)."""
    names = SpaceNames(sections)
    return Constraints(tuple((text, parse_expression(text)) for text in texts), frozenset(names.alternatives))


class SpaceNames(Names):
    """The names of a space: every setting that a file could give, with its kind and, of alternatives, its options."""

    def __init__(self, sections: Mapping[str, Any]) -> None:
        self.kinds: dict[str, str] = {}
        self.alternatives: dict[str, list[str]] = {}
        self._options: dict[str, list[str]] = {}
        self._entries: dict[str, str] = {}
        for name, section in sections.items():
            for path, value in _settings(section, name):
                self._add(path, value)

    def _add(self, path: str, value: Any) -> None:
        if isinstance(value, _Absent):
            self.kinds[path] = ANY
        elif isinstance(value, Alternatives):
            self.kinds[path] = TEXT
            self.alternatives[path] = self._options[path] = list(type(value).model_fields)
        else:
            if isinstance(value, Each):
                self._entries[path] = _kind_of(value.entry())
            self.kinds[path] = _kind_of(value)
            if self.kinds[path] == TEXT:
                self._options[path] = list(value.choice) if isinstance(value, Choice) else [value]

    def kind(self, node: Node) -> str:
        """The kind of a name's values."""
        path, _, index = str(node.what).partition("[")
        if path not in self.kinds:
            raise ExpressionError(node.column, f"no setting {path!r}{self._hint(path)}")
        if not index:
            return self.kinds[path]
        if self.kinds[path] not in (LIST, ANY):
            raise ExpressionError(node.column, f"{path} is no list but {self.kinds[path]}")
        return self._entries.get(path, ANY)

    def texts(self, node: Node) -> list[str] | None:
        """All texts that a name may stand for."""
        return self._options.get(str(node.what))

    def _hint(self, path: str) -> str:
        """The settings nearest to a path that does not exist: of the same last name, or in the same section."""
        near = nearest_path(path, self.kinds)
        return f"; did you mean {near!r}?" if near else "; a setting is named by its path, as model.rnn.hidden"


class _Absent:
    """A setting of alternatives that the file does not name."""


def _settings(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Alternatives):
        yield path, value
        for name, field in type(value).model_fields.items():
            section = getattr(value, name)
            if section is not None:
                yield from _settings(section, f"{path}.{name}")
            else:
                for kind in models_in(field.annotation):
                    yield from _absent(kind, f"{path}.{name}")
    elif isinstance(value, Section):
        for name in type(value).model_fields:
            yield from _settings(getattr(value, name), f"{path}.{name}")
    else:
        yield path, value


def _absent(kind: type[BaseModel], path: str) -> Iterator[tuple[str, Any]]:
    for name, field in kind.model_fields.items():
        inner = [each for each in models_in(field.annotation) if issubclass(each, Section)]
        yield f"{path}.{name}", _Absent()
        for each in inner:
            yield from _absent(each, f"{path}.{name}")


def _kind_of(value: Any) -> str:
    if isinstance(value, Each):
        return LIST
    if isinstance(value, FloatRange | IntRange):
        return NUMBER
    if isinstance(value, Choice):
        kinds = {_kind_of(option) for option in value.choice}
        return kinds.pop() if len(kinds) == 1 else ANY
    if isinstance(value, bool):
        return TRUTH
    if isinstance(value, int | float):
        return NUMBER
    return TEXT if isinstance(value, str) else LIST if isinstance(value, list) else ANY


def constraint_faults(texts: list[str], sections: Mapping[str, Any]) -> Iterator[tuple[int, int, str]]:
    """What is wrong with the names and kinds in each of `texts`: its position, the column in it and a message."""
    names = SpaceNames(sections)
    for position, text in enumerate(texts):
        try:
            node = parse_expression(text)
            kind = check_kinds(node, names)
            if kind not in (TRUTH, ANY):
                raise ExpressionError(node.column, f"expected true or false; {node.what} is {kind}")
        except ExpressionError as error:
            yield position, error.column, str(error)
