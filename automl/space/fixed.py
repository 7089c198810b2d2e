"""Sections of which every setting is fixed: a trial's configuration, as a model's package holds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from automl.space.errors import UserError
from automl.space.ranges import Range
from automl.space.safe_files import validated
from automl.space.sections import Section


def fixed_section(settings: Mapping[str, Any], kind: type[Section], path: Path, where: str) -> dict[str, Any]:
    """The settings of a section in the file `path`, checked by its class; those that it does not know are left out.

    A version that knew more of them may have written the file. Raises UserError where a setting is wrong, missing, or
    a range.
    """
    known = {name: value for name, value in settings.items() if name in kind.model_fields}
    return fixed(validated(known, kind, path), path, where)


def fixed(section: Section, path: Path, where: str) -> dict[str, Any]:
    """The settings of a section as plain values; raises UserError where one is not fixed, as where none was given."""
    for name in type(section).model_fields:
        if _ranges(getattr(section, name)):
            raise UserError(f"{path} is damaged: {where}.{name} has no value")
    return section.model_dump()


def _ranges(value: Any) -> bool:
    if isinstance(value, Range):
        return True
    if isinstance(value, BaseModel):
        return any(_ranges(getattr(value, name)) for name in type(value).model_fields)
    return isinstance(value, list) and any(map(_ranges, value))
