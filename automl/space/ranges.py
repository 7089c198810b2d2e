"""Ranges: the three words `float`, `int` and `choice`, and lists of them."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Annotated, Any, Union

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    TypeAdapter,
    model_validator,
)
from pydantic_core import PydanticCustomError

from automl.space.errors import closest, nearest

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
    log: Annotated[bool, Strict()] = Field(False, description="Search on a logarithmic scale.")
    step: Number | None = Field(None, gt=0, description="Only low, low + step, low + 2 step, ...")

    @model_validator(mode="after")
    def _check(self) -> FloatRange:
        _check_ends(*self.ends, self.log, self.step)
        return self


class IntRange(Range):
    """Whole numbers from a low to a high end."""

    ends: tuple[Whole, Whole] = Field(alias="int", description="[low, high], both included.")
    log: Annotated[bool, Strict()] = Field(False, description="Search on a logarithmic scale.")
    step: Whole | None = Field(None, gt=0, description="Only low, low + step, low + 2 step, ...")

    @model_validator(mode="after")
    def _check(self) -> IntRange:
        _check_ends(*self.ends, self.log, self.step)
        return self


def _option(value: Any) -> Any:
    """An option of a choice: a value as it is, or a range that is drawn from where it is chosen."""
    word = _option_word(value)
    if word == "fixed":
        keys = value if isinstance(value, dict) else {}
        wrong = next((key for key in keys if closest(str(key), RANGES, cutoff=0.65)), None)
        if wrong is not None:
            context = {"word": repr(wrong), "hint": nearest(str(wrong), RANGES)}
            raise PydanticCustomError("range", "unknown range {word}{hint}", context)
        return value
    if word == "choice":
        raise PydanticCustomError("range", "a choice inside a choice: write its values into the outer one")
    if isinstance(value, dict) and isinstance(value.get("per"), str):
        example = "{per: 3, int: [1, 7]}"
        raise PydanticCustomError(
            "range", "a list inside a choice says its own length, as in {example}", {"example": example}
        )
    return _OPTION.validate_python(value)


def _option_word(value: Any) -> str:
    if not isinstance(value, dict):
        return "fixed"
    kinds = LISTS if "per" in value else RANGES
    return next((word for word in kinds if word.removeprefix("list of ") in value), "fixed")


class Choice(Range):
    """One of several values: numbers, strings, booleans, null, lists, or ranges to draw from where they are chosen."""

    choice: list[Annotated[Any, BeforeValidator(_option)]] = Field(
        min_length=1,
        description="The values to choose from; a range among them is drawn from where it is chosen.",
    )

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
_BRANCHES: Any = Union[tuple(Annotated[kind, Tag(word)] for word, kind in (RANGES | LISTS).items())]  # noqa: UP007
_OPTION: TypeAdapter[Any] = TypeAdapter(Annotated[_BRANCHES, Discriminator(_option_word)])


def choice_key(value: Any) -> str:
    """A text that tells apart what Python takes for equal (1, 1.0 and true); of a range the way it is written."""
    if isinstance(value, Range):
        value = value.model_dump(by_alias=True, exclude_defaults=True)
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
                "steps of {step} from {low} do not meet {high}; the nearest they meet is {near}",
                {"step": step, "low": low, "high": high, "near": f"{low + max(1, round(steps)) * step:.12g}"},
            )


def whole_ends(value: Any) -> tuple[int, int] | None:
    """The least and the greatest of a setting's values where all are whole numbers, else None."""
    values = extremes(value)
    if all(isinstance(each, int) and not isinstance(each, bool) for each in values):
        return min(values), max(values)
    return None


def extremes(value: Any) -> list[Any]:
    """The values between which all of a setting lie: itself where it is fixed, all of a choice, the ends of a range.

    A list of ranges is given as it is.
    """
    if isinstance(value, Each):
        return [value]
    if isinstance(value, FloatRange | IntRange):
        return list(value.ends)
    if isinstance(value, Choice):
        return [each for option in value.choice for each in extremes(option)]
    return [value]
