"""What an expression means: the kinds of its values, and how far a configuration is from meeting it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from automl.space.errors import nearest
from automl.space.expressions import ExpressionError, Node

NUMBER, TRUTH, TEXT, LIST, ANY = "a number", "true or false", "text", "a list", "any"
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "sum": sum, "len": len, "abs": abs}


class Names:
    """What the names in an expression stand for; methods raise ExpressionError for an unknown one."""

    def kind(self, node: Node) -> str:
        """NUMBER, TRUTH, TEXT, LIST, or ANY where it depends."""
        raise NotImplementedError

    def texts(self, node: Node) -> list[str] | None:
        """All texts that a name may stand for, None where that is not known."""
        raise NotImplementedError


def check_kinds(node: Node, names: Names) -> str:
    """The kind of value that `node` has; raises ExpressionError where an operation cannot be done with its parts."""
    if node.kind == "name":
        return names.kind(node)
    if node.kind == "literal":
        value = node.what
        return (
            ANY if value is None else TRUTH if isinstance(value, bool) else TEXT if isinstance(value, str) else NUMBER
        )
    kinds = [check_kinds(part, names) for part in node.parts]
    if node.kind in ("or", "and", "not"):
        _require(node, kinds, (TRUTH,))
        return TRUTH
    if node.kind == "compare":
        if set(node.what) <= {"==", "!="}:
            known = [kind for kind in kinds if kind != ANY]
            if len(set(known)) > 1:
                raise ExpressionError(node.column, f"{known[0]} is compared with {known[1]}")
            for pair in pairwise(node.parts):
                _check_texts(pair, names)
        else:
            _require(node, kinds, (NUMBER,))
        return TRUTH
    if node.kind == "call":
        listed = node.what in ("sum", "len") or (node.what in ("min", "max") and len(kinds) == 1)
        if (listed or node.what == "abs") and len(kinds) != 1:
            raise ExpressionError(node.column, f"{node.what} takes one value; got {len(kinds)}")
        _require(node, kinds, (LIST,) if listed else (NUMBER,))
        return NUMBER
    _require(node, kinds, (NUMBER,))
    return NUMBER


def _check_texts(pair: tuple[Node, Node], names: Names) -> None:
    """Refuse a comparison of a name with a text that it never stands for."""
    for name, literal in (pair, pair[::-1]):
        if name.kind == "name" and literal.kind == "literal" and isinstance(literal.what, str):
            texts = names.texts(name)
            if texts is not None and literal.what not in texts:
                raise ExpressionError(
                    literal.column, f"{name.what} is never {literal.what!r}{nearest(literal.what, texts)}"
                )


def _require(node: Node, kinds: list[str], wanted: tuple[str, ...]) -> None:
    for part, kind in zip(node.parts, kinds, strict=True):
        if kind not in (*wanted, ANY):
            shown = part.what if part.kind == "name" else "this"
            raise ExpressionError(part.column, f"expected {wanted[0]}; {shown} is {kind}")


def evaluate(node: Node, value_of: Callable[[str], Any]) -> Any:
    """The value of `node`; raises ArithmeticError or TypeError where it has none (division by zero, null + 1)."""
    if node.kind == "name":
        return value_of(node.what)
    if node.kind == "literal":
        return node.what
    if node.kind == "or":
        return any(evaluate(part, value_of) for part in node.parts)
    if node.kind == "and":
        return all(evaluate(part, value_of) for part in node.parts)
    parts = [evaluate(part, value_of) for part in node.parts]
    if node.kind == "not":
        return not parts[0]
    if node.kind == "compare":
        return all(_COMPARISONS[sign](*pair) for sign, pair in zip(node.what, pairwise(parts), strict=True))
    if node.kind == "minus":
        return -parts[0]
    if node.kind == "call":
        return _FUNCTIONS[node.what](*parts)
    return _ARITHMETIC[node.what](*parts)


class AbsentError(Exception):
    """A name that has no value here: a setting that this configuration does not have."""


def truth(node: Node, value_of: Callable[[str], Any]) -> bool | None:
    """Whether a condition holds; None where that depends on a name that has no value, for which `value_of` raises
    AbsentError.

    Kleene's three-valued logic (Introduction to Metamathematics, 1952, section 64): `and` is false where one part is,
    `or` is true where one part is, whatever the others are. A chain of comparisons is its pairs joined by `and`. Raises
    ArithmeticError, TypeError or ValueError where an operation cannot be done.
    """
    if node.kind in ("or", "and"):
        decisive = node.kind == "or"
        found = [truth(part, value_of) for part in node.parts]
        return decisive if decisive in found else None if None in found else not decisive
    if node.kind == "not":
        inner = truth(node.parts[0], value_of)
        return None if inner is None else not inner
    if node.kind == "compare" and len(node.what) > 1:
        return truth(Node(node.column, "and", "and", _pairs(node)), value_of)
    try:
        return bool(evaluate(node, value_of))
    except AbsentError:
        return None


def violation(node: Node, value_of: Callable[[str], Any]) -> float | None:
    """How far the values are from meeting the condition: 0 where they meet it, else more than 0.

    Of `a <= b` it is a - b; of conditions joined by `and` the sum, by `or` the least; of others 1. None where it cannot
    be judged without a name that has no value (see `truth`); of conditions joined by `and` those that can be are.
    """
    if node.kind == "compare" and len(node.what) > 1:
        return violation(Node(node.column, "and", "and", _pairs(node)), value_of)
    if node.kind in ("and", "or"):
        parts = [violation(part, value_of) for part in node.parts]
        judged = [part for part in parts if part is not None]
        if node.kind == "and":
            return sum(judged) if judged else None
        return 0.0 if 0.0 in judged else min(judged) if len(judged) == len(parts) else None
    try:
        met = truth(node, value_of)
        if met is None:
            return None
        if met:
            return 0.0
        if node.kind != "compare" or node.what[0] not in ("<=", ">=", "<", ">"):
            return 1.0
        one, other = (evaluate(part, value_of) for part in node.parts)
        return min(max(float(abs(one - other)), 1e-9), 1e300)
    except (ArithmeticError, TypeError, ValueError):
        return 1.0


def _pairs(chain: Node) -> tuple[Node, ...]:
    """The comparisons that a chain of them stands for."""
    return tuple(
        Node(pair[0].column, "compare", (sign,), pair)
        for sign, pair in zip(chain.what, pairwise(chain.parts), strict=True)
    )
