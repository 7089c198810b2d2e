"""Every setting of a search-space file as Markdown, from the models that files are checked by.

`python -m automl.space.reference docs/search-spaces.md` writes it between the marks of that page; `make docs` does so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from automl.space.data_section import TASKS
from automl.space.spec import Families, spec_type

BEGIN, END = "<!-- every setting: written by make docs -->", "<!-- end of every setting -->"
RANGES = ("FloatRange", "IntRange", "Choice", "EachFloat", "EachInt", "EachChoice")
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "exclusiveMaximum": "less than"}
KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "`true`, `false`",
    "object": "a mapping",
    "null": "`null`",
}

Row = tuple[str, str, str, str]


def reference(families: Families) -> str:
    """Tables of all settings: name, what it may be, default and meaning, a table for each section of a file."""
    schemas = {task: spec_type(tuple(families.items()), task).model_json_schema() for task in TASKS}
    first = next(iter(schemas.values()))
    parts = [*_table("top", [row for row in _rows(first, first, "") if "." not in row[0]])]
    for task, schema in schemas.items():
        data, model = (list(_rows(schema, _named(schema, name), name)) for name in ("data", "model"))
        parts += [*_table(f"data, of {task}", data), *_table(f"model, of {task}", model)]
    for name in ("training", "search", "resources"):
        parts += _table(name, list(_rows(first, _named(first, name), name)))
    return "\n".join(parts)


def written(page: str, families: Families) -> str:
    """A page with the tables of now between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{reference(families)}\n{END}{after}"


def _table(title: str, rows: list[Row]) -> Iterator[str]:
    yield f"### {title[0].upper()}{title[1:]}\n"
    yield "| setting | may be | default | |\n|---|---|---|---|"
    yield from (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    yield ""


def _named(schema: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    return _resolved(schema, schema["properties"][section])


def _resolved(schema: Mapping[str, Any], kind: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a schema refers to, with what is said beside the reference; of a section that may be null, the section."""
    options = [each for each in kind.get("anyOf", []) if each.get("type") != "null"]
    if "$ref" not in kind and len(options) == 1 and "$ref" in options[0]:
        return {**kind, **_resolved(schema, options[0]), **_said(kind)}
    if "$ref" not in kind:
        return kind
    found: Mapping[str, Any] = schema["$defs"][kind["$ref"].rpartition("/")[2]]
    return {**found, **_said(kind)}


def _said(kind: Mapping[str, Any]) -> dict[str, Any]:
    return {name: kind[name] for name in ("description", "default") if name in kind}


def _rows(schema: Mapping[str, Any], section: Mapping[str, Any], path: str) -> Iterator[Row]:
    needed = section.get("required", [])
    for name, kind in section.get("properties", {}).items():
        where = f"{path}.{name}" if path else name
        found = _resolved(schema, kind)
        default = "needed" if name in needed else _default(found)
        inner = found.get("properties")
        if inner and "minProperties" in found:  # alternatives
            yield f"`{where}`", f"one or more of {_codes(inner)}", default, _text(found)
        elif inner:
            yield f"`{where}`", "a section", "" if default == "`null`" else default, _text(found)
        else:
            yield f"`{where}`", _values(schema, found), default, _text(found)
        if inner:
            yield from _rows(schema, found, where)


def _values(schema: Mapping[str, Any], kind: Mapping[str, Any]) -> str:
    """What a setting may be, in words; whether it may be searched comes last."""
    options = kind.get("oneOf") or kind.get("anyOf")
    if options:
        names = [option["$ref"].rpartition("/")[2] for option in options if "$ref" in option]
        plain = [option for option in options if option.get("$ref", "").rpartition("/")[2] not in RANGES]
        words = [_values(schema, _resolved(schema, option)) for option in plain]
        ranges = ["a range"] if "FloatRange" in names else []
        lists = ["a range with `per`"] if "EachFloat" in names else []
        return ", or ".join(dict.fromkeys([*words, *ranges, *lists]))
    if "enum" in kind:
        return _codes(kind["enum"])
    if "const" in kind:
        return f"`{kind['const']}`"
    if kind.get("type") == "array":
        return f"a list of: {_values(schema, _resolved(schema, kind['items']))}" if kind.get("items") else "a list"
    bounds = [f"{words} {kind[name]:g}" for name, words in BOUNDS.items() if name in kind]
    return " ".join([KINDS.get(kind.get("type", ""), "any value"), " and ".join(bounds)]).strip()


def _codes(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _default(kind: Mapping[str, Any]) -> str:
    if "default" not in kind:
        return ""
    value = kind["default"]
    if isinstance(value, dict):  # a range
        value = {name: each for name, each in value.items() if each not in (None, False)}
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _text(kind: Mapping[str, Any]) -> str:
    return " ".join(str(kind.get("description", "")).split()).replace("<", "&lt;")


if __name__ == "__main__":
    from automl.space.families import FAMILIES

    place = Path(sys.argv[1])
    place.write_text(written(place.read_text(encoding="utf-8"), FAMILIES), encoding="utf-8")
