"""Pydantic's findings in the words of the file's language."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "two numbers: [low, high]",
    "dict_type": "a mapping (name: value)",
    "model_type": "a mapping (name: value)",
    "model_attributes_type": "a mapping (name: value)",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def explain(error: Mapping[str, Any], *, got: bool = True) -> str:
    """One sentence for an entry of `ValidationError.errors()`, with the value that was found where `got`."""
    kind, context = error["type"], error.get("ctx", {})
    found = f"; got {_shown(error['input'])}" if got else ""
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}{found}"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"expected {words} {context[key]:g}{found}"
    if kind == "literal_error":
        return f"expected {context['expected'].replace(chr(39), '')}{found}"
    if kind in ("too_short", "too_long") and context.get("field_type") == "Tuple":
        return f"expected two numbers: [low, high]{found}"
    if kind == "too_short":
        return f"expected at least {_entries(context['min_length'])}{found}"
    if kind == "too_long":
        return f"expected at most {_entries(context['max_length'])}{found}"
    return str(error["msg"])


def _entries(count: int) -> str:
    return "one entry" if count == 1 else f"{count} entries"


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
