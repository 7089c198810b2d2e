"""`start_with`: configurations that are tried first, as parameters of the space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from automl.space.constraints import constraints_of
from automl.space.describe import describe_range
from automl.space.document import Key
from automl.space.errors import listing, nearest
from automl.space.parameters import choice_options, entry_name, option_name
from automl.space.ranges import Choice, Each, FloatRange, IntRange, Range, choice_key
from automl.space.sections import Alternatives, Section
from automl.space.spec import SearchSpec, searched_sections
from automl.space.wording import shown

Values = dict[str, Any]
Fault = tuple[Key, str]  # where in the file, and what


def start_points(spec: SearchSpec) -> list[Values]:
    """Of each configuration of `start_with` the parameters that it gives, as Optuna names them.

    Those that it leaves open are the middle of their ranges.
    """
    return [_point(spec, config, [], ()) for config in spec.search.start_with]


def start_faults(spec: SearchSpec) -> Iterator[Fault]:
    """What of `start_with` is not in the space, or does not meet its constraints."""
    if not spec.search.start_with:
        return
    from automl.space.configurations import middle_config  # Optuna, which other files are read without

    constraints = constraints_of(spec.search.constraints, searched_sections(spec))
    for position, config in enumerate(spec.search.start_with):
        place: Key = ("search", "start_with", position)
        faults: list[Fault] = []
        point = _point(spec, config, faults, place)
        yield from faults
        if not faults:
            broken = [text for text, amount in constraints.violations(middle_config(spec, point)).items() if amount]
            for text in broken:
                yield place, f"does not meet the constraint {text}"


def _point(spec: SearchSpec, config: Mapping[str, Any], faults: list[Fault], place: Key) -> Values:
    sections = searched_sections(spec)
    found: Values = {}
    for name, given in config.items():
        if name not in sections:
            parts = name.split(".")
            nested = ": {".join(parts) + ": ..." + "}" * (len(parts) - 1)
            hint = f"; write {{{nested}}}" if parts[0] in sections else nearest(name, sections)
            faults.append(((*place, name), f"unknown section {name!r}{hint}"))
        else:
            _take(sections[name], given, name, (*place, name), found, faults)
    return found


def _take(value: Any, given: Any, path: str, place: Key, found: Values, faults: list[Fault]) -> None:
    """Note the parameters at `path` that `given` gives."""
    if isinstance(value, Alternatives):
        named = value.named()
        chosen = next(iter(given)) if isinstance(given, Mapping) and len(given) == 1 else given
        if not isinstance(chosen, str) or chosen not in named:
            one = "" if len(named) == 1 else "one of "
            message = f"expected {one}{listing(named)}, as in {{{next(iter(named))}: {{}}}}; got {shown(chosen)}"
            faults.append((place, f"{path}: {message}"))
            return
        if len(named) > 1:
            found[path] = chosen
        if isinstance(given, Mapping):
            _take(named[chosen], given[chosen] or {}, f"{path}.{chosen}", (*place, chosen), found, faults)
    elif isinstance(value, Section):
        _take_section(value, given, path, place, found, faults)
    elif isinstance(value, Each):
        _take_list(value, given, path, place, found, faults)
    elif isinstance(value, Range) and not _is_in(value, given):
        among = "" if isinstance(value, Choice) else "in the range "
        faults.append((place, f"{path}: {shown(given)} is not {among}{describe_range(value)}"))
    elif isinstance(value, Choice):
        keys = [choice_key(option) for option in value.choice]
        # The value itself comes before one that only equals it, as 1.0 does 1, and that before a range that it is in.
        fitting = [position for position, option in enumerate(value.choice) if _is_in(option, given)]
        exact = choice_key(given)
        best = min(fitting, key=lambda each: (isinstance(value.choice[each], Range), keys[each] != exact))
        found[path] = list(choice_options(value))[best]
        _take(value.choice[best], given, option_name(path, best), place, found, faults)
    elif isinstance(value, Range):
        found[path] = given
    elif not _is_in(value, given):
        faults.append((place, f"{path}: is fixed to {shown(value)}; got {shown(given)}"))


def _take_section(value: Section, given: Any, path: str, place: Key, found: Values, faults: list[Fault]) -> None:
    if not isinstance(given, Mapping):
        faults.append((place, f"{path}: expected a mapping (name: value); got {shown(given)}"))
        return
    settings = dict(value.settings())
    for name, inner in given.items():
        if name not in settings:
            message = f"unknown key {name!r}{nearest(name, settings)}"
            faults.append(((*place, name), message))
            continue
        setting = settings[name]
        if not isinstance(setting, Each):
            _take(setting, inner, f"{path}.{name}", (*place, name), found, faults)
            continue
        if isinstance(setting.per, str) and isinstance(inner, list):
            length = given.get(setting.per, len(inner))
            if length != len(inner):
                faults.append(((*place, name), f"{path}.{name}: expected {length} entries; got {len(inner)}"))
            if inner:
                _take(getattr(value, setting.per), len(inner), f"{path}.{setting.per}", (*place, name), found, faults)
        _take_list(setting, inner, f"{path}.{name}", (*place, name), found, faults)


def _take_list(value: Each, given: Any, path: str, place: Key, found: Values, faults: list[Fault]) -> None:
    """Note the entries of a list, and its length where no other setting says it."""
    if not isinstance(given, list) or not given:
        faults.append((place, f"{path}: expected a list; got {shown(given)}"))
        return
    if not isinstance(value.per, str):
        _take(value.per, len(given), f"{path}.per", place, found, faults)
    for position, entry in enumerate(given):
        _take(value.entry(), entry, entry_name(path, position), (*place, position), found, faults)


def _is_in(value: Any, given: Any) -> bool:
    """Whether a fixed value or a range may be `given`."""
    if isinstance(value, Each):
        entry = value.entry()
        counted = isinstance(given, list) and _is_in(value.per, len(given))
        return counted and all(_is_in(entry, each) for each in given)
    if isinstance(value, Choice):
        return any(_is_in(option, given) for option in value.choice)
    if not isinstance(value, FloatRange | IntRange):
        numbers = [isinstance(each, int | float) and not isinstance(each, bool) for each in (value, given)]
        return bool(value == given) if all(numbers) else choice_key(value) == choice_key(given)
    if isinstance(given, bool) or not isinstance(given, int if isinstance(value, IntRange) else int | float):
        return False
    low, high = value.ends
    steps = (given - low) / value.step if value.step else 0
    return bool(low <= given <= high and abs(steps - round(steps)) < 1e-6)
