"""A whole search-space file, validated, and its JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, create_model
from pydantic_core import PydanticCustomError

from automl.space.data_section import TASKS, Data
from automl.space.ranges import LISTS, Choice, FloatRange, IntRange, Range
from automl.space.resources_section import Resources
from automl.space.search_section import Search
from automl.space.sections import Alternatives, Section
from automl.space.training_section import Training

SEARCHED = ("data", "model", "training")

Families = Mapping[str, type[Section]]
FindFamily = Callable[[str], type[Section]]

TEXT = "text_classification"


_NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


def _name(value: str) -> str:
    if not re.fullmatch(_NAME.strip("^$"), value):
        raise PydanticCustomError(
            "name", "a name is 1 to 64 letters, digits, '-', '_' or '.', and begins with a letter or digit"
        )
    return value


class SearchSpec(Section):
    """A whole search-space file."""

    name: Annotated[str, AfterValidator(_name)] = Field(
        description="Names the run directory.", json_schema_extra={"pattern": _NAME}
    )
    task: Literal["text_classification", "image_classification", "sequence_classification"] = Field(
        "text_classification", description="What is learned."
    )
    data: Data
    model: Alternatives = Field(description="The families to search; {} means a family's own default ranges.")
    training: Training = Field(default_factory=Training)
    search: Search = Field(default_factory=Search)
    resources: Resources = Field(default_factory=Resources)


def searched_sections(spec: SearchSpec) -> dict[str, Section]:
    """The sections whose settings may be ranges."""
    return {name: getattr(spec, name) for name in SEARCHED}


class _Families(Alternatives):
    """What `model` may name."""

    model_config = ConfigDict(
        json_schema_extra={
            "minProperties": 1,
            "patternProperties": {r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$": {"type": ["object", "null"]}},
        }
    )


@lru_cache(maxsize=8)
def spec_type(families: tuple[tuple[str, type[Section]], ...], task: str = TEXT) -> type[SearchSpec]:
    """SearchSpec of a task: its `data` section, and of `families`, (name, section) pairs, those that are for it.

    A family is for the tasks that its section's `tasks` names, else for texts.
    """
    data = TASKS[task]
    fields: dict[str, Any] = {name: (kind | None, None) for name, kind in families if task in tasks_of(kind)}
    title = data.__name__.removesuffix("Data")
    model = create_model(f"{title}Model", __base__=_Families, __doc__="The families to search.", **fields)
    field = Field(description="The families to search; {} means a family's own default ranges.")
    return create_model("SearchSpec", __base__=SearchSpec, data=(data, ...), model=(model, field))


def tasks_of(family: type[Section]) -> tuple[str, ...]:
    """The tasks that a family's networks can learn."""
    return getattr(family, "tasks", (TEXT,))


def json_schema(families: Families) -> dict[str, Any]:
    """JSON Schema (2020-12) of search-space files, for editors."""
    schema = spec_type(tuple(families.items())).model_json_schema()
    needed = schema.pop("required")
    schema["allOf"] = []
    for task in TASKS:
        own = spec_type(tuple(families.items()), task).model_json_schema()
        schema["$defs"] |= own["$defs"]
        named: dict[str, Any] = {"properties": {"task": {"const": task}}, "required": ["task"]}
        if task == TEXT:  # also where nothing is said, neither here nor in a base
            unsaid = {"not": {"anyOf": [{"required": ["task"]}, {"required": ["extends"]}]}}
            named = {"anyOf": [named, unsaid]}
        sections = {name: own["properties"][name] for name in ("data", "model")}
        schema["allOf"].append({"if": named, "then": {"properties": sections}})
    for name in ("data", "model"):  # of a file that extends another, whose task may stand there
        options = [rule["then"]["properties"][name] for rule in schema["allOf"]]
        described = schema["properties"][name].get("description")
        schema["properties"][name] = {"anyOf": options, **({"description": described} if described else {})}
    _describe_options(schema["$defs"])
    schema["anyOf"] = [{"required": needed}, {"required": ["extends"]}]  # what a base has need not be said again
    schema["properties"]["extends"] = {
        "description": "The file that this one is laid over, from here; without lists what of it is left out.",
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {
                    "file": {"type": "string"},
                    "without": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["file"],
                "additionalProperties": False,
            },
        ],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "automl search space",
    }


def _describe_options(definitions: dict[str, Any]) -> None:
    """Of the options of a choice a mapping is a range, but no choice."""
    kinds: tuple[type[Range], ...] = (FloatRange, IntRange, *LISTS.values())
    names = [kind.__name__ for kind in kinds if kind.__name__ in definitions]
    ranges = [{"$ref": f"#/$defs/{name}"} for name in names]
    for name in {Choice.__name__, LISTS["list of choice"].__name__} & set(definitions):
        options = definitions[name]["properties"]["choice"]
        options["items"] = {"if": {"type": "object"}, "then": {"anyOf": ranges}}
