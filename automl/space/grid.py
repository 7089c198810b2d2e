"""The discrete part of a space: how many configurations it has, and each of them by its number."""

from __future__ import annotations

from math import gcd, prod
from typing import Any

from automl.space.parameters import choice_options, entry_name, option_name, parameters
from automl.space.ranges import Choice, Each, FloatRange, IntRange, Range
from automl.space.sections import Alternatives, Section
from automl.space.spec import SearchSpec, searched_sections

Values = dict[str, Any]


def continuous(spec: SearchSpec) -> list[str]:
    """Names of the parameters that have no list of values: ranges of float without a step."""
    return [
        parameter.name
        for parameter in parameters(spec)
        if isinstance(parameter.range, FloatRange) and parameter.range.step is None
    ]


def grid_size(spec: SearchSpec) -> int:
    """How many configurations differ in anything but continuous parameters."""
    return prod(_size(section) for section in searched_sections(spec).values())


def data_size(spec: SearchSpec) -> int:
    """In how many ways the data is prepared."""
    return _size(spec.data)


def data_point(spec: SearchSpec, index: int) -> Values:
    """The parameters of preparation `index` (from 0), as Optuna names them."""
    found: Values = {}
    _decode(spec.data, "data", index, found)
    return found


def grid_point(spec: SearchSpec, index: int) -> Values:
    """The parameters of configuration `index` (from 0) of a space without continuous ones, as Optuna names them."""
    found: Values = {}
    for name, section in searched_sections(spec).items():
        index, here = divmod(index, _size(section))
        _decode(section, name, here, found)
    return found


def shuffled(index: int, size: int, seed: int) -> int:
    """A number below `size` for each `index` below it, none twice, so that a part of a grid is spread over all."""
    step = max(1, round(size * 0.618))
    while gcd(step, size) > 1:
        step += 1
    return (index * step + seed) % size


def _count(value: Any) -> int:
    """Configurations of a range that is no list; 1 of a value and of a continuous range."""
    if isinstance(value, Choice):
        return sum(_size(option) for option in value.choice)
    if not isinstance(value, FloatRange | IntRange):
        return 1
    step = value.step or (1 if isinstance(value, IntRange) else None)
    return 1 if step is None else round((value.ends[1] - value.ends[0]) / step) + 1


def _step(value: FloatRange | IntRange, position: int) -> float:
    step = value.step or (1 if isinstance(value, IntRange) else 0)
    return min(value.ends[0] + position * step, value.ends[1])  # 0.1 + 6 * 0.1 is more than 0.7


def _size(value: Any) -> int:
    """Configurations of a section, alternatives or setting."""
    if isinstance(value, Each):
        return sum(_count(value.entry()) ** count for count in _whole(value.per))
    if isinstance(value, Range):
        return _count(value)
    if isinstance(value, Alternatives):
        return sum(_size(section) for section in value.named().values())
    if isinstance(value, Section):
        lists = _lists(value)
        alone = prod(_size(inner) for name, inner in value.settings() if name not in lists and not _counted(inner))
        for name, counted in lists.items():
            alone *= sum(_with_lists(counted, count) for count in _whole(getattr(value, name)))
        return alone
    return 1


def _lists(section: Section) -> dict[str, list[tuple[str, Each]]]:
    """Of each setting that says how long lists are, those lists with their names."""
    found: dict[str, list[tuple[str, Each]]] = {}
    for name, inner in section.settings():
        if _counted(inner):
            found.setdefault(inner.per, []).append((name, inner))
    return found


def _counted(value: Any) -> bool:
    return isinstance(value, Each) and isinstance(value.per, str)


def _with_lists(lists: list[tuple[str, Each]], count: int) -> int:
    return prod(_count(each.entry()) ** count for _, each in lists)


def _whole(value: Any) -> list[int]:
    """The value of a setting that counts in each of its configurations."""
    if isinstance(value, Choice):
        return [each for option in value.choice for each in _whole(option)]
    return [int(_step(value, index)) for index in range(_count(value))] if isinstance(value, IntRange) else [value]


def _decode(value: Any, path: str, index: int, found: Values) -> None:
    if isinstance(value, Each):
        counts = _whole(value.per)
        entry = value.entry()
        position, index = _locate(index, [_count(entry) ** count for count in counts])
        if isinstance(value.per, Range):
            found[f"{path}.per"] = counts[position]
        _decode_entries(value, path, counts[position], index, found)
    elif isinstance(value, Choice):
        options = choice_options(value)
        position, index = _locate(index, [_size(option) for option in options.values()])
        found[path] = list(options)[position]
        _decode(value.choice[position], option_name(path, position), index, found)
    elif isinstance(value, FloatRange | IntRange):
        found[path] = _step(value, index)
    elif isinstance(value, Alternatives):
        named = value.named()
        position, index = _locate(index, [_size(section) for section in named.values()])
        name = list(named)[position]
        if len(named) > 1:
            found[path] = name
        _decode(named[name], f"{path}.{name}", index, found)
    elif isinstance(value, Section):
        lists = _lists(value)
        for name, inner in value.settings():
            if name in lists:
                counts = _whole(inner)
                sizes = [_with_lists(lists[name], count) for count in counts]
                index, here = divmod(index, sum(sizes))
                position, here = _locate(here, sizes)
                _decode(inner, f"{path}.{name}", position, found)
                for list_name, each in lists[name]:
                    here, entries = divmod(here, _count(each.entry()) ** counts[position])
                    _decode_entries(each, f"{path}.{list_name}", counts[position], entries, found)
            elif not _counted(inner):
                index, here = divmod(index, _size(inner))
                _decode(inner, f"{path}.{name}", here, found)


def _decode_entries(value: Each, path: str, count: int, index: int, found: Values) -> None:
    entry = value.entry()
    for position in range(count):
        index, here = divmod(index, _count(entry))
        _decode(entry, entry_name(path, position), here, found)


def _locate(index: int, sizes: list[int]) -> tuple[int, int]:
    """Which of parts of such sizes, one after the other, holds `index`, and the index within it."""
    for position, size in enumerate(sizes):
        if index < size:
            return position, index
        index -= size
    raise IndexError(index)
