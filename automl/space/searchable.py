"""The types of settings that may be fixed or searched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, Union, get_args

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from automl.space.ranges import LISTS, MAX_ENTRIES, RANGES, Choice, Each, FloatRange, IntRange, Range, whole_ends
from automl.space.wording import BOUNDS, explain


def _kind(value: Any) -> str:
    """Which branch of a `Searchable` a value is for: a mapping with a range's word is that range."""
    if isinstance(value, Each):
        return next(word for word, kind in LISTS.items() if isinstance(value, kind))
    if isinstance(value, Range):
        return next(word for word, kind in RANGES.items() if isinstance(value, kind))
    if isinstance(value, dict):
        return next((word for word in RANGES if word in value), "fixed")
    return "fixed"


def _kind_or_list(value: Any) -> str:
    """The same of a `SearchableList`, where `per` makes a list."""
    kind = _kind(value)
    return f"list of {kind}" if isinstance(value, dict) and "per" in value and kind in RANGES else kind


def _one_or_list(value: Any) -> str:
    return "list" if isinstance(value, list) else "one"


class _AsWritten:
    """Takes a fixed value as it is written: no `"3"` for 3 and no 1 for true (but 3 for 3.0)."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return _strict(handler(source))


def _strict(schema: Any) -> Any:
    if schema["type"] in ("int", "float", "bool", "str"):
        schema["strict"] = True
    for inner in ("schema", "items_schema"):  # what stands in Optional and in a list
        if isinstance(schema.get(inner), dict):
            _strict(schema[inner])
    return schema


class _Within:
    """Checks that every value of a range is one that the setting may have."""

    def __init__(self, fixed: Any, item: Any = None) -> None:
        self.fixed: TypeAdapter[Any] = TypeAdapter(fixed, config=ConfigDict(defer_build=True, allow_inf_nan=False))
        self.inside = None if item is None else _Within(item)

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, Each):
            return self.check(value)
        assert self.inside is not None
        checked = self.inside.check(value)
        if not isinstance(value.per, str):
            self._check_lengths(checked)
        return checked

    def _check_lengths(self, value: Each) -> None:
        """The shortest and the longest list that `per` gives are lists that the setting takes."""
        entry = value.choice[0] if isinstance(value, Choice) else getattr(value, "ends")[0]  # noqa: B009
        for count in whole_ends(value.per) or ():
            if not 1 <= count <= MAX_ENTRIES:
                raise PydanticCustomError(
                    "per", "expected 1 to {most} entries; got {count}", {"most": MAX_ENTRIES, "count": count}
                )
            try:
                self.fixed.validate_python([entry] * count)
            except ValidationError as error:
                found = explain(error.errors(include_url=False)[0], got=False)
                raise PydanticCustomError(
                    "per", "{expected}; per makes {count}", {"expected": found, "count": count, "setting": "per"}
                ) from error

    def check(self, value: Any) -> Any:
        """The value, or each entry of it where it is a list of ranges."""
        if isinstance(value, Choice):
            options, wrong = self._checked(value.choice, "choice")
            if wrong:
                raise ValidationError.from_exception_data("choice", wrong)
            return value.model_copy(update={"choice": options})
        if isinstance(value, FloatRange | IntRange):
            word = "int" if isinstance(value, IntRange) else "float"
            _, wrong = self._checked(value.ends, word)
            if wrong and not all(error["type"].type == "out_of_bounds" for error in wrong):
                why = {"word": word, "expected": str(wrong[0]["type"].context["expected"]), "hint": ""}
                if self.inside is not None:
                    why["hint"] = f", as {{per: 2, {word}: [low, high]}} makes one"
                raise PydanticCustomError("range", "a range of {word} does not fit here; {expected}{hint}", why)
            if wrong:
                raise ValidationError.from_exception_data(word, wrong)
        return value

    def option(self, value: Range) -> Any:
        """A range inside a choice."""
        if isinstance(value, Each) and self.inside is None:
            raise PydanticCustomError("range", "per makes a list, and this is a single value")
        return self(value)

    def _checked(self, values: Sequence[Any], word: str) -> tuple[list[Any], list[Any]]:
        """The values as the setting takes them, and an error for each that it does not take, placed at the value."""
        taken, wrong = [], []
        for position, value in enumerate(values):
            try:
                taken.append(self.option(value) if isinstance(value, Range) else self.fixed.validate_python(value))
            except PydanticCustomError as error:
                wrong.append({"type": error, "loc": (word, word, position), "input": value})
            except ValidationError as error:
                found = error.errors(include_url=False)[0]
                kind = "out_of_bounds" if found["type"] in BOUNDS else "out_of_type"
                context = {"message": explain(found), "expected": explain(found, got=False)}
                wrong.append(
                    {
                        "type": PydanticCustomError(kind, "{message}", context),
                        "loc": (word, word, position),
                        "input": value,
                    }
                )
        return taken, wrong


T = TypeVar("T")

if TYPE_CHECKING:
    Searchable: TypeAlias = T | FloatRange | IntRange | Choice
    SearchableList: TypeAlias = T | list[T] | FloatRange | IntRange | Choice
    SearchableLists: TypeAlias = T | FloatRange | IntRange | Choice
else:

    class Searchable:
        """`Searchable[T]`: a value of type T, or a range all of whose values are of type T."""

        def __class_getitem__(cls, fixed: Any) -> Any:
            fixed = Annotated[fixed, _AsWritten()]
            return _searchable(fixed, RANGES, Discriminator(_kind), _Within(fixed))

    class SearchableList:
        """`SearchableList[T]`: a `Searchable[T]` for all entries of a list, or a list of T, fixed or of ranges."""

        def __class_getitem__(cls, item: Any) -> Any:
            item = Annotated[item, _AsWritten()]
            several = Annotated[list[item], Field(min_length=1), Tag("list")]
            return _listed(Annotated[Annotated[item, Tag("one")] | several, Discriminator(_one_or_list)], item)

    class SearchableLists:
        """`SearchableLists[T]`: a list of T, a choice of several, or a list of ranges."""

        def __class_getitem__(cls, fixed: Any) -> Any:
            return _listed(Annotated[fixed, _AsWritten()], get_args(get_args(fixed)[0])[0])

    def _listed(fixed: Any, item: Any) -> Any:
        return _searchable(fixed, {**RANGES, **LISTS}, Discriminator(_kind_or_list), _Within(fixed, item))

    def _searchable(fixed: Any, kinds: dict[str, type[Range]], branch: Discriminator, within: _Within) -> Any:
        branches = [Annotated[fixed, Tag("fixed")], *(Annotated[kind, Tag(word)] for word, kind in kinds.items())]
        return Annotated[Union[tuple(branches)], branch, AfterValidator(within)]  # noqa: UP007
