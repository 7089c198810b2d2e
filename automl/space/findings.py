"""From what pydantic finds wrong with a file's values to problems with a place and plain words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from automl.space.document import Document, Key
from automl.space.elsewhere import place_of, range_instead, task_of
from automl.space.errors import Problem, closest, listing, nearest
from automl.space.families import FAMILIES
from automl.space.ranges import LISTS, RANGES, Range
from automl.space.sections import Alternatives, models_in
from automl.space.wording import explain, literal_options, shown

BRANCHES = (
    *RANGES,
    *LISTS,
    "fixed",
    "one",
    "list",
    "setting",
    "number",
)  # in pydantic's locations, but not in the file

# Names that belong to the language and that this version does not know what to do with.
NOT_YET = {
    "task": ("image_classification", "sequence_classification"),
}


def problems_of(document: Document, kind: type[BaseModel], errors: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """What the entries of `ValidationError.errors()` of the model `kind` mean; a misspelt name is not also missing."""
    unknown: dict[Key, list[str]] = {}
    for error in errors:
        if error["type"] == "extra_forbidden":
            unknown.setdefault(error["loc"][:-1], []).append(str(error["loc"][-1]))
    for error in errors:
        beside = unknown.get(error["loc"][:-1], []) if error["type"] == "missing" else []
        if not any(closest(each, [str(error["loc"][-1])]) for each in beside):
            yield problem_of(document, kind, error)


def problem_of(document: Document, kind: type[BaseModel], error: Mapping[str, Any]) -> Problem:
    """Where an entry of `ValidationError.errors()` of the model `kind` stands in the file, and what it means there."""
    path = _path_in_file(document, error["loc"])
    if "setting" in error.get("ctx", {}):  # a section's own finding about one of its settings
        path = (*path, *error["ctx"]["setting"].split("."))
    if error["type"] == "extra_forbidden":
        return _unknown_key(document, path, kind, _model_at(kind, error["loc"][:-1]))
    if error["type"] == "missing":
        return _missing(document, path)
    name, value = _setting(path), error["input"]
    searchable = error["loc"][-1] in ("fixed", "one")
    section = _model_at(kind, error["loc"])
    if section and issubclass(section, Alternatives) and error["type"] == "model_type":
        names = list(section.model_fields)
        message = f"expected a mapping with {listing(names)} in it, as in {{{names[0]}: {{}}}}; got {shown(value)}"
        if isinstance(value, str) and re.search(r"\w:\S", value):
            message += "; write a space after the colon"
    elif isinstance(value, dict) and set(value) & set(RANGES) and not searchable and error["type"] != "range":
        message = f"cannot be searched; {explain(error, got=False)}"
    elif isinstance(value, dict) and searchable and (instead := range_instead(value, _number_kind(error))):
        word, written = instead
        return document.problem((*path, word), f"{name}: unknown range {word!r}; write {written}", at_key=True)
    elif isinstance(value, dict) and searchable and "per" in value:
        example = f"{{per: {value['per']}, int: [low, high]}}"
        message = f"per says how long the list is, and a range what is in it, as in {example}"
    elif isinstance(value, dict) and searchable and _misspelt_range(value):
        word = _misspelt_range(value)
        return document.problem((*path, word), f"{name}: unknown range {word!r}{nearest(word, RANGES)}", at_key=True)
    elif value in NOT_YET.get(name, ()):
        message = f"{value!r} is not supported yet; expected {listing(literal_options(error['ctx']['expected']))}"
    else:
        message = explain(error, searchable=searchable)
    message = f"{name}: {message}" if name else message
    return document.problem(path, message, offset=error.get("ctx", {}).get("offset"))


def _number_kind(error: Mapping[str, Any]) -> str:
    return "int" if error["type"].startswith("int") else "float"


def _unknown_key(document: Document, path: Key, kind: type[BaseModel], section: type[BaseModel] | None) -> Problem:
    name = str(path[-1])
    fields = section.model_fields if section else {}
    valid = [field.alias or field_name for field_name, field in fields.items()]
    message = ""
    if section and issubclass(section, Range):
        if name == "per":
            message = f"per makes a list, and {_setting(path[:-1])} is a single value; leave it out"
        elif name in RANGES:
            message = f"a range has one of {', '.join(RANGES)}, not several"
    elif section and issubclass(section, Alternatives):
        message = _unknown_alternative(name, path, valid)
    elif closest(name, valid, cutoff=0.8) is None:
        other = task_of(name) if path[:-1] == ("data",) else ""
        hint = f"; it is for {other}" if other else place_of(kind, name, document.data, valid)
        message = f"unknown key {name!r}{hint}" if hint else ""
    return document.problem(path, message or f"unknown key {name!r}{nearest(name, valid)}", at_key=True)


def _unknown_alternative(name: str, path: Key, valid: list[str]) -> str:
    if name in RANGES:
        names = ", ".join(f"{each}: {{}}" for each in valid[:2])
        return f"no range stands here: the names themselves are the alternatives, as in {{{names}}}"
    if path[:-1] != ("model",):
        return ""
    if name in FAMILIES:
        return f"family {name!r} is not for this task, which has {listing(valid, 'and')}"
    ordered = sorted(valid, key=lambda each: each != closest(name, valid))
    families = f" The families are {listing(ordered, 'and')}." if closest(name, valid) else ""
    return f"unknown family {name!r}{nearest(name, valid)}{families}"


def _missing(document: Document, path: Key) -> Problem:
    if isinstance(path[-1], int):
        return document.problem(path[:-1], f"{_setting(path)}: expected two numbers: [low, high]")
    where = ".".join(str(part) for part in path[:-1])
    message = f"{path[-1]!r} is missing" + (f" in {where!r}" if where else " at the top of the file")
    return document.problem(path[:-1], message, at_key=True)


def _misspelt_range(value: Mapping[str, Any]) -> str:
    """The key of `value` that was probably meant to be the word of a range."""
    return next((key for key in value if closest(key, RANGES, cutoff=0.65)), "")


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
        if part not in known and part in BRANCHES:
            inside_range = inside_range or part in LISTS
            word = str(part).removeprefix("list of ")
            if part in LISTS and last and word in known:
                path.append(word)
            continue
        path.append(part)
        inside_range = inside_range and not isinstance(part, int)  # a range may be an option of a choice
        here = here[part] if part in known else None  # a key that is missing
    return tuple(path)


def _model_at(kind: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel] | None:
    """The section or range that pydantic was in at `location`."""
    here: type[BaseModel] | None = kind
    for part in location:
        field = here.model_fields.get(str(part)) if here else None
        models = list(models_in(field.annotation)) if field else []
        here = models[0] if len(models) == 1 else (RANGES | LISTS).get(str(part))
    return here
