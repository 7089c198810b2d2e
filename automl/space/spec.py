"""A whole search-space file: from its text to a validated SearchSpec, or to everything that is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, create_model
from pydantic_core import PydanticCustomError

from automl.space.data_section import Data
from automl.space.document import Document, apply_overrides, parse_yaml, read_text
from automl.space.errors import Problem, SpaceError, UserError
from automl.space.findings import problem_of
from automl.space.search_section import Resources, Search
from automl.space.sections import Alternatives, Section
from automl.space.training_section import Training

Families = Mapping[str, type[Section]]
FindFamily = Callable[[str], type[Section]]


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
    task: Literal["text_classification"] = Field("text_classification", description="What is learned.")
    data: Data
    model: Alternatives = Field(description="The families to search; {} means a family's own default ranges.")
    training: Training = Field(default_factory=Training)
    search: Search = Field(default_factory=Search)
    resources: Resources = Field(default_factory=Resources)


class _Families(Alternatives):
    """What `model` may name."""

    model_config = ConfigDict(
        json_schema_extra={
            "minProperties": 1,
            "patternProperties": {r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$": {"type": ["object", "null"]}},
        }
    )


class _Unfound(Section):
    """Takes any settings, of a family that is reported as not found already."""

    model_config = ConfigDict(extra="allow")


def load(
    path: Path, families: Families, overrides: Sequence[str] = (), *, find_family: FindFamily | None = None
) -> SearchSpec:
    """Read the search-space file at `path`, with `overrides` (`key.path=value`) in place of what it says.

    `families` are the model families that `model` may name, each with the section of its settings; `find_family`
    gives the section of a user's own, `module:function`, or raises UserError. Raises UserError where the file cannot
    be read and SpaceError, with all problems at once, where it is wrong.
    """
    return parse(read_text(path), families, file=str(path), overrides=overrides, find_family=find_family)


def parse(
    text: str,
    families: Families,
    *,
    file: str = "<string>",
    overrides: Sequence[str] = (),
    find_family: FindFamily | None = None,
) -> SearchSpec:
    """The same from the text of a file; `file` names it in errors."""
    document = parse_yaml(text, file)
    apply_overrides(document, overrides)
    problems = list(document.problems)
    own = _own_families(document, find_family, problems) if find_family else {}
    kind = spec_type((*families.items(), *own.items()))
    try:
        spec = kind.model_validate(document.data)
    except ValidationError as error:
        problems += [problem_of(document, kind, entry) for entry in error.errors(include_url=False)]
    if problems:
        raise SpaceError(list(dict.fromkeys(problems)))
    return spec


def _own_families(document: Document, find_family: FindFamily, problems: list[Problem]) -> dict[str, type[Section]]:
    """The families `module:function` that a file names; those that are not found are added to `problems`."""
    model = document.data.get("model")
    found: dict[str, type[Section]] = {}
    for name in model if isinstance(model, dict) else ():
        if ":" in name:
            try:
                found[name] = find_family(name)
            except UserError as error:
                problems.append(document.problem(("model", name), str(error), at_key=True))
                found[name] = _Unfound
    return found


@lru_cache(maxsize=8)
def spec_type(families: tuple[tuple[str, type[Section]], ...]) -> type[SearchSpec]:
    """SearchSpec whose `model` section knows `families`, given as (name, section) pairs."""
    fields: dict[str, Any] = {name: (kind | None, None) for name, kind in families}
    model = create_model("Model", __base__=_Families, __doc__="The families to search.", **fields)
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
