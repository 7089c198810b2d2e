"""Ranges: the three words `float`, `int` and `choice`, and the type of a setting that may be fixed or searched."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, Union

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


RANGES: dict[str, type[Range]] = {"float": FloatRange, "int": IntRange, "choice": Choice}


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
    if isinstance(value, Range):
        return next(word for word, kind in RANGES.items() if isinstance(value, kind))
    if isinstance(value, dict):
        return next((word for word in RANGES if word in value), "fixed")
    return "fixed"


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

    def __init__(self, fixed: Any) -> None:
        self.fixed: TypeAdapter[Any] = TypeAdapter(fixed, config=ConfigDict(allow_inf_nan=False))

    def __call__(self, value: Any) -> Any:
        if isinstance(value, Choice):
            options, wrong = self._checked(value.choice, "choice")
            if wrong:
                raise ValidationError.from_exception_data("choice", wrong)
            return Choice(choice=options)
        if isinstance(value, FloatRange | IntRange):
            word = _kind(value)
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


T = TypeVar("T")

if TYPE_CHECKING:
    Searchable: TypeAlias = T | FloatRange | IntRange | Choice
else:

    class Searchable:
        """`Searchable[T]`: a value of type T, or a range all of whose values are of type T."""

        def __class_getitem__(cls, fixed: Any) -> Any:
            fixed = Annotated[fixed, _AsWritten()]
            branches = [Annotated[fixed, Tag("fixed")]]
            branches += [Annotated[kind, Tag(word)] for word, kind in RANGES.items()]
            return Annotated[Union[tuple(branches)], Discriminator(_kind), AfterValidator(_Within(fixed))]  # noqa: UP007
