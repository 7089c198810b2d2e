"""Constraints: what an expression means, where it is wrong, and to which configurations it applies."""

from __future__ import annotations

import time
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.models import FAMILIES
from automl.space import SpaceError, constraints_of, parse, sample_configs
from automl.space.evaluation import AbsentError, evaluate, truth, violation
from automl.space.expressions import ExpressionError, parse_expression
from automl.space.spec import searched_sections

VALUES: dict[str, Any] = {"a": 3, "b.c": 2.5, "d": 0, "e": "lstm", "f": True, "g[0]": 7}

numbers = st.recursive(
    st.sampled_from(["1", "2.5", "1e3", "10_000", "a", "b.c", "d", "g[0]"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(" ".join),
        inner.map(lambda text: f"-{text}"),
        inner.map(lambda text: f"({text})"),
        st.tuples(inner, inner).map(lambda pair: f"min({pair[0]}, {pair[1]})"),
        inner.map(lambda text: f"abs({text})"),
    ),
    max_leaves=6,
)
comparisons = st.one_of(
    st.tuples(numbers, st.sampled_from(["<=", ">=", "<", ">", "==", "!="]), numbers).map("".join),
    st.tuples(numbers, numbers, numbers).map(" < ".join),
    st.sampled_from(["e == 'lstm'", 'e != "gru"', "f == true", "f"]),
)
conditions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" and ", " or "]), inner).map("".join),
        inner.map(lambda text: f"not ({text})"),
        inner.map(lambda text: f"({text})"),
    ),
    max_leaves=5,
)


def as_python(text: str) -> str:
    return text.replace("b.c", "2.5").replace("g[0]", "7").replace("true", "True")


@settings(max_examples=400, deadline=None)
@given(conditions)
def test_an_expression_means_what_it_means_in_python(text: str) -> None:
    node = parse_expression(text)
    try:
        expected = eval(as_python(text), {"__builtins__": {"min": min, "abs": abs}}, dict(VALUES))
    except ZeroDivisionError:
        expected = None
    missed = violation(node, VALUES.__getitem__)
    assert 0 <= missed < float("inf")
    if expected is None:
        return  # a part of an `or` may decide before the division
    try:
        found = evaluate(node, VALUES.__getitem__)
    except ZeroDivisionError:
        return  # Python leaves out the end of a chain that is false already
    assert bool(found) == bool(expected)
    assert (missed == 0) == bool(expected)


def test_a_violation_says_how_far_off_a_configuration_is() -> None:
    assert violation(parse_expression("a * 100 <= 250"), VALUES.__getitem__) == 50
    assert violation(parse_expression("a < 3"), VALUES.__getitem__) > 0
    assert violation(parse_expression("a < 3 or a <= 1"), VALUES.__getitem__) < 1
    assert violation(parse_expression("a <= 1 and a <= 2"), VALUES.__getitem__) == 3
    assert violation(parse_expression("a / d < 1"), VALUES.__getitem__) == 1


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab.()[]1e<>=!+-*/% 'notrd,_\"&漢", max_size=60))
def test_any_text_is_a_condition_or_an_error_with_a_place(text: str) -> None:
    try:
        parse_expression(text)
    except ExpressionError as error:
        assert 0 <= error.column <= len(text)
        assert str(error)


@pytest.mark.parametrize("text", ["(" * 900, "not " * 240 + "a", "-" * 900 + "1 < 2", "9" * 900 + "< 1", "a<" * 400])
def test_hostile_expressions_end_quickly(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(ExpressionError):
        parse_expression(text)
    assert time.monotonic() - began < 1


FILE = """\
name: x
data: {train: t.csv}
model:
  rnn: {hidden: {per: layers, int: [16, 128], log: true}, layers: {int: [1, 3]}}
  cnn: {}
search:
  constraints:
  - %s
"""


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("model.rnn.hiden[0] <= 3", 5, "no setting 'model.rnn.hiden'; did you mean 'model.rnn.hidden'?"),
        ("sum(model.rnn.hidden) <= hidden", 30, "no setting 'hidden'; did you mean 'model.rnn.hidden'?"),
        ('"model.rnn.cell == 3"', 6, "text is compared with a number"),
        ("model.rnn.layers[0] < 3", 5, "model.rnn.layers is no list but a number"),
        ("model.rnn.hidden < 3", 5, "expected a number; model.rnn.hidden is a list"),
        ("model == 'rmn'", 14, "model is never 'rmn'; did you mean 'rnn'?"),
        ("model.rnn.layers = 2", 22, "unknown sign '='; write =="),
        ("model.rnn.layers ** 2 < 4", 22, "unknown sign '**'; write repeated *"),
        ("model.rnn.layers", 5, "expected true or false; model.rnn.layers is a number"),
        ("model.rnn.layers * 2", 5, "expected a condition, as in"),
        ("2 < (model.rnn.layers", 26, "expected ')'"),
        ("__import__(1) < 2", 5, "unknown function '__import__'; there are min, max, sum, len, abs"),
        ("7", 5, "expected a condition, as in model.rnn.hidden <= 128; got 7"),
        ("model.rnn.layers < ", 23, "expected a setting or a number"),
        ("model.rnn < 3", 5, "no setting 'model.rnn'"),
        ("model.cnn_rnn.hidden < 100 and training.optimizer != 'lion'", 58, "training.optimizer is never 'lion'"),
        ("len(3, 4) < 2", 5, "len takes one value; got 2"),
    ],
)
def test_a_wrong_constraint_is_explained_where_it_is(text: str, column: int, words: str) -> None:
    with pytest.raises(SpaceError) as caught:
        parse(FILE % text, FAMILIES, file="x.yaml")
    assert len(caught.value.problems) == 1
    problem = caught.value.problems[0]
    assert words in problem.message
    assert (problem.line, problem.column) == (8, column)


def violations(text: str) -> list[tuple[dict[str, Any], float]]:
    """Sampled configurations, and how far each is from meeting a condition."""
    spec = parse(FILE % text, FAMILIES)
    (written,) = spec.search.constraints
    constraints = constraints_of(spec.search.constraints, searched_sections(spec))
    configs = sample_configs(spec, 60, seed=0, feasible=False)
    return [(config, constraints.violations(config)[written]) for config in configs]


def test_a_constraint_of_another_family_does_not_apply() -> None:
    seen = set()
    for config, missed in violations("model.rnn.hidden[2] <= 40"):
        rnn = config["model"].get("rnn")
        applies = rnn is not None and rnn["layers"] == 3
        met = not applies or rnn["hidden"][2] <= 40
        assert (missed == 0) == met
        seen.add((applies, met))
    assert seen == {(False, True), (True, True), (True, False)}


@pytest.mark.parametrize(
    ("text", "cnn"),
    [
        ("training.batch_size <= 32 and model.rnn.layers <= 2", lambda batch: batch <= 32),
        ("model.rnn.layers <= 2 and training.batch_size <= 32", lambda batch: batch <= 32),
        ("not (training.batch_size > 32 or model.rnn.layers > 2)", lambda batch: batch <= 32),
        ("(model.rnn.layers <= 2 and (training.batch_size <= 32 and true == true))", lambda batch: batch <= 32),
        ("16 < training.batch_size <= 32 * model.rnn.layers", lambda batch: batch > 16),
        ("training.batch_size <= 32 or model.rnn.layers <= 2", lambda batch: True),
        ("training.batch_size * model.rnn.layers <= 32", lambda batch: True),
        ("not (training.batch_size > 32 and model.rnn.layers > 2)", lambda batch: True),
        ("model != 'cnn' or (training.batch_size <= 32 and model.rnn.layers <= 2)", lambda batch: batch <= 32),
    ],
)
def test_each_part_that_a_family_has_the_settings_for_is_judged(text: str, cnn: Any) -> None:
    space = FILE.replace("search:", "training: {batch_size: {choice: [16, 32, 64]}}\nsearch:")
    spec = parse(space % text, FAMILIES)
    constraints = constraints_of(spec.search.constraints, searched_sections(spec))
    seen = set()
    for config in sample_configs(spec, 60, seed=1, feasible=False):
        if "cnn" in config["model"]:
            batch = config["training"]["batch_size"]
            assert (list(constraints.violations(config).values()) == [0]) == cnn(batch), batch
            seen.add(batch)
    assert seen == {16, 32, 64}


letters = st.recursive(
    st.sampled_from(["p", "q", "r", "p == q", "p == q == r"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" and ", " or "]), inner).map("".join),
        inner.map(lambda text: f"not ({text})"),
        inner.map(lambda text: f"({text})"),
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(letters, st.dictionaries(st.sampled_from("pqr"), st.booleans()))
def test_what_is_judged_without_a_name_holds_whatever_it_would_be(text: str, there: dict[str, bool]) -> None:
    def value_of(name: str) -> bool:
        if name not in there:
            raise AbsentError
        return there[name]

    absent = sorted(set("pqr") - there.keys())
    values = [there | dict(zip(absent, each, strict=True)) for each in product((False, True), repeat=len(absent))]
    outcomes = {bool(eval(text, {}, each)) for each in values}
    node = parse_expression(text)
    met = truth(node, value_of)
    assert met is None or outcomes == {met}
    assert met is not None or absent
    missed = violation(node, value_of)
    assert (missed is not None and missed > 0) <= (outcomes == {False})
    assert (met is True) <= (missed == 0)


@pytest.mark.parametrize(
    ("written", "amount"),
    [("2e6", 2e6), ("2M", 2e6), ("8MB", 8e6), ("1.5 GiB", 1.5 * 2**30), ("64k", 64e3), ("10", 10.0)],
)
def test_amounts(written: str, amount: float) -> None:
    text = f"name: x\ndata: {{train: t}}\nmodel: {{cnn: {{}}}}\nsearch: {{limits: {{parameters: {written}}}}}"
    assert parse(text, FAMILIES).search.limits.given() == {"parameters": amount}


@pytest.mark.parametrize("written", ["lots", "0", "-3", "true", "[1]", "2 TB", ".nan", "8 MBB"])
def test_what_is_no_amount(written: str) -> None:
    with pytest.raises(SpaceError, match="expected an amount such as 2e6, 2M or 8MB"):
        parse(f"name: x\ndata: {{train: t}}\nmodel: {{cnn: {{}}}}\nsearch: {{limits: {{bytes: {written}}}}}", FAMILIES)
