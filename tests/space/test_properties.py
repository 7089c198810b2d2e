"""Every space that can be written: proposals lie inside it, and come back from a stored study as they were."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ruamel.yaml import YAML

from automl.models import FAMILIES
from automl.space import Choice, FloatRange, IntRange, SearchSpec, json_schema, parameters, parse, suggest

scalars = st.one_of(st.integers(1, 500), st.floats(0.001, 0.9, allow_nan=False))


@st.composite
def int_settings(draw: st.DrawFn, low: int = 1) -> Any:
    if draw(st.booleans()):
        return draw(st.integers(low, 300))
    first, second = draw(st.integers(low, 100)), draw(st.integers(101, 400))
    kind = draw(st.sampled_from(["plain", "log", "step", "choice"]))
    if kind == "choice":
        return {"choice": draw(st.lists(st.integers(low, 300), min_size=1, max_size=4, unique=True))}
    if kind == "step":
        return {"int": [first, first + 3 * 7], "step": 7}
    return {"int": [first, second], **({"log": True} if kind == "log" else {})}


@st.composite
def float_settings(draw: st.DrawFn) -> Any:
    low = draw(st.floats(1e-6, 0.1, allow_nan=False))
    high = draw(st.floats(0.11, 0.9, allow_nan=False))
    return draw(
        st.sampled_from([low, {"float": [low, high]}, {"float": [low, high], "log": True}, {"choice": [low, high]}])
    )


families = {
    "cnn": st.fixed_dictionaries(
        {},
        optional={
            "embedding": int_settings(),
            "channels": int_settings(),
            "dropout": float_settings(),
            "kernel_sizes": st.just({"choice": [[3], [1, 2], [2, 3, 4]]}),
            "activation": st.sampled_from(["relu", {"choice": ["relu", "tanh"]}]),
        },
    ),
    "rnn": st.fixed_dictionaries(
        {},
        optional={
            "hidden": int_settings(),
            "bidirectional": st.sampled_from([True, {"choice": [True, False]}]),
            "cell": st.sampled_from(["lstm", {"choice": ["gru", "lstm"]}]),
        },
    ),
    "cnn_rnn": st.fixed_dictionaries({}, optional={"stride": st.sampled_from([1, {"int": [1, 3]}])}),
}


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(families)), min_size=1, unique=True))
    return {
        "name": "x",
        "data": {
            "train": "t.csv",
            "tokenizer": draw(
                st.sampled_from([{"word": {}}, {"word": {"vocabulary": {"int": [10, 100]}}, "bpe": {}, "char": {}}])
            ),
        },
        "model": {name: draw(families[name]) for name in names},
        "training": {
            "optimizer": draw(
                st.sampled_from([{"adamw": {}}, {"adamw": {}, "sgd": {"momentum": {"float": [0.1, 0.9]}}}])
            ),
            "batch_size": draw(int_settings()),
            "loss": draw(
                st.sampled_from([{"focal": {}}, {"focal": {"gamma": {"float": [0, 3]}}, "cross_entropy": {}}])
            ),
        },
    }


def as_spec(space: dict[str, Any]) -> SearchSpec:
    import io

    buffer = io.StringIO()
    YAML(typ="safe").dump(space, buffer)
    return parse(buffer.getvalue(), FAMILIES)


def at(config: dict[str, Any], path: str) -> Any:
    """The value of a parameter in a configuration: for a choice of alternatives, the name of the one that is there."""
    value: Any = config
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spaces(), st.integers(0, 10_000))
def test_proposals_lie_inside_and_inactive_parameters_are_absent(space: dict[str, Any], seed: int) -> None:
    spec = as_spec(space)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    config = suggest(spec, trial)
    stored = study.trials[0].params
    active = set()
    for parameter in parameters(spec):
        if any(at(config, name) is None or chosen not in at(config, name) for name, chosen in parameter.when):
            assert parameter.name not in stored
            continue
        active.add(parameter.name)
        value = at(config, parameter.name)
        if isinstance(parameter.range, FloatRange | IntRange):
            low, high = parameter.range.ends
            assert low <= value <= high
            assert isinstance(value, int if isinstance(parameter.range, IntRange) else float)
            if parameter.range.step:
                steps = (value - low) / parameter.range.step
                assert math.isclose(steps, round(steps), abs_tol=1e-9)
        else:
            assert isinstance(parameter.range, Choice)
            options = parameter.range.choice
            assert value in options or (isinstance(value, dict) and next(iter(value)) in options)
    assert set(stored) == active
    assert len(config["model"]) == len(config["training"]["optimizer"]) == len(config["data"]["tokenizer"]) == 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spaces())
def test_a_stored_trial_gives_its_configuration_again(space: dict[str, Any]) -> None:
    import tempfile

    spec = as_spec(space)
    with tempfile.TemporaryDirectory() as folder:
        storage = JournalStorage(JournalFileBackend(str(Path(folder) / "study.journal")))
        study = optuna.create_study(study_name="x", storage=storage)
        trial = study.ask()
        config = suggest(spec, trial)
        again = optuna.load_study(
            study_name="x", storage=JournalStorage(JournalFileBackend(str(Path(folder) / "study.journal")))
        )
        assert suggest(spec, optuna.Trial(again, trial._trial_id)) == config


def test_one_and_true_are_told_apart() -> None:
    text = "name: x\ndata: {train: t.csv}\nmodel: {rnn: {bidirectional: {choice: [true, false]}}}"
    spec = parse(text, FAMILIES)
    study = optuna.create_study()
    assert {str(suggest(spec, study.ask())["model"]["rnn"]["bidirectional"]) for _ in range(30)} == {"True", "False"}


def test_the_file_of_the_quickstart_is_valid_and_its_schema_describes_it() -> None:
    import jsonschema

    path = Path(__file__).parents[2] / "search_spaces" / "tweet_sentiment.yaml"
    schema = json_schema(FAMILIES)
    jsonschema.Draft202012Validator.check_schema(schema)
    content = YAML(typ="safe").load(path.read_text())
    jsonschema.validate(content, schema)
    content["training"]["batch_sise"] = 3
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(content))
    assert parse(path.read_text(), FAMILIES).search.trials >= 20
