"""Families that are not of this package: `my_module:my_net` in a search-space file is a function of the user's own.

    def my_net(vocabulary: int, classes: int, hidden: Annotated[int, {"int": [32, 256], "log": True}] = 64) -> nn.Module

It takes `vocabulary` and `classes`, and its other parameters are the family's settings: their types are checked, the
range in an annotation is the default range, written as in a file, and a default without one is a fixed value. The
module it gives takes tokens int64 [B, L] and lengths int64 [B] to logits [B, classes], like those of this package.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from pydantic import TypeAdapter, ValidationError, create_model
from torch import nn

from automl.space import Choice, FloatRange, IntRange, Searchable, Section, UserError, nearest

GIVEN = ("vocabulary", "classes")
RANGES = FloatRange | IntRange | Choice

Family = Callable[..., nn.Module]


def is_user_family(name: str) -> bool:
    """Whether a family's name is of the form `module:function`."""
    return ":" in name


def find_family(name: str, folders: Sequence[Path] = ()) -> Family:
    """The function of `module:function`; its module may lie in one of `folders`, else wherever Python looks.

    A folder in which it lies is appended to `sys.path`, for the modules that it imports later. Raises UserError where
    there is no such module or function, where the module fails, or where another one of that name is loaded.
    """
    module_name, _, function_name = name.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), function_name]):
        raise UserError(f"{name!r} is no family; a family of your own is written module:function")
    here = next((folder.resolve() for folder in folders if _lies_in(module_name, folder)), None)
    if here is not None and str(here) not in sys.path:
        sys.path.append(str(here))
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(f"{name}: {module_name} imports {error.name!r}, which is not there") from error
        looked = " or ".join(str(folder.resolve()) for folder in dict.fromkeys(folders))
        place = f"in {looked}, nor where" if looked else "where"
        raise UserError(
            f"{name}: there is no module {module_name!r} {place} Python looks for modules; "
            "name its folder in PYTHONPATH"
        ) from error
    except Exception as error:
        raise UserError(f"{name}: importing {module_name} fails: {type(error).__name__}: {error}") from error
    if here is not None and here not in Path(module.__file__ or "").resolve().parents:
        raise UserError(f"{name}: {module_name} is another module, {module.__file__}; rename the one in {here}")
    function = getattr(module, function_name, None)
    if function is None:
        functions = [
            key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")
        ]
        raise UserError(f"{name}: {module_name} has no function {function_name!r}{nearest(function_name, functions)}")
    _parameters(name, function)
    found: Family = function
    return found


def family_folder(name: str) -> str | None:
    """The folder from which a user's family was imported; None of a family of this package."""
    module_name = name.partition(":")[0]
    file = getattr(sys.modules.get(module_name), "__file__", None)
    if not is_user_family(name) or file is None:
        return None
    path = Path(file).resolve()
    return str(path.parents[module_name.count(".") + (path.name == "__init__.py")])


def family_section(name: str, folders: Sequence[Path] = ()) -> type[Section]:
    """The settings of a user's family, as a section of the file. Raises UserError as `find_family` does."""
    return _section(name, find_family(name, folders))


def build_user_family(name: str, settings: Mapping[str, Any], vocabulary: int, classes: int) -> nn.Module:
    """The module that a user's function gives for the settings of a configuration.

    Raises UserError where there is no such function or it gives no module.
    """
    module = find_family(name)(vocabulary=vocabulary, classes=classes, **settings)
    if not isinstance(module, nn.Module):
        raise UserError(f"{name} gives a {type(module).__name__}, not a torch.nn.Module")
    return module


def _lies_in(module_name: str, folder: Path) -> bool:
    path = folder.joinpath(*module_name.split("."))
    return path.with_name(f"{path.name}.py").is_file() or (path / "__init__.py").is_file()


def _parameters(name: str, function: Any) -> list[inspect.Parameter]:
    """The parameters of a user's function that are settings; raises UserError where it cannot be a family."""
    try:
        parameters = dict(inspect.signature(function).parameters)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} is no function that gives a network") from error
    missing = [given for given in GIVEN if given not in parameters]
    if missing:
        raise UserError(f"{name} takes no {' and no '.join(missing)}; a family is a function of vocabulary and classes")
    settings = [parameter for key, parameter in parameters.items() if key not in GIVEN]
    for parameter in settings:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise UserError(f"{name} takes {parameter}; a family names each of its settings")
    return settings


@lru_cache(maxsize=64)
def _section(name: str, function: Family) -> type[Section]:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in _parameters(name, function):
        hint = hints.get(parameter.name, Any)
        noted = getattr(hint, "__metadata__", ())
        written = [note for note in noted if isinstance(note, dict | RANGES)]
        others = tuple(note for note in noted if not isinstance(note, dict | RANGES))
        fixed = Annotated[(hint.__origin__, *others)] if others else hint.__origin__ if noted else hint
        kind = Searchable[fixed]  # type: ignore[valid-type]
        default = written[0] if written else ... if parameter.default is parameter.empty else parameter.default
        if default is not ...:
            try:
                default = TypeAdapter(kind).validate_python(default)
            except ValidationError as error:
                reason = error.errors(include_url=False)[0]["msg"]
                raise UserError(f"{name}: the default of {parameter.name!r} will not do: {reason}") from error
        fields[parameter.name] = (kind, default)
    described = (inspect.getdoc(function) or f"The family {name}.").partition("\n")[0]
    return create_model(function.__name__, __base__=Section, __doc__=described, **fields)
