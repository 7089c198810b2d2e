"""A search space as `automl check` shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from rich.text import Text as RichText
from rich.tree import Tree

from automl.space.parameters import parameters
from automl.space.printable import Text, printable
from automl.space.ranges import Choice, Each, FloatRange, IntRange, Range
from automl.space.sections import Alternatives, Section
from automl.space.spec import SEARCHED, SearchSpec
from automl.space.urls import redacted_values


def space_tree(spec: SearchSpec) -> Tree:
    """Every setting, fixed or searched, alternatives as branches; reads well at 80 columns."""
    tree = Tree(_label((spec.name, "bold"), f"  {spec.task}"), guide_style="dim")
    for name in SEARCHED:
        _grow(tree, Text(name), getattr(spec, name))
    return tree


def _label(*parts: RichText | str | tuple[str, str]) -> RichText:
    """Words one after the other, with their styles."""
    return Text.assemble(*parts)


def _grow(tree: Tree, name: RichText, value: Any) -> None:
    if isinstance(value, Alternatives):
        named = value.named()
        label = name if len(named) == 1 else _label(name, (f"  one of {len(named)}", "cyan"))
        branch = tree.add(label)
        for alternative, section in named.items():
            _grow(branch, Text(printable(alternative), "bold"), section)
    elif isinstance(value, Section):
        branch = tree.add(name)
        for field in type(value).model_fields:
            _grow(branch, Text(field), getattr(value, field))
    elif isinstance(value, Range):
        tree.add(_label(name, (f"  {printable(describe_range(value))}", "green")))
    else:
        label = _label(name, f"  {printable(json.dumps(redacted_values(value), ensure_ascii=False))}")
        label.stylize("dim")
        tree.add(label)


def searched_values(value: Any, config: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Of a configuration, each setting at `path` that is searched, with its value; of alternatives the chosen name."""
    if isinstance(value, Alternatives):
        ((chosen, inner),) = config.items()
        if len(value.named()) > 1:
            yield path, chosen
        yield from searched_values(value.named()[chosen], inner, f"{path}.{chosen}")
    elif isinstance(value, Section):
        for name in type(value).model_fields:
            yield from searched_values(getattr(value, name), config[name], f"{path}.{name}")
    elif isinstance(value, Range):
        yield path, config


def describe_range(value: Range) -> str:
    """`0.001 to 0.1, log`, `32 to 128, step 32`, or `one of a, b`; of a list also what its entries are for."""
    if isinstance(value, Each):
        count = describe_range(value.per) if isinstance(value.per, IntRange) else value.per
        counted = f"for each of {count}" if isinstance(value.per, str) else f"{count} times"
        return f"{describe_range(value.entry())}, {counted}"
    if isinstance(value, FloatRange | IntRange):
        low, high = value.ends
        scale = ", log" if value.log else f", step {value.step:.10g}" if value.step else ""
        return f"{low:.10g} to {high:.10g}{scale}"
    assert isinstance(value, Choice)
    return "one of " + ", ".join(_describe_option(option) for option in value.choice)


def _describe_option(option: Any) -> str:
    if isinstance(option, Range):
        return f"({describe_range(option)})"
    return json.dumps(redacted_values(option), ensure_ascii=False).strip('"')


def space_json(spec: SearchSpec) -> dict[str, Any]:
    """The parameters of the space for programs."""
    return {
        "name": spec.name,
        "task": spec.task,
        "parameters": [
            {
                "name": parameter.name,
                "range": parameter.range.model_dump(by_alias=True, exclude_defaults=True),
                "when": [
                    {"parameter": name, "at_least" if isinstance(chosen, int) else "is": chosen}
                    for name, chosen in parameter.when
                ],
            }
            for parameter in parameters(spec)
        ],
    }


def settings(spec: SearchSpec) -> dict[str, str]:
    """What a file asks for, by path: values as JSON, ranges in words; of named alternatives each that it names."""
    return dict(_settings(spec, ""))


def _settings(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Alternatives):
        for name, section in value.named().items():
            yield f"{path}.{name}", "one of the alternatives"
            yield from _settings(section, f"{path}.{name}")
    elif isinstance(value, BaseModel) and not isinstance(value, Range):
        for name in type(value).model_fields:
            yield from _settings(getattr(value, name), f"{path}.{name}" if path else name)
        for name, extra in (value.model_extra or {}).items():  # of a family that is not known here
            yield f"{path}.{name}", json.dumps(redacted_values(extra), ensure_ascii=False, default=str)
    elif isinstance(value, Range):
        yield path, describe_range(value)
    else:
        yield path, json.dumps(redacted_values(value), ensure_ascii=False, default=str)
