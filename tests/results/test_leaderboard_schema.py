"""The page on the leaderboard's columns against the columns themselves."""

import re
from pathlib import Path

from automl.results.formats import SCHEMA_VERSION
from automl.results.leaderboard import COLUMNS

PAGE = Path(__file__).parents[2] / "docs" / "leaderboard.md"


def test_the_page_lists_exactly_the_columns_their_types_and_the_version() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.MULTILINE) == list(COLUMNS.items())
    assert f"Schema version {SCHEMA_VERSION}:" in page
