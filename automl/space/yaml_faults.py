"""What is refused before anything is built from a file, and YAML's own complaints in plain words."""

from __future__ import annotations

import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    NodeEvent,
    ScalarEvent,
)
from ruamel.yaml.reader import ReaderError

from automl.space.errors import Problem, SpaceError

MAX_DEPTH = 40
MAX_VALUES = 10_000

# What the parser trips over in odd text: more than its own errors.
UNREADABLE = (YAMLError, ValueError, TypeError, AttributeError, AssertionError, LookupError, RecursionError)

_ODD_SPACES = "\u00a0\u2000-\u200b\u202f\u3000"

_OPEN_QUOTE = "this quote is not closed"
_WORDS = [
    (r"mapping values are not allowed", "a ':' cannot stand here; put the text in quotes, or check the indentation"),
    (r"expected ',' or '([]}])'", "the list or mapping before this is not closed with {0}, or a comma is missing"),
    (r"could not find expected ':'", "this line has no ':'; expected name: value"),
    (r"expected <block end>", "this does not belong here; check the indentation and the brackets"),
    (r"cannot start any token", "a value cannot begin with this character; put the text in quotes"),
    (r"undefined alias '?([^']*)", "no anchor &{0} stands before this"),
    (r"unexpected end of stream|document separator", _OPEN_QUOTE),
    (r"unknown escape character", "in double quotes a backslash is written twice; or use single quotes"),
    (r"expected '<document start>'", "this does not belong at the top of a file; expected name: value"),
    (r"expected the node content", "a value is missing before this"),
    (r"found '<stream end>'", "the file ends too early; is a bracket not closed?"),
]


def refuse_hostile(text: str, file: str, lines: list[str]) -> None:
    """Raise SpaceError where `text` is not YAML, or is larger, deeper or stranger than a search space can be.

    Only reads the parser's events and stops at the first fault, so it is quick whatever the text.
    """
    depth = values = documents = 0
    try:
        for event in YAML(typ="rt", pure=True).parse(text):
            message, place = None, 0
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    message = "a second document begins here; a file holds one"
                elif event.version:
                    message = "remove the %YAML line; files are YAML 1.2"
            if isinstance(event, NodeEvent):
                values += 1
                tag = getattr(event, "tag", None)
                unquoted = str(event.value) if isinstance(event, ScalarEvent) and event.style is None else ""
                if odd := re.search(f"[{_ODD_SPACES}]", unquoted):
                    place = odd.start()
                    message = f"the character U+{ord(odd.group()):04X} looks like a space and is none; write a space"
                elif tag:
                    message = (
                        f"the tag {str(tag).replace('tag:yaml.org,2002:', '!!')[:60]} means nothing here; remove it"
                    )
                elif values > MAX_VALUES:
                    message = f"the file has more than {MAX_VALUES:,} names and values"
            if isinstance(event, CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    message = f"nested deeper than {MAX_DEPTH} levels"
            elif isinstance(event, CollectionEndEvent):
                depth -= 1
            if message:
                raise SpaceError([_marked(file, lines, event.start_mark, message, place)])
    except UNREADABLE as error:
        raise SpaceError([yaml_problem(error, text, file, lines)]) from error


def yaml_problem(error: Exception, text: str, file: str, lines: list[str]) -> Problem:
    """Where and why `text` cannot be read, from what the parser raised."""
    if isinstance(error, ReaderError):
        before = text[: error.position]
        line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
        message = f"the character U+{ord(text[error.position]):04X} cannot stand in YAML; remove it"
        return Problem(file, line + 1, column + 1, lines[line] if line < len(lines) else "", message)
    if not isinstance(error, MarkedYAMLError):
        return Problem(file, 1, 1, "", "not valid YAML")
    mark = error.problem_mark or error.context_mark
    source = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    if "\t" in source[: len(source) - len(source.lstrip())]:
        return _marked(file, lines, mark, "a tab cannot indent YAML; use spaces")
    if mark is not None and source[mark.column : mark.column + 1] == "\t":
        return _marked(file, lines, mark, "a tab cannot stand here; use spaces")
    if mark is not None and source[mark.column : mark.column + 2] in (": ", ":"):
        return _marked(file, lines, mark, f"not valid YAML: {_WORDS[0][1]}")
    words = _plain_words(error)
    if words == _OPEN_QUOTE and error.context_mark is not None:
        mark = error.context_mark
    return _marked(file, lines, mark, f"not valid YAML: {words}")


def _plain_words(error: MarkedYAMLError) -> str:
    problem = str(error.problem or error.context or "it cannot be read").strip()
    for pattern, words in _WORDS:
        match = re.search(pattern, problem)
        if match:
            opened = error.context_mark if "not closed" in words and words != _OPEN_QUOTE else None
            where = f" (it begins on line {opened.line + 1})" if opened is not None else ""
            return words.format(*match.groups()) + where
    return problem


def _marked(file: str, lines: list[str], mark: Any, message: str, offset: int = 0) -> Problem:
    if mark is None:
        return Problem(file, 1, 1, "", message)
    source = lines[mark.line] if mark.line < len(lines) else ""
    return Problem(file, mark.line + 1, mark.column + offset + 1, source, message)
