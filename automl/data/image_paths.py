"""Cells of tables that name image files, or hold pixels as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from automl.space.safe_files import read_regular

LARGEST_FILE = 256 * 1024 * 1024  # bytes


def path_and_content(value: Any) -> tuple[str | None, Any]:
    """The path that a cell has, and its content: a file's bytes, or nested lists; both None where it has nothing.

    Text is a path, or lists of lists as JSON.
    """
    path, content = (value.get("path"), value.get("bytes")) if isinstance(value, dict) else (None, value)
    if isinstance(value, dict) and content is None:
        content = path
    if not isinstance(content, str):
        return (path if isinstance(path, str) else None), content
    if not content.strip():
        return None, None
    if not is_pixels(content):
        return content, None
    try:
        return None, json.loads(content)
    except (ValueError, RecursionError):
        return content, None


def is_pixels(text: str) -> bool:
    """Whether text is meant as lists of lists of pixels, which no path is taken for."""
    return text[:64].replace(" ", "").lstrip().startswith("[[")


def open_image(path: str | Path) -> bytes:
    """The bytes of an image file; raises as `read_regular` does."""
    return read_regular(Path(path), LARGEST_FILE)
