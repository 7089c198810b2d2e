"""Families made up at random, with alternatives inside alternatives: every proposal is one that the file describes."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import optuna
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from pydantic import Field, create_model

from automl.space import (
    Alternatives,
    Choice,
    Parameter,
    Searchable,
    SearchableList,
    SearchableLists,
    SearchSpec,
    Section,
    parameters,
    parse,
    suggest,
)
from automl.space.parameters import choice_options
from automl.space.ranges import Range

Whole = Searchable[Annotated[int, Field(ge=1)]]
Real = Searchable[Annotated[float, Field(ge=0)]]
Mixed = Searchable[bool | int | float | str | None]
Lists = SearchableLists[Annotated[list[int], Field(max_length=3)]]


@dataclass
class Made:
    """A field of a made-up section: its type, and what the file says."""

    annotation: Any
    written: Any


WHOLE = [
    3,
    {"int": [1, 9]},
    {"int": [1, 1000], "log": True},
    {"int": [2, 10], "step": 4},
    {"choice": [1, 5]},
    {"choice": [1, {"int": [3, 9]}, {"int": [20, 40], "step": 10}, {"int": [50, 5000], "log": True}]},
]
REAL = [
    0.5,
    {"float": [0, 1]},
    {"float": [1e-7, 1e3], "log": True},
    {"float": [0.1, 0.7], "step": 0.1},
    {"int": [0, 3]},
    {"choice": [0, 1e-3]},
    {"choice": [0, {"float": [1e-3, 1], "log": True}, {"float": [2, 3], "step": 0.5}, {"float": [4, 5]}]},
]
MIXED = [
    "a",
    True,
    1,
    None,
    {"choice": [1, True, 1.0, "1", None]},
    {"choice": ["a", "b"]},
    {"choice": [False, True]},
    {"choice": [None, {"float": [0.1, 5.0]}, "auto"]},
]
LIST = [
    [1, 2],
    {"choice": [[1], [1, 2], []]},
    {"per": 2, "int": [1, 9], "log": True},
    {"per": {"int": [1, 3]}, "choice": [1, 2, 5]},
    {"per": {"int": [1, 3]}, "int": [2, 8], "step": 3},
    {"choice": [[1], {"per": {"int": [1, 3]}, "int": [2, 9]}, {"per": 2, "choice": [1, {"int": [10, 12]}]}]},
]
COUNTED = [
    7,
    {"per": "n", "int": [1, 9]},
    {"per": "n", "float": [0, 1], "step": 0.25},
    {"per": "n", "choice": [1, 2]},
    {"per": "n", "float": [1e-3, 1], "log": True},
    {"per": "n", "float": [1e-3, 1]},
    {"per": "n", "int": [2, 10], "step": 4},
    {"per": "n", "int": [2, 1000], "log": True},
    {"per": "n", "choice": [0, {"float": [1, 2]}]},
]
plain_settings = st.one_of(
    st.sampled_from(WHOLE).map(lambda written: Made(Whole, written)),
    st.sampled_from(REAL).map(lambda written: Made(Real, written)),
    st.sampled_from(MIXED).map(lambda written: Made(Mixed, written)),
    st.sampled_from(LIST).map(lambda written: Made(Lists, written)),
    st.sampled_from(["x", {"choice": ["x", "y"]}]).map(lambda written: Made(Searchable[Literal["x", "y"]], written)),
)


def section(fields: dict[str, Made]) -> Made:
    kind: Any = create_model(
        "Made", __base__=Section, **{name: (made.annotation, ...) for name, made in fields.items()}
    )
    return Made(kind, {name: made.written for name, made in fields.items()})


def alternatives(sections: dict[str, Made], unused: bool) -> Made:
    names: dict[str, Any] = {name: (made.annotation | None, None) for name, made in sections.items()}
    if unused:
        names["unused"] = (section({}).annotation | None, None)
    written = {name: made.written for name, made in sections.items()}
    return Made(create_model("MadeAlternatives", __base__=Alternatives, **names), written)


def sections(inner: st.SearchStrategy[Made]) -> st.SearchStrategy[Made]:
    counted = st.builds(
        lambda count, each: {"each": Made(SearchableList[float], each), "n": Made(Whole, count)},
        st.sampled_from([2, {"int": [1, 4]}, {"choice": [1, 3]}, {"choice": [1, {"int": [3, 4]}]}]),
        st.sampled_from(COUNTED),
    )
    fields = st.dictionaries(st.sampled_from("pqrs"), inner, max_size=3)
    return st.builds(lambda some, more: section({**some, **more}), fields, st.one_of(st.just({}), counted))


settings_or_alternatives = st.recursive(
    plain_settings,
    lambda inner: st.builds(
        alternatives, st.dictionaries(st.sampled_from("ABC"), sections(inner), min_size=1), st.booleans()
    ),
    max_leaves=12,
)
families = st.dictionaries(st.sampled_from(["f", "g", "h"]), sections(settings_or_alternatives), min_size=1)


def every_kind() -> dict[str, Made]:
    """One family with every kind of setting and range of this module at once."""
    kinds = {"w": (Whole, WHOLE), "r": (Real, REAL), "m": (Mixed, MIXED), "l": (Lists, LIST)}
    kinds["c"] = (SearchableList[float], COUNTED)
    fields = {
        f"{name}{position}": Made(annotation, written)
        for name, (annotation, settings) in kinds.items()
        for position, written in enumerate(settings)
    }
    chosen = alternatives({"A": section({"p": Made(Whole, {"int": [1, 9]})}), "B": section({})}, True)
    return {"f": section({**fields, "n": Made(Whole, {"int": [1, 3]}), "q": chosen}), "g": section({})}


def made_spec(made: dict[str, Made], search: dict[str, Any] | None = None) -> SearchSpec:
    model = {name: each.written for name, each in made.items()}
    file = {"name": "made", "data": {"train": "t.csv"}, "model": model, "search": search or {}}
    file["training"] = {"optimizer": {"adamw": {"learning_rate": 0.01}}}
    return parse(json.dumps(file), {name: each.annotation for name, each in made.items()})  # JSON is YAML


def value_at(config: dict[str, Any], path: str) -> Any:
    """What a parameter is in a configuration; of a range inside a choice, what was chosen."""
    value: Any = config
    for name in re.sub(r"[.]choice\[\d+\]", "", path).replace("[", ".").replace("]", "").split("."):
        if name == "per":
            return len(value)
        value = value[int(name) if isinstance(value, list) else name]
    return value


def is_active(parameter: Parameter, config: dict[str, Any], params: dict[str, Any]) -> bool:
    for name, chosen in parameter.when:
        if isinstance(chosen, str):
            if params.get(name) != chosen:
                return False
            continue
        try:
            value = value_at(config, name)
        except KeyError:  # among alternatives that were not chosen
            return False
        if value < chosen:
            return False
    return True


def check_inside(parameter: Parameter, config: dict[str, Any], params: dict[str, Any]) -> None:
    value, searched = value_at(config, parameter.name), parameter.range
    if isinstance(searched, Choice):
        option = choice_options(searched)[params[parameter.name]]
        chosen = next(iter(value)) if isinstance(value, dict) else value
        assert isinstance(option, Range) or json.dumps(chosen) == json.dumps(option)
    else:
        low, high = searched.ends
        assert low <= value <= high
        steps = (value - low) / searched.step if searched.step else 0
        assert abs(steps - round(steps)) < 1e-6


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@example(every_kind(), 0)
@given(families, st.integers(0, 1000))
def test_proposals_are_what_the_file_describes(made: dict[str, Made], seed: int) -> None:
    spec = made_spec(made)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    config = suggest(spec, trial)
    assert suggest(spec, trial) == config
    assert json.loads(json.dumps(config, allow_nan=False)) == config
    described = parameters(spec)
    assert len({parameter.name for parameter in described}) == len(described)
    active = [parameter for parameter in described if is_active(parameter, config, trial.params)]
    assert list(trial.params) == [parameter.name for parameter in active]
    for parameter in active:
        check_inside(parameter, config, trial.params)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(families)
def test_a_stored_proposal_is_read_back_as_it_was_made(made: dict[str, Made]) -> None:
    spec = made_spec(made)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "study.journal")
        study = optuna.create_study(study_name="s", storage=JournalStorage(JournalFileBackend(path)))
        trial = study.ask()
        config = suggest(spec, trial)
        length = Path(path).stat().st_size
        again = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(path)))
        read_back = suggest(spec, optuna.Trial(again, trial._trial_id))
        assert json.dumps(read_back) == json.dumps(config)  # 1, 1.0 and true are three values
        assert Path(path).stat().st_size == length, "reading a proposal back writes nothing"
