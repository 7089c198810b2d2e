"""Ranges: the three words `float`, `int` and `choice`, and the type of a setting that may be fixed or searched."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, Union, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from automl.space.wording import BOUNDS, explain

Number = Annotated[float, Strict()]
Whole = Annotated[int, Strict()]
MAX_STEPS = 10**9
MAX_ENTRIES = 64  # of a list of ranges


class Range(BaseModel):
    """What is searched instead of fixed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FloatRange(Range):
    """Real numbers from a low to a high end."""

    ends: tuple[Number, Number] = Field(alias="float", description="[low, high], both included.")
    log: bool = Field(False, description="Search on a logarithmic scale.")
    step: Number | None = Field(None, gt=0, description="Only low, low + step, low + 2 step, ...")

    @model_validator(mode="after")
    def _check(self) -> FloatRange:
        _check_ends(*self.ends, self.log, self.step)
        return self


class IntRange(Range):
    """Whole numbers from a low to a high end."""

    ends: tuple[Whole, Whole] = Field(alias="int", description="[low, high], both included.")
    log: bool = Field(False, description="Search on a logarithmic scale.")
    step: Whole | None = Field(None, gt=0, description="Only low, low + step, low + 2 step, ...")

    @model_validator(mode="after")
    def _check(self) -> IntRange:
        _check_ends(*self.ends, self.log, self.step)
        return self


class Choice(Range):
    """One of several values: numbers, strings, booleans, null or lists."""

    choice: list[Any] = Field(min_length=1, description="The values to choose from.")

    @model_validator(mode="after")
    def _check(self) -> Choice:
        for key, count in Counter(choice_key(value) for value in self.choice).items():
            if count > 1:
                raise PydanticCustomError("range", "choice lists {value} more than once", {"value": key})
        return self


def _kind_of_count(value: Any) -> str | None:
    if isinstance(value, IntRange) or (isinstance(value, dict) and "int" in value):
        return "int"
    return {str: "setting", int: "number"}.get(type(value))


class Each(Range):
    """A list: one entry of the range for each of `per`, and each entry a parameter of its own."""

    per: Annotated[
        Annotated[str, Tag("setting")]
        | Annotated[int, Field(ge=1, le=MAX_ENTRIES), Strict(), Tag("number")]
        | Annotated[IntRange, Tag("int")],
        Discriminator(
            _kind_of_count,
            custom_error_type="per",
            custom_error_message="expected a setting of this section that counts, a number, or {int: [low, high]}",
        ),
    ] = Field(
        description="How many entries: a whole-number setting of the same section, a number, or {int: [low, high]}."
    )

    def entry(self) -> FloatRange | IntRange | Choice:
        """The range of one entry."""
        kind = next(kind for kind in (FloatRange, IntRange, Choice) if isinstance(self, kind))
        return kind.model_validate(self.model_dump(by_alias=True, exclude={"per"}))


class EachFloat(Each, FloatRange):
    """A list of real numbers, one for each of `per`."""


class EachInt(Each, IntRange):
    """A list of whole numbers, one for each of `per`."""


class EachChoice(Each, Choice):
    """A list of values that are chosen one by one, one for each of `per`."""


# What a setting may be instead of fixed, by the word that tells it in the file (and in pydantic's locations).
RANGES: dict[str, type[Range]] = {"float": FloatRange, "int": IntRange, "choice": Choice}
LISTS: dict[str, type[Range]] = {"list of float": EachFloat, "list of int": EachInt, "list of choice": EachChoice}


def choice_key(value: Any) -> str:
    """A text that tells apart what Python takes for equal (1, 1.0 and true)."""
    return json.dumps(value, sort_keys=True)


def _check_ends(low: float, high: float, log: bool, step: float | None) -> None:
    if low >= high:
        raise PydanticCustomError(
            "range", "a range goes from a lower to a higher end; got [{low}, {high}]", {"low": low, "high": high}
        )
    if not math.isfinite(high - low):
        raise PydanticCustomError("range", "the ends are too far apart for a range")
    if log and low <= 0:
        raise PydanticCustomError("range", "a log range begins above 0; got {low}", {"low": low})
    if log and step is not None:
        raise PydanticCustomError("range", "a range has log or step, not both")
    if step is not None:
        steps = (high - low) / step
        if steps > MAX_STEPS:
            raise PydanticCustomError("range", "a step of {step} is too small for this range", {"step": step})
        if not math.isclose(steps, round(steps), rel_tol=1e-9) or round(steps) < 1:
            raise PydanticCustomError(
                "range",
                "steps of {step} from {low} do not meet {high}",
                {"step": step, "low": low, "high": high},
            )


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
        self.fixed: TypeAdapter[Any] = TypeAdapter(fixed, config=ConfigDict(allow_inf_nan=False))
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
                why = {"word": word, "expected": str(wrong[0]["type"].context["expected"])}
                raise PydanticCustomError("range", "a range of {word} does not fit here; {expected}", why)
            if wrong:
                raise ValidationError.from_exception_data(word, wrong)
        return value

    def _checked(self, values: Sequence[Any], word: str) -> tuple[list[Any], list[Any]]:
        """The values as the setting takes them, and an error for each that it does not take, placed at the value."""
        taken, wrong = [], []
        for position, value in enumerate(values):
            try:
                taken.append(self.fixed.validate_python(value))
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


def whole_ends(value: Any) -> tuple[int, int] | None:
    """The least and the greatest of a setting's values where all are whole numbers, else None."""
    if isinstance(value, Each):
        return None
    if isinstance(value, IntRange):
        return value.ends
    options = value.choice if isinstance(value, Choice) else [value]
    if all(isinstance(option, int) and not isinstance(option, bool) for option in options):
        return min(options), max(options)
    return None


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
