"""The `data` section of a configuration, as the tests change it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLEAN = {
    "fix_encoding": True,
    "strip_html": True,
    "urls": "replace",
    "user_names": "replace",
    "numbers": "keep",
    "lowercase": True,
}


TEXTS = {
    "text": "text",
    "clean": CLEAN,
    "tokenizer": {"word": {"vocabulary": 100, "min_count": 1}},
    "max_length": "auto",
}
IMAGES = {"image": "image", "size": "auto", "colour": "auto"}
SERIES = {"series": "series", "max_length": "auto"}


def settings_for(train: object, inputs: Mapping[str, Any] = TEXTS, **changes: Any) -> dict[str, Any]:
    return {
        "train": [str(train)],
        "validation": 0.25,
        "test": None,
        "label": "label",
        "on_bad_rows": "fail",
        **inputs,
        **changes,
    }


def rows(count: int = 40) -> list[dict[str, Any]]:
    return [
        {"text": f"word{number % 7} and {number}", "label": ("no", "yes")[number % 4 == 0]} for number in range(count)
    ]
