"""The examples in the documentation are files that this version reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from automl.models import FAMILIES
from automl.space import parse, sample_configs

ROOT = Path(__file__).parents[2]
EXAMPLES = [
    pytest.param(text, id=f"{file}:{position}")
    for file in ("README.md", "docs/search-spaces.md")
    for position, text in enumerate(re.findall(r"```yaml\n(.*?)```", (ROOT / file).read_text(encoding="utf-8"), re.S))
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_is_valid(text: str) -> None:
    assert sample_configs(parse(text, FAMILIES), 3, seed=0)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6
