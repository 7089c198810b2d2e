"""A search space as the list of its parameters, and how they are named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from automl.space.ranges import Choice, Each, FloatRange, IntRange, Range, choice_key, whole_ends
from automl.space.sections import Alternatives, Section
from automl.space.spec import SEARCHED, SearchSpec

Condition = tuple[str, str | int]


@dataclass(frozen=True)
class Parameter:
    """One searched parameter; it exists in trials where every condition of `when` holds.

    A condition is a parameter and a name that was chosen, or a whole number that it is at least.
    """

    name: str
    range: FloatRange | IntRange | Choice
    when: tuple[Condition, ...]


def parameters(spec: SearchSpec) -> list[Parameter]:
    """All parameters of the space in the order in which they are asked for."""
    return [found for name in SEARCHED for found in _parameters(getattr(spec, name), name, ())]


def _parameters(value: Any, path: str, when: tuple[Condition, ...], length: Any = None) -> Iterator[Parameter]:
    """`length` is the parameter that says how long a list is, with its least and greatest value."""
    if isinstance(value, Each):
        if not isinstance(value.per, str):
            yield from _parameters(value.per, f"{path}.per", when)
            length = (f"{path}.per", whole_ends(value.per))
        name, (least, most) = length
        for position in range(most):
            condition = when if position < least else (*when, (name, position + 1))
            yield from _parameters(value.entry(), entry_name(path, position), condition)
    elif isinstance(value, Range):
        assert isinstance(value, FloatRange | IntRange | Choice)
        yield Parameter(path, value, when)
        if isinstance(value, Choice):
            for position, (key, option) in enumerate(choice_options(value).items()):
                if isinstance(option, Range):
                    yield from _parameters(option, option_name(path, position), (*when, (path, key)))
    elif isinstance(value, Alternatives):
        named = value.named()
        if len(named) > 1:
            yield Parameter(path, Choice(choice=list(named)), when)
        for name, section in named.items():
            condition = (*when, (path, name)) if len(named) > 1 else when
            yield from _parameters(section, f"{path}.{name}", condition)
    elif isinstance(value, Section):
        for name, inner in value.settings():
            counted = isinstance(inner, Each) and isinstance(inner.per, str)
            length = (f"{path}.{inner.per}", whole_ends(getattr(value, inner.per))) if counted else None
            yield from _parameters(inner, f"{path}.{name}", when, length)


def entry_name(path: str, position: int) -> str:
    """The parameter of one entry of a list, `position` from 0."""
    return f"{path}[{position}]"


def option_name(path: str, position: int) -> str:
    """The parameter of a range that is option `position`, from 0, of a choice."""
    return entry_name(f"{path}.choice", position)


def choice_options(value: Choice) -> dict[Any, Any]:
    """What Optuna chooses from, to what is meant: scalars as they are, else their JSON text.

    Else is where there are lists or ranges among them, or 1 beside true.
    """
    scalars = all(option is None or isinstance(option, bool | int | float | str) for option in value.choice)
    if scalars and len(set(value.choice)) == len(value.choice):
        return {option: option for option in value.choice}
    return {choice_key(option): option for option in value.choice}
