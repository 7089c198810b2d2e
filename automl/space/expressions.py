"""Expressions over the settings of a configuration: `model.rnn.hidden * model.rnn.layers <= 1024`.

A grammar of a few lines, read by recursive descent; nothing of Python is evaluated:

    either     = both {"or" both}
    both       = negation {"and" negation}
    negation   = "not" negation | comparison
    comparison = sum {("<=" | ">=" | "<" | ">" | "==" | "!=") sum}
    sum        = product {("+" | "-") product}
    product    = factor {("*" | "/" | "//" | "%") factor}
    factor     = "-" factor | value
    value      = number | 'text' | true | false | null | name | "(" either ")"
               | ("min" | "max" | "sum" | "len" | "abs") "(" either {"," either} ")"

A name is a setting's path, as `training.optimizer.adamw.learning_rate`, an entry of a list being `model.rnn.hidden[0]`.
The value of named alternatives is the chosen name: `model == "rnn"`. Comparisons may be chained.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_LENGTH, MAX_DEPTH = 1000, 30

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d[\d_]*\.?[\d_]*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?:\[\d+\])?)"
    r"|(?P<text>'[^']*'|\"[^\"]*\")"
    r"|(?P<sign><=|>=|==|!=|//|\*(?!\*)|[-+/%<>(),]))"
)
COMPARISONS = ("<=", ">=", "<", ">", "==", "!=")
FUNCTIONS = ("min", "max", "sum", "len", "abs")
_LITERALS = {"true": True, "false": False, "null": None}
_INSTEAD = {
    "=": "==",
    "&&": "and",
    "||": "or",
    "!": "not",
    "**": "repeated *",
    "^": "repeated *",
    "&": "and",
    "|": "or",
}
_KNOWN = "; a condition has settings, numbers, quoted text, + - * / // %, comparisons, and, or, not, " + ", ".join(
    FUNCTIONS
)


class ExpressionError(Exception):
    """What is wrong with an expression; `column` counts from 0."""

    def __init__(self, column: int, message: str) -> None:
        super().__init__(message)
        self.column = column


@dataclass(frozen=True)
class Node:
    """A part of an expression: an operation on other parts, a name or a literal; `column` is where it stands."""

    column: int
    kind: str  # or, and, not, compare, arithmetic, minus, call, name, literal
    what: Any  # the operator, the operators of a chain, the function, the name or the value
    parts: tuple[Node, ...] = ()


def parse_expression(text: str) -> Node:
    """The condition that `text` states; raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(MAX_LENGTH, f"an expression has at most {MAX_LENGTH} characters")
    parser = _Parser(_tokens(text), len(text))
    node = parser.either()
    if parser.kind:
        raise ExpressionError(parser.column, f"did not expect {parser.word!r} here")
    if node.kind not in ("or", "and", "not", "compare", "name"):
        raise ExpressionError(0, "expected a condition, as in model.rnn.hidden <= 128")
    return node


def _tokens(text: str) -> list[tuple[int, str, str]]:
    """(column, kind, word) of each; kinds are number, name, text and sign."""
    found, at = [], 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if not match:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            wrong = text[start : start + 2] if text[start : start + 2] in _INSTEAD else text[start]
            hint = f"; write {_INSTEAD[wrong]}" if wrong in _INSTEAD else _KNOWN
            raise ExpressionError(start, "a quote is not closed" if wrong in "'\"" else f"unknown sign {wrong!r}{hint}")
        kind = str(match.lastgroup)
        found.append((match.start(kind), kind, match[kind]))
        at = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[tuple[int, str, str]], length: int) -> None:
        self._tokens = tokens
        self._next = 0
        self._length = length
        self._depth = 0

    @property
    def _token(self) -> tuple[int, str, str]:
        return self._tokens[self._next] if self._next < len(self._tokens) else (self._length, "", "")

    @property
    def column(self) -> int:
        """Where the next word stands."""
        return self._token[0]

    @property
    def kind(self) -> str:
        """Of the next word; nothing at the end."""
        return self._token[1]

    @property
    def word(self) -> str:
        """The next word."""
        return self._token[2]

    def _take(self, *words: str) -> str:
        """The next word if it is one of these and no quoted text, else nothing."""
        if self.word in words and self.kind != "text":
            self._next += 1
            return self._tokens[self._next - 1][2]
        return ""

    def _expect(self, word: str) -> None:
        if not self._take(word):
            found = f"; got {self.word!r}" if self.kind else ""
            raise ExpressionError(self.column, f"expected {word!r}{found}")

    def either(self) -> Node:
        """The whole of what is left, or the inside of brackets."""
        return self._joined("or", lambda: self._joined("and", self._negation))

    def _joined(self, word: str, inner: Callable[[], Node]) -> Node:
        column, parts = self.column, [inner()]
        while self._take(word):
            parts.append(inner())
        return parts[0] if len(parts) == 1 else Node(column, word, word, tuple(parts))

    def _negation(self) -> Node:
        column = self.column
        if self._take("not"):
            return Node(column, "not", "not", (self._deeper(self._negation),))
        return self._comparison()

    def _comparison(self) -> Node:
        column, signs, parts = self.column, [], [self._sum()]
        while sign := self._take(*COMPARISONS):
            signs.append(sign)
            parts.append(self._sum())
        return Node(column, "compare", tuple(signs), tuple(parts)) if signs else parts[0]

    def _sum(self) -> Node:
        return self._arithmetic(("+", "-"), lambda: self._arithmetic(("*", "/", "//", "%"), self._factor))

    def _arithmetic(self, signs: tuple[str, ...], inner: Callable[[], Node]) -> Node:
        column, node = self.column, inner()
        while sign := self._take(*signs):
            node = Node(column, "arithmetic", sign, (node, inner()))
        return node

    def _factor(self) -> Node:
        column = self.column
        if self._take("-"):
            return Node(column, "minus", "-", (self._deeper(self._factor),))
        return self._value()

    def _value(self) -> Node:
        column, kind, word = self._token
        if self._take("("):
            node = self._deeper(self.either)
            self._expect(")")
            return node
        if kind not in ("number", "text", "name") or word in ("and", "or", "not"):
            got = f"; got {word!r}" if kind else ""
            raise ExpressionError(column, f"expected a setting or a number{got}")
        self._next += 1
        if kind == "number":
            return Node(column, "literal", _number(column, word))
        if kind == "text":
            return Node(column, "literal", word[1:-1])
        if word in _LITERALS:
            return Node(column, "literal", _LITERALS[word])
        if self._take("("):
            return self._call(column, word)
        return Node(column, "name", word)

    def _call(self, column: int, word: str) -> Node:
        if word not in FUNCTIONS:
            raise ExpressionError(column, f"unknown function {word!r}; there are {', '.join(FUNCTIONS)}")
        parts = [self._deeper(self.either)]
        while self._take(","):
            parts.append(self._deeper(self.either))
        self._expect(")")
        return Node(column, "call", word, tuple(parts))

    def _deeper(self, inner: Callable[[], Node]) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(self.column, f"nested deeper than {MAX_DEPTH} levels")
        node = inner()
        self._depth -= 1
        return node


def _number(column: int, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise ExpressionError(column, f"{word} is no number") from None
    if not math.isfinite(value):
        raise ExpressionError(column, f"{word} is too large")
    return int(value) if value.is_integer() and "e" not in word.lower() and "." not in word else value
