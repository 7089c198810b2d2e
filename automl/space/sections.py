"""What every section of a search-space file is made of: sections, alternatives, and values that several share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from automl.space.errors import nearest
from automl.space.ranges import MAX_ENTRIES, Each, whole_ends
from automl.space.wording import shown

Fraction = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A mapping in the file; unknown keys are refused."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _lengths(self) -> Section:
        """What `per` names is a setting of this section whose values can be counted with."""
        for name, value in self.settings():
            if not isinstance(value, Each) or not isinstance(value.per, str):
                continue
            if value.per not in type(self).model_fields or value.per == name:
                others = [other for other, inner in self.settings() if other != name and whole_ends(inner)]
                raise PydanticCustomError(
                    "per",
                    "{per} is no setting beside it{hint}",
                    {"per": shown(value.per), "hint": nearest(value.per, others), "setting": f"{name}.per"},
                )
            ends = whole_ends(getattr(self, value.per))
            if ends is None or not 1 <= ends[0] <= ends[1] <= MAX_ENTRIES:
                raise PydanticCustomError(
                    "per",
                    "{per} is no count: expected a setting whose values are whole numbers from 1 to {most}",
                    {"per": shown(value.per), "most": MAX_ENTRIES, "setting": f"{name}.per"},
                )
        return self

    def settings(self) -> list[tuple[str, Any]]:
        """Names and values, in the order in which they are asked for: lists after what says how long they are."""
        found = [(name, getattr(self, name)) for name in type(self).model_fields]
        return sorted(found, key=lambda setting: isinstance(setting[1], Each))


class Alternatives(Section):
    """A mapping of names to sections of which a trial has one: a conditional space. At least one is named."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any) -> Any:
        """`cnn:` with nothing behind it is `cnn: {}`."""
        if isinstance(value, dict):
            return {name: {} if inner is None else inner for name, inner in value.items()}
        return value

    @model_validator(mode="after")
    def _named(self) -> Alternatives:
        if not self.named():
            raise PydanticCustomError(
                "alternatives",
                "expected at least one of {names}",
                {"names": ", ".join(type(self).model_fields)},
            )
        return self

    def named(self) -> dict[str, Section]:
        """The alternatives that the file names."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: section for name, section in found.items() if section is not None}


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _files(value: Any) -> Any:
    if not isinstance(value, str | list):
        raise PydanticCustomError("files", "expected a file, or a list of files; got {value}", {"value": shown(value)})
    return _listed(value)


def _number_or_files(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 < value < 1:
            raise PydanticCustomError("fraction", "expected a fraction between 0 and 1; got {value}", {"value": value})
        return float(value)
    files = _listed(value)
    if not isinstance(files, list) or not files or not all(isinstance(file, str) and file for file in files):
        raise PydanticCustomError("files", "expected a fraction between 0 and 1, or files")
    return files


def _column_or_patterns(value: Any) -> Any:
    whole = value if isinstance(value, list) else [value]
    patterns = all(isinstance(each, str) and "*" in each for each in whole)
    if (isinstance(value, str) and value) or (isinstance(value, list) and value and patterns):
        return value
    raise PydanticCustomError(
        "columns",
        'expected a column, a pattern for several, or a list of patterns such as "x*"; got {value}',
        {"value": shown(value)},
    )


def _whole_or_auto(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise PydanticCustomError("auto", "expected auto or a whole number of at least 1")


def _number_or_auto(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf):
        return value
    raise PydanticCustomError("auto", "expected auto or a number of at least 0; got {value}", {"value": shown(value)})


_FILES_SCHEMA = [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
_FRACTION_SCHEMA = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
Files = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    Field(min_length=1),
    BeforeValidator(_files),
    WithJsonSchema({"anyOf": _FILES_SCHEMA}),
]
FractionOrFiles = Annotated[
    Any, BeforeValidator(_number_or_files), WithJsonSchema({"anyOf": [_FRACTION_SCHEMA, *_FILES_SCHEMA]})
]
ColumnOrPatterns = Annotated[
    Any,
    BeforeValidator(_column_or_patterns),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "pattern": r"\*"}, "minItems": 1},
            ]
        }
    ),
]
WholeOrAuto = Annotated[
    Any,
    BeforeValidator(_whole_or_auto),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
]
NumberOrAuto = Annotated[
    Any,
    BeforeValidator(_number_or_auto),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "number", "minimum": 0}]}),
]


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections and ranges in a setting's type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is Annotated:
        yield from models_in(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for option in get_args(annotation):
            yield from models_in(option)
