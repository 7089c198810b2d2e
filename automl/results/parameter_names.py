"""Names and values of what was searched, in the few words that fit into a table or under a plot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FAMILY = "model"  # the parameter that chooses among families


def short_name(name: str) -> str:
    """`hidden` of `model.rnn.hidden`, `batch_size` of `training.batch_size`, `adamw.momentum` where it is of AdamW.

    The section and the family are left out, as they are said elsewhere.
    """
    if name == FAMILY:
        return "family"
    parts = name.split(".")
    if parts[0] == FAMILY and len(parts) > 2:
        return ".".join(parts[2:][-2:])
    return ".".join(parts[1:][-2:]) or name


def value_text(value: Any) -> str:
    """A value as short as it can be told."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def settings_text(params: Mapping[str, Any]) -> str:
    """What was chosen for a trial: `hidden 64, adamw.learning_rate 0.0012`."""
    chosen = (f"{short_name(name)} {value_text(value)}" for name, value in params.items() if name != FAMILY)
    return ", ".join(chosen)
