"""The `data` section of a configuration, as the tests change it."""

from __future__ import annotations

from typing import Any

CLEAN = {
    "fix_encoding": True,
    "strip_html": True,
    "urls": "replace",
    "user_names": "replace",
    "numbers": "keep",
    "lowercase": True,
}


def settings_for(train: object, **changes: Any) -> dict[str, Any]:
    return {
        "train": [str(train)],
        "validation": 0.25,
        "test": None,
        "text": "text",
        "label": "label",
        "on_bad_rows": "fail",
        "clean": CLEAN,
        "tokenizer": {"word": {"vocabulary": 100, "min_count": 1}},
        "max_length": "auto",
        **changes,
    }


def rows(count: int = 40) -> list[dict[str, Any]]:
    return [
        {"text": f"word{number % 7} and {number}", "label": ("no", "yes")[number % 4 == 0]} for number in range(count)
    ]
