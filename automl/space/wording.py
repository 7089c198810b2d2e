"""Pydantic's findings in the words of the file's language."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from automl.space.errors import is_number, listing, nearest

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "two numbers: [low, high]",
    "dict_type": "a mapping (name: value)",
    "model_type": "a mapping (name: value)",
    "model_attributes_type": "a mapping (name: value)",
    "finite_number": "a finite number",
}
BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_RANGES = {
    "int": "a range {int: [low, high]}",
    "float": "a range {float: [low, high]}",
    "bool": "{choice: [true, false]}",
    "literal": "{choice: [...]}",
    "list": "{choice: [...]}",
}


def explain(error: Mapping[str, Any], *, got: bool = True, searchable: bool = False) -> str:
    """One sentence for an entry of `ValidationError.errors()`, with the value that was found where `got`.

    Of a `searchable` setting it also shows the range that could stand there.
    """
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    found = f"; got {shown(value)}" if got else ""
    range_word = kind.split("_")[0]
    alternative = f", or {_RANGES[range_word]}" if searchable and range_word in _RANGES else ""
    if kind in _EXPECTED:
        example = _list_example(value) if kind == "list_type" and got else ""
        return f"expected {_EXPECTED[kind]}{example}{alternative}{found}{_quotes_hint(kind, value)}"
    if kind in BOUNDS:
        words, key = BOUNDS[kind]
        return f"expected {words} {context[key]:.15g}{found}"
    if kind == "literal_error":
        options = literal_options(context["expected"])
        if isinstance(value, str) and got:
            return f"unknown value {value!r}{nearest(value, options)}"
        return f"expected {listing(options)}{alternative}{found}"
    if kind in ("too_short", "too_long") and context.get("field_type") == "Tuple":
        return f"expected two numbers: [low, high]{found}"
    if kind == "too_short":
        return f"expected at least {_entries(context['min_length'])}{found}"
    if kind == "too_long":
        return f"expected at most {_entries(context['max_length'])}{found}"
    return str(error["msg"])


def _list_example(value: Any) -> str:
    """How a single value would stand as a list."""
    if isinstance(value, dict | list) or value is None:
        return ""
    example = f"[{shown(value)}]"
    return f", as in {example}" if len(example) <= 40 else ", with [ and ] around it"


def _quotes_hint(kind: str, value: Any) -> str:
    if kind == "string_type" and isinstance(value, int | float):
        return "; put it in quotes"
    if kind in ("int_type", "float_type") and isinstance(value, str) and is_number(value):
        return "; leave the quotes out"
    if kind in ("int_type", "float_type", "string_type") and value == "None":
        return "; YAML writes None as null"
    return ""


def literal_options(expected: str) -> list[str]:
    """The names in pydantic's `'a', 'b' or 'c'`."""
    return expected.replace("'", "").replace(" or ", ", ").split(", ")


def shown(value: Any) -> str:
    """A value as it could stand in the file, shortened; `nothing` for null."""
    if value is None:
        return "nothing"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _entries(count: int) -> str:
    return "one entry" if count == 1 else f"{count} entries"
