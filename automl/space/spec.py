"""From the text of a search-space file to a validated SearchSpec, or to everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, create_model

from automl.space.document import Document, Key, apply_overrides, parse_yaml, read_text
from automl.space.errors import Problem, SpaceError, nearest
from automl.space.ranges import RANGES
from automl.space.sections import Alternatives, SearchSpec, Section
from automl.space.wording import explain

Families = Mapping[str, type[Section]]


def load(path: Path, families: Families, overrides: Sequence[str] = ()) -> SearchSpec:
    """Read the search-space file at `path`, with `overrides` (`key.path=value`) in place of what it says.

    `families` are the model families that `model` may name, each with the section of its settings. Raises UserError
    where the file cannot be read and SpaceError, with all problems at once, where it is wrong.
    """
    return parse(read_text(path), families, file=str(path), overrides=overrides)


def parse(text: str, families: Families, *, file: str = "<string>", overrides: Sequence[str] = ()) -> SearchSpec:
    """The same from the text of a file; `file` names it in errors."""
    document = parse_yaml(text, file)
    apply_overrides(document, overrides)
    kind = spec_type(tuple(families.items()))
    try:
        return kind.model_validate(document.data)
    except ValidationError as error:
        problems = [_problem(document, kind, dict(entry)) for entry in error.errors()]
        raise SpaceError(list(dict.fromkeys(problems))) from error


@lru_cache(maxsize=8)
def spec_type(families: tuple[tuple[str, type[Section]], ...]) -> type[SearchSpec]:
    """SearchSpec whose `model` section knows `families`, given as (name, section) pairs."""
    fields: dict[str, Any] = {name: (kind | None, None) for name, kind in families}
    model = create_model("Model", __base__=Alternatives, __doc__="The families to search.", **fields)
    field = Field(description="The families to search; {} means a family's own default ranges.")
    return create_model("SearchSpec", __base__=SearchSpec, model=(model, field))


def json_schema(families: Families) -> dict[str, Any]:
    """JSON Schema (2020-12) of search-space files, for editors."""
    schema = spec_type(tuple(families.items())).model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "automl search space",
    }


def _problem(document: Document, kind: type[BaseModel], error: dict[str, Any]) -> Problem:
    """Where an entry of pydantic's errors stands in the file, and what it means there."""
    path = _path_in_file(document, error["loc"])
    if error["type"] == "extra_forbidden":
        name, section = path[-1], _section_at(kind, error["loc"][:-1])
        known = section.model_fields if section else {}
        valid = [field.alias or field_name for field_name, field in known.items()]
        return document.problem(path, f"unknown key {name!r}{nearest(name, valid)}", at_key=True)
    if error["type"] == "missing" and isinstance(path[-1], int):
        return document.problem(path[:-1], f"{_setting(path)}: expected two numbers: [low, high]")
    if error["type"] == "missing":
        where = ".".join(str(part) for part in path[:-1])
        message = f"{path[-1]!r} is missing" + (f" in {where!r}" if where else " at the top of the file")
        return document.problem(path[:-1], message, at_key=True)
    name = _setting(path)
    message = explain(error)
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        options = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        message = f"unknown value {error['input']!r}{nearest(error['input'], options)}"
    return document.problem(path, f"{name}: {message}" if name else message)


def _setting(path: Key) -> str:
    """The dotted name of the setting at `path`, without what is inside its range."""
    names = [part for part in path if isinstance(part, str)]
    while names and names[-1] in RANGES:
        names.pop()
    return ".".join(names)


def _path_in_file(document: Document, location: Sequence[str | int]) -> Key:
    """Pydantic's location without what is not in the file: the branch (`fixed`, `int`, ...) that a value took."""
    path: list[str | int] = []
    here: Any = document.data
    inside_range = False
    for position, part in enumerate(location):
        last = position == len(location) - 1
        known = here if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ()
        if part in RANGES and part in known and not inside_range and not last:
            inside_range = True
            continue
        if part not in known and part in (*RANGES, "fixed"):
            continue
        path.append(part)
        here = here[part] if part in known else None  # a key that is missing
    return tuple(path)


def _section_at(kind: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel] | None:
    """The section or range that pydantic was in at `location`."""
    here: type[BaseModel] | None = kind
    for part in location:
        field = here.model_fields.get(str(part)) if here else None
        models = list(_models(field.annotation)) if field else []
        here = models[0] if len(models) == 1 else RANGES.get(str(part))
    return here


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is Annotated:
        yield from _models(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for option in get_args(annotation):
            yield from _models(option)
