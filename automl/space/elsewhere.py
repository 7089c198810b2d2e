"""Hints about names that would be right elsewhere: in another section, for another task, or in another tool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from automl.space.data_section import TASKS
from automl.space.errors import closest
from automl.space.sections import Alternatives, Section, models_in

# What other tools call a range, and what is written here; RANGE stands for float or int.
_BOTH_ENDS, _CHOICE = "{RANGE: [low, high]}", "{choice: [...]}"
_INSTEAD = {
    **dict.fromkeys(("uniform", "double", "suggest_float"), _BOTH_ENDS),
    **dict.fromkeys(("randint", "int_uniform", "integer", "suggest_int"), _BOTH_ENDS),
    **dict.fromkeys(("min", "max", "minval", "maxval", "low", "high", "lower", "upper"), _BOTH_ENDS),
    **dict.fromkeys(
        ("loguniform", "log_uniform", "log_uniform_values", "lograndint"), "{RANGE: [low, high], log: true}"
    ),
    **dict.fromkeys(("quniform", "q_uniform", "qrandint"), "{RANGE: [low, high], step: ...}"),
    **dict.fromkeys(("values", "vals", "categorical", "categories", "options", "grid_search", "discrete"), _CHOICE),
    **dict.fromkeys(("normal", "randn", "lognormal"), f"{_BOTH_ENDS}, as a range has two ends"),
    **dict.fromkeys(("value", "const"), "the value itself"),
}
_SAME = {"epochs": "max_epochs", "lr": "learning_rate"}


def range_instead(value: Mapping[str, Any], kind: str) -> tuple[str, str] | None:
    """The first word in a mapping that other tools use for a range, and what is written here for a range of `kind`."""
    return next(((word, _INSTEAD[word].replace("RANGE", kind)) for word in value if word in _INSTEAD), None)


def place_of(kind: type[BaseModel], name: str, written: Mapping[str, Any], here: Sequence[str]) -> str:
    """`; it is a setting of training`, where a key that is unknown here belongs in another section of the file `kind`.

    Of several sections the one that `written`, the file, has. Nothing where no section has a setting of that name or
    nearly that name, which none of the settings `here` has.
    """
    settings = _all_settings(kind)
    exact = [section for section, setting in settings if setting == name and name not in _SAME]
    others = {setting for _, setting in settings}.difference(here)
    close = None if exact else _SAME.get(name) or closest(name, others, cutoff=0.75)
    found = exact or [section for section, setting in settings if setting == close]
    if not found:
        return ""
    section = next((each for each in found if _has(written, each)), found[0])
    where = ".".join(section) or "the top of the file"
    return f"; it is a setting of {where}" if exact else f"; {close!r} is a setting of {where}"


def task_of(name: str) -> str:
    """The task whose data section has a setting of this name, if only one has."""
    tasks = [task for task, data in TASKS.items() if name in data.model_fields]
    return tasks[0] if len(tasks) == 1 else ""


@lru_cache(maxsize=8)
def _all_settings(kind: type[BaseModel]) -> tuple[tuple[tuple[str, ...], str], ...]:
    return tuple(_settings(kind, ()))


def _settings(kind: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The section and the name of each setting."""
    for name, field in kind.model_fields.items():
        sections = [each for each in models_in(field.annotation) if issubclass(each, Section)]
        if not issubclass(kind, Alternatives):
            yield path, name
        for section in sections:
            yield from _settings(section, (*path, name))


def _has(written: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(written, Mapping) or name not in written:
            return False
        written = written[name]
    return True
