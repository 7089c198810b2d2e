"""The examples in the documentation are files, ranges and settings that this version reads."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from automl.cli import app
from automl.space import json_schema, parse, sample_configs
from automl.space.expressions import FUNCTIONS
from automl.space.families import FAMILIES
from automl.space.ranges import RANGES
from automl.space.reference import BEGIN, written

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/search-spaces.md").read_text(encoding="utf-8")
EXAMPLES = [
    pytest.param(text, id=f"{file}:{position}")
    for file in ("README.md", "docs/search-spaces.md")
    for position, text in enumerate(re.findall(r"```yaml\n(.*?)```", (ROOT / file).read_text(encoding="utf-8"), re.S))
]
BESIDE = PAGE.partition(BEGIN)[0]  # the tables beside other languages; those of every setting are written by the code
ROWS = [
    line.strip("| ").split(" | ") for line in BESIDE.splitlines() if line.startswith("| ") and "elsewhere" not in line
]
CODE = [code for row in ROWS for code in re.findall(r"`([^`]+)`", row[-1])]
BASE = """\
name: base
data: {train: reviews.csv}
model: {cnn: {}, rnn: {layers: {int: [1, 3]}, hidden: {int: [16, 64]}}}
"""
NOT_IN_FILES = {
    "study.journal",
    "null",
    "+ - * / // %",
    "extends: base.yaml",
    "without",
    "and",
    "or",
    "not",
    "per",
    *FUNCTIONS,
}


def names(schema: Any) -> Iterator[str]:
    """Every name of a setting and every named value that a JSON Schema has."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        yield from (str(value) for value in [*schema.get("enum", []), schema.get("const")])
        schema = list(schema.values())
    for inner in schema if isinstance(schema, list) else ():
        yield from names(inner)


NAMES = {*names(json_schema(FAMILIES))}


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_is_valid(text: str) -> None:
    assert sample_configs(parse(text, FAMILIES), 3, seed=0)


@pytest.mark.parametrize("code", CODE)
def test_what_a_table_says_can_be_said(code: str) -> None:
    override = re.fullmatch(r"([a-z_.]+): (.+)", code)
    if code.startswith("{"):
        written = YAML(typ="safe").load(code)
        (word,) = set(written) & set(RANGES)
        assert RANGES[word].model_validate(written)
    elif code.startswith("automl "):
        assert code.split()[1] in {command.name or command.callback.__name__ for command in app.registered_commands}
    elif code.startswith("--set "):
        assert parse(BASE, FAMILIES, overrides=shlex.split(code)[1:])
    elif code not in NOT_IN_FILES and override:
        assert parse(BASE, FAMILIES, overrides=[f"{override[1]}={override[2]}"])
    else:
        assert code in NOT_IN_FILES or code.rpartition(".")[2] in NAMES


def test_every_row_has_ours_or_a_reason() -> None:
    assert len(ROWS) >= 50 and all(len(row) == 3 for row in ROWS)
    assert all("`" in row[2] or len(row[2]) > 20 for row in ROWS)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6


def test_the_tables_of_every_setting_are_those_of_the_code() -> None:
    assert written(PAGE, FAMILIES) == PAGE, "make docs writes them again"


def test_every_name_that_a_file_may_have_stands_on_the_page() -> None:
    schema = json_schema(FAMILIES)
    ranges = {"step", "log", "float", "int", "choice", "per", "extends", "file", "without", "None"}
    missing = {name for name in names(schema) if not re.search(rf"[`.]{re.escape(name)}`", PAGE)}
    assert missing - ranges == set()
