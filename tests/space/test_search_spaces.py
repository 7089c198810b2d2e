"""The files that the repository ships: valid, described by the schema, and every one of them runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from automl.models import FAMILIES
from automl.search.feasibility import Costs, judge_of
from automl.space import json_schema, load, sample_configs

FOLDER = Path(__file__).parents[2] / "search_spaces"
FILES = sorted(FOLDER.glob("*.yaml"))
SCHEMA = jsonschema.Draft202012Validator(json_schema(FAMILIES))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_valid_and_described_by_the_schema(path: Path) -> None:
    content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    assert list(SCHEMA.iter_errors(content)) == []
    spec = load(path, FAMILIES)
    judge = judge_of(spec, Costs())
    configs = sample_configs(spec, 30, seed=0, feasible=False)
    assert sum(not any(judge(config).values()) for config in configs) >= 3, "hardly any proposal is feasible"


WRONG: list[dict[str, Any]] = [
    {"extends": "base.yaml", "training": {"batch_sise": 3}},
    {"extends": "base.yaml", "training": {"batch_size": {"int": [1, 2], "choice": [3]}}},
    {"extends": "base.yaml", "training": {"batch_size": {"int": [1]}}},
    {"extends": "base.yaml", "training": {"batch_size": "many"}},
    {"extends": "base.yaml", "model": {"rnm": {}}},
    {"extends": "base.yaml", "model": {"rnn": {"layers": {"per": 3, "int": [1, 2]}}}},
    {"extends": "base.yaml", "model": {"rnn": {"hidden": {"per": [], "int": [1, 2]}}}},
    {"extends": "base.yaml", "search": {"sampler": "annealing"}},
    {"extends": "base.yaml", "search": {"limits": {"parameters": "many"}}},
    {"extends": "base.yaml", "search": {"constraints": 3}},
    {"extends": "base.yaml", "search": {"early_stopping": {"asha": {}, "none": {}}}},
    {"extends": {"without": ["model"]}},
    {"name": "x", "data": {"train": "t.csv"}},
    {"name": "../x", "data": {"train": "t.csv"}, "model": {"cnn": {}}},
    {"name": "x", "data": {"train": "t.csv"}, "model": {}},
]


@pytest.mark.parametrize("content", WRONG, ids=lambda content: json.dumps(content)[:60])
def test_an_editor_underlines_what_is_wrong(content: dict[str, Any]) -> None:
    assert list(SCHEMA.iter_errors(content))


BROKEN = sorted((Path(__file__).parent / "broken").glob("*.yaml"))
# What lies between several settings, in an expression, in another file or in the order of two numbers.
BEYOND_A_SCHEMA = {
    *("cmaes_of_choices", "grace_after_the_end", "grid_of_continuous", "list_of_the_wrong_length", "list_per_nothing"),
    *("constraint_in_python", "constraint_of_text_and_number", "constraint_with_a_wrong_name"),
    *("constraint_with_one_equals_sign", "log_from_zero", "range_backwards", "step_misses_end", "no_such_base"),
    *("objectives_and_another_metric", "objectives_and_cmaes", "objectives_and_ensemble"),
    *("objectives_begin_with_a_cost", "nothing_left_to_train_on", "start_outside", "start_with_two_families"),
}


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_an_editor_underlines_broken_files(path: Path) -> None:
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (YAMLError, RecursionError):
        return  # no editor reads it
    assert SCHEMA.is_valid(content) == (path.stem in BEYOND_A_SCHEMA)


def test_every_setting_is_explained_to_an_editor() -> None:
    schema = json_schema(FAMILIES)
    nameless = [
        f"{kind}.{name}"
        for kind, definition in schema["$defs"].items()
        for name, setting in definition.get("properties", {}).items()
        if "description" not in setting
        and "$ref" not in setting
        and not any("$ref" in option for option in setting.get("anyOf", ()))
    ]
    assert nameless == []
    assert all("description" in definition for definition in schema["$defs"].values())
