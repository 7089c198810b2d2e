"""What every configuration must meet: conditions between its settings, and limits on what it costs."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from automl.space.expressions import ExpressionError, parse_expression
from automl.space.sections import Section
from automl.space.wording import shown


def _condition(value: Any) -> Any:
    if not isinstance(value, str):
        raise PydanticCustomError(
            "expression", "expected a condition, as in model.rnn.hidden <= 128; got {value}", {"value": shown(value)}
        )
    try:
        parse_expression(value)
    except ExpressionError as error:
        raise PydanticCustomError("expression", "{why}", {"why": str(error), "offset": error.column}) from error
    return value


Condition = Annotated[str, BeforeValidator(_condition)]
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)(i?)b?", re.IGNORECASE)
_AMOUNT_PATTERN = "^[0-9]+([.][0-9]+)? *[kKmMgG]?i?[bB]?$"


def _amount(value: Any) -> Any:
    """A number of at least 1, or a text such as 8MB, 2M or 1.5 GiB, as a number."""
    if isinstance(value, str) and (match := _AMOUNT.fullmatch(value.strip())):
        base = 1024 if match[3] else 1000
        value = float(match[1]) * base ** " kmg".index(match[2].lower() or " ")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < math.inf:
        raise PydanticCustomError(
            "amount", "expected an amount such as 2e6, 2M or 8MB; got {value}", {"value": shown(value)}
        )
    return float(value)


Amount = Annotated[
    float | None,
    BeforeValidator(lambda value: None if value is None else _amount(value)),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 1}, {"type": "string", "pattern": "^[0-9.]+ ?[kKmMgG]?i?[bB]?$"}]}
    ),
]


class Limits(Section):
    """What a configuration may cost, known before it is trained; what costs more is not trained and costs no trial."""

    parameters: Amount = Field(None, description="Trainable numbers of the network, e.g. 2M.")
    bytes: Amount = Field(None, description="Size of its weights, e.g. 8MB.")
    activation_memory: Amount = Field(
        None, description="Estimated bytes kept for the backward pass of a batch of the longest texts, e.g. 500MB."
    )
    flops: Amount = Field(
        None, description="Estimated floating-point operations to label one text of the greatest length, e.g. 20M."
    )

    def given(self) -> dict[str, float]:
        """The limits that the file sets, by name."""
        return {name: limit for name in type(self).model_fields if (limit := getattr(self, name)) is not None}
