"""Broken files: each mistake is found, placed, and said in words that help."""

from __future__ import annotations

import pickle
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from automl.models import FAMILIES
from automl.space import SpaceError, UserError, load, parse

GOOD = """\
name: movies
task: text_classification
data:
  train: train.csv
  validation: 0.2
  text: review
  label: sentiment
  clean: {lowercase: {choice: [true, false]}}
  tokenizer: {word: {vocabulary: 5000}}
model:
  cnn: {}
  rnn: {hidden: {int: [64, 256], log: true}, cell: lstm}
training:
  optimizer:
    adamw: {learning_rate: {float: [1e-4, 1e-2], log: true}}
    sgd: {}
  batch_size: {choice: [32, 64]}
search:
  metric: accuracy
  trials: 40
  time_budget: 20m
  early_stopping: {asha: {max_epochs: 9}}
resources: {per_trial: {cpus: 1, gpus: 0}, max_concurrent: auto}
"""

BROKEN = [
    ("learning_rate", "learnin_rate", (15, 13), "unknown key 'learnin_rate'; did you mean 'learning_rate'?"),
    ("[1e-4, 1e-2]", "[1e-2, 1e-4]", (15, 36), "a range goes from a lower to a higher end; got [0.01, 0.0001]"),
    ("[64, 256]", "[0, 256]", (12, 23), "model.rnn.hidden: a log range begins above 0; got 0"),
    ("[64, 256]", "[64.5, 256]", (12, 24), "model.rnn.hidden: expected a whole number; got 64.5"),
    ("[64, 256]", "[64]", (12, 23), "model.rnn.hidden: expected two numbers: [low, high]"),
    ("[64, 256], log", "[64, 256], lgo", (12, 34), "unknown key 'lgo'; did you mean 'log'?"),
    ("[64, 256], log: true", "[64, 256], step: 100", (12, 23), "steps of 100 from 64 do not meet 256"),
    ("[64, 256], log: true", "[64, 256], log: true, step: 64", (12, 23), "a range has log or step, not both"),
    ("[1e-4, 1e-2]", "[1e-4, .inf]", (15, 43), "expected a finite number"),
    ("[1e-4, 1e-2], log: true", "[-1, 1]", (15, 37), "adamw.learning_rate: expected more than 0; got -1.0"),
    ("{choice: [32, 64]}", "{choice: [32, x]}", (17, 29), 'training.batch_size: expected a whole number; got "x"'),
    ("{choice: [32, 64]}", "{choice: []}", (17, 24), "expected at least one entry; got []"),
    ("{choice: [32, 64]}", "{choice: [32, 32]}", (17, 24), "choice lists 32 more than once"),
    (
        "{choice: [32, 64]}",
        "{float: [32, 64]}",
        (17, 15),
        "a range of float does not fit here; expected a whole number",
    ),
    ("{choice: [32, 64]}", "sixty", (17, 15), 'expected a whole number, or a range {int: [low, high]}; got "sixty"'),
    ("{choice: [32, 64]}", "0", (17, 15), "training.batch_size: expected at least 1; got 0"),
    ("{choice: [32, 64]}", "'64'", (17, 15), 'expected a whole number, or a range {int: [low, high]}; got "64"'),
    ("metric: accuracy", "metric: acuracy", (19, 11), "unknown value 'acuracy'; did you mean 'accuracy'?"),
    (
        "  rnn:",
        "  rmn:",
        (12, 3),
        "unknown family 'rmn'; did you mean 'rnn'? The families are rnn, cnn, cnn_rnn, rnn_cnn, dpcnn and tcn.",
    ),
    (
        "  cnn: {}",
        "  transformer: {}",
        (11, 3),
        "unknown family 'transformer'; expected cnn, rnn, cnn_rnn, rnn_cnn, dpcnn or tcn",
    ),
    ("cell: lstm", "cell: ltsm", (12, 52), "unknown value 'ltsm'; did you mean 'lstm'?"),
    ("trials: 40", "trials: 40.5", (20, 11), "search.trials: expected a whole number; got 40.5"),
    ("trials: 40", "trials: {int: [1, 2]}", (20, 11), "search.trials: cannot be searched; expected a whole number"),
    ("time_budget: 20m", "time_budget: 20", (21, 16), "say the unit of 20: 20s, 20m or 20h"),
    ("time_budget: 20m", "time_budget: soon", (21, 16), "expected a time such as 90s"),
    ("max_epochs: 9", "max_epochs: 2, grace_period: 3", (22, 26), "grace_period 3 is more than max_epochs 2"),
    (
        "{asha: {max_epochs: 9}}",
        "{asha: {}, none: {}}",
        (22, 19),
        "one way of early stopping, asha, hyperband, median or none",
    ),
    ("  train: train.csv\n", "", (3, 1), "'train' is missing in 'data'"),
    ("validation: 0.2", "validation: 2", (5, 15), "expected a fraction between 0 and 1; got 2"),
    ("name: movies", "name: ../movies", (1, 7), "a name is 1 to 64 letters"),
    ("task: text_classification", "task: image_classification", (6, 3), "unknown key 'text'; it is for text_class"),
    ("  metric: accuracy", "  sampler: cmaess", (19, 12), "unknown value 'cmaess'; did you mean 'cmaes'?"),
    (
        "  metric: accuracy",
        "  sampler: cmaes",
        (19, 12),
        "fix the choice of data.clean.lowercase",
    ),
    (
        "  metric: accuracy",
        "  sampler: grid",
        (19, 12),
        "give a step or a choice to model.cnn.token_dropout",
    ),
    (
        "{choice: [32, 64]}",
        "{ints: [32, 64]}",
        (17, 16),
        "training.batch_size: unknown range 'ints'; did you mean 'int'?",
    ),
    (
        "{choice: [32, 64]}",
        "{choice: [32], int: [1, 2]}",
        (17, 16),
        "a range has one of float, int, choice, not several",
    ),
    ("{choice: [32, 64]}", "{choice: [1, true]}", (17, 28), "training.batch_size: expected a whole number; got true"),
    ("{choice: [32, 64]}", "{int: [1, 99999999999999999999]}", (17, 25), "a whole number up to 9007199254740992"),
    ("{choice: [32, 64]}", "{int: [1, 9], step: 0}", (17, 35), "training.batch_size.step: expected more than 0; got 0"),
    ("{choice: [32, 64]}", "", (17, 3), "expected a whole number, or a range {int: [low, high]}; got nothing"),
    ("[1e-4, 1e-2], log: true", "[0.1, 0.2], step: 1e-300", (15, 36), "a step of 1e-300 is too small for this range"),
    ("    adamw: {", "    adamw: {float: [1, 2], ", (15, 13), "unknown key 'float'; expected learning_rate or weight"),
    ("data:\n", "data: !data\n", (3, 7), "the tag !data means nothing here"),
    ("name: movies", "name: @movies", (1, 7), "a value cannot begin with this character"),
    ("name: movies", "name: *movies", (1, 7), "no anchor &movies stands before this"),
    ("name: movies", "name: 7", (1, 7), "name: expected text; got 7; put it in quotes"),
    ("train: train.csv", "train: 7", (4, 10), "data.train: expected a file, or a list of files; got 7"),
    ("text: review", "text: ''", (6, 9), 'data.text: expected text that is not empty; got ""'),
    ("cpus: 1", "cpus: '1'", (23, 31), 'resources.per_trial.cpus: expected a number; got "1"'),
    ("{asha: {max_epochs: 9}}", "none", (22, 19), "a mapping with asha, hyperband, median or none in it"),
    ("{word: {vocabulary: 5000}}", "{choice: [word, bpe]}", (9, 15), "no range stands here: the names themselves are"),
    ("name: movies", "1: movies", (1, 1), "a name is text; put 1 in quotes"),
    ("name: movies", "name: movies\n---", (2, 1), "a second document begins here"),
    (
        "task: text_classification",
        "task: regression",
        (2, 7),
        "unknown value 'regression'; expected text_classification",
    ),
    ("cpus: 1", "cpus: 0", (23, 31), "resources.per_trial.cpus: expected more than 0; got 0"),
    ("64]}", "64]}\n  rows_per_epoch: 60", (14, 3), "training: rows_per_epoch 60 is less than a batch of 64 rows"),
    ("time_budget: 20m", "stall_timeout: 20", (21, 18), "say the unit of 20: 20s, 20m or 20h"),
    ("{cpus: 1", "{workers: 0, cpus: 1", (23, 34), "resources.per_trial.workers: expected at least 1; got 0"),
    ("max_concurrent: auto", "max_concurrent: all", (23, 60), "expected auto or a whole number of at least 1"),
    (
        "  metric: accuracy",
        "  metric: accuracy\n  metric: loss",
        (20, 3),
        "'metric' is given twice; the first stands on line 19",
    ),
    ("  batch_size", "\tbatch_size", (17, 1), "a tab cannot indent YAML; use spaces"),
    ("  batch_size: {", "  batch_size: {{", (18, 1), "not valid YAML"),
    ("  optimizer:\n", "  optimizer: {}\n  other:\n", (14, 14), "expected at least one of adamw, sgd"),
    (
        "hidden: {int: [64, 256], log",
        "hidden: {per: layers, int: [0, 256], log",
        (12, 36),
        "a log range begins above 0",
    ),
    ("{int: [64, 256]", "{per: layer, int: [64, 256]", (12, 23), "no setting beside it; did you mean 'layers'?"),
    ("{int: [64, 256]", "{per: 7, int: [64, 256]", (12, 23), "model.rnn.hidden.per: expected per: layers"),
    ("{int: [64, 256]", "{per: [], int: [64, 256]", (12, 23), "expected a setting of this section that counts"),
    ("{int: [64, 256], log: true}", "[64, 32]", (12, 17), "a list of 2 does not fit layers, which is 1"),
    ("cnn: {}", "cnn: {kernel_sizes: {per: 9, int: [1, 5]}}", (11, 29), "expected at most 8 entries; per makes 9"),
    ("cnn: {}", "cnn: {kernel_sizes: {per: 3, int: [1, 50]}}", (11, 41), "expected at most 31; got 50"),
    (
        "cnn: {}",
        "cnn: {channels: {per: 3, int: [1, 5]}}",
        (11, 20),
        "per makes a list, and model.cnn.channels is a",
    ),
    (
        "lowercase: {choice: [true, false]}",
        "lowercase: 1",
        (8, 22),
        "expected true or false, or {choice: [true, false]}; got 1",
    ),
]


@pytest.mark.parametrize(("old", "new", "place", "words"), BROKEN, ids=[case[1][:30] for case in BROKEN])
def test_a_mistake_is_found_where_it_is(old: str, new: str, place: tuple[int, int], words: str) -> None:
    assert old in GOOD
    with pytest.raises(SpaceError) as caught:
        parse(GOOD.replace(old, new, 1), FAMILIES, file="movies.yaml")
    problem = caught.value.problems[0]
    assert words in problem.message
    assert (problem.line, problem.column) == place
    assert problem.source == GOOD.replace(old, new, 1).splitlines()[place[0] - 1]
    assert str(caught.value).startswith(f"movies.yaml:{place[0]}:{place[1]}: ")


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file() -> None:
    text = GOOD.replace("train: train.csv", "trian: train.csv").replace("trials: 40", "trials: none")
    with pytest.raises(SpaceError) as caught:
        parse(text, FAMILIES)
    assert [problem.line for problem in caught.value.problems] == [4, 20]


def test_names_given_twice_are_all_said_with_the_other_mistakes() -> None:
    text = GOOD + "name: b\ntask: text_classification\nserch: {}\n"
    with pytest.raises(SpaceError) as caught:
        parse(text, FAMILIES, file="movies.yaml")
    assert [problem.line for problem in caught.value.problems] == [24, 25, 26]
    assert "'task' is given twice; the first stands on line 2" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_the_caret_stands_below_the_mistake() -> None:
    for before, width in [("漢字: 1, ", 10), (" " * 300, 56)]:
        with pytest.raises(SpaceError) as caught:
            parse(f"name: x\ndata: {{train: t}}\nmodel: {{cnn: {{}}}}\ntraining: {{{before}batch_siz: 1}}", FAMILIES)
        _, source, caret = str(caught.value.problems[-1]).splitlines()
        assert source.endswith("batch_siz: 1}")
        column = cell_len(source) - len("batch_siz: 1}")
        assert caret == " " * column + "^"
        assert column >= width and max(cell_len(source), cell_len(caret)) <= 80


def test_a_file_of_mistakes_is_not_printed_whole() -> None:
    with pytest.raises(SpaceError) as caught:
        parse("\n".join(f"key{number}: 1" for number in range(1000)), FAMILIES)
    assert len(caught.value.problems) == 1003
    assert str(caught.value).endswith("... and 963 more problems")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("- a\n- b", "expected a mapping at the top"),
        ("a: " + "[" * 5000 + "]" * 5000, "1:43: nested deeper than 40 levels"),
        ("\n".join(" " * depth + f"a{depth}:" for depth in range(1500)), "41:41: nested deeper than 40 levels"),
        ("a: &a [*a]\nname: x", "is missing"),
        ("a0: &a0 [x, x]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)), "aliases"),
        ("1: 2", "a name is text; put 1 in quotes"),
        ("? [1, 2]\n: 3", "a name is text"),
        ("name: !!python/object/apply:os.system [exit]", "1:7: the tag !!python/object/apply:os.system means nothing"),
        ("name: a: b", "not valid YAML"),
        ("\x00", "1:1: the character U+0000 cannot stand in YAML"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_hostile_text_ends_quickly_in_a_clear_error(text: str, words: str) -> None:
    began = time.process_time()
    with pytest.raises(SpaceError) as caught:
        parse(text, FAMILIES)
    assert words in str(caught.value)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "text",
    [
        "name: [" + "a," * 120_000 + "]",
        "{" + "a," * 120_000 + "}",
        "- a\n" * 60_000,
        "? " * 120_000,
        '"' + "a " * 120_000,
        "training: {batch_size: 0x" + "9" * 200_000 + "}",
    ],
    ids=lambda text: text[:12],
)
def test_the_largest_files_are_refused_within_seconds(text: str) -> None:
    began = time.process_time()
    with pytest.raises(SpaceError):
        parse(text, FAMILIES)
    assert time.process_time() - began < 5


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name in ("a" * 300, "a\0b"):
        with pytest.raises(UserError, match="cannot read"):
            load(tmp_path / name, FAMILIES)
    (tmp_path / "movies.yaml").write_text(GOOD, encoding="utf-8")
    with pytest.raises(UserError, match=r"no search-space file .*movie\.yaml; did you mean .*movies\.yaml"):
        load(tmp_path / "movie.yaml", FAMILIES)
    with pytest.raises(UserError, match="is a folder"):
        load(tmp_path, FAMILIES)
    (tmp_path / "latin.yaml").write_bytes("name: caf\xe9".encode("latin-1"))
    with pytest.raises(SpaceError, match=r"latin\.yaml:1:10: the file is not UTF-8"):
        load(tmp_path / "latin.yaml", FAMILIES)
    (tmp_path / "big.yaml").write_text("#" * 10_000_000)
    with pytest.raises(UserError, match="larger than 256 KiB"):
        load(tmp_path / "big.yaml", FAMILIES)
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load(tmp_path / "bom.yaml", FAMILIES).name == "movies"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("search.trials", "expected key.path=value"),
        ("serch.trials=3", "--set serch.trials=3: unknown key 'serch'; did you mean 'search'?"),
        ("search.trials=many", "--set search.trials=many: search.trials: expected a whole number"),
        ("model.rnn.hidden={int: [4, 2]}", "a range goes from a lower to a higher end"),
        ("search.trials={", "not valid YAML"),
        ("search.trials=3\nname: x", "expected one value"),
        ("data.train.first=x", "--set data.train.first=x: data.train: expected a file, or a list of files"),
    ],
)
def test_a_wrong_override_is_named(override: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(GOOD, FAMILIES, overrides=[override])
    assert words in str(caught.value)


def test_a_mistake_of_the_file_is_not_blamed_on_an_override() -> None:
    with pytest.raises(SpaceError) as caught:
        parse(GOOD.replace("name: movies\n", ""), FAMILIES, file="movies.yaml", overrides=["search.trials=3"])
    assert str(caught.value) == "movies.yaml:1:1: 'name' is missing at the top of the file"


def test_overrides_replace_values_and_ranges() -> None:
    spec = parse(
        GOOD, FAMILIES, overrides=["search.trials=3", "model.rnn.hidden={int: [4, 8]}", "training.loss.focal={}"]
    )
    assert spec.search.trials == 3
    assert spec.model.named()["rnn"].hidden.ends == (4, 8)  # type: ignore[attr-defined]
    assert list(spec.training.loss.named()) == ["focal"]


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_space_or_a_space_error(text: str) -> None:
    try:
        parse(text, FAMILIES)
    except SpaceError as error:
        assert str(error)


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda text: text.encode("utf-16"))))
def test_any_file_is_a_space_or_a_user_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.yaml"
        path.write_bytes(content)
        try:
            load(path, FAMILIES)
        except UserError as error:
            assert str(error)


YAML_PIECES = [
    *"[]{}:,-?&*!|>%@`'\"#~ \t\n",
    "\n  ",
    "- ",
    "? ",
    "<<: ",
    "*a",
    "&a ",
    "!!int ",
    "---\n",
    "1e-4",
    ".nan",
    "9" * 20,
    "true",
    "name: x\n",
] + [f"{word}: " for word in ("model", "data", "cnn", "float", "choice", "int", "log", "training")]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(YAML_PIECES), max_size=40).map("".join))
def test_any_yaml_is_a_space_or_a_space_error(text: str) -> None:
    try:
        parse(text, FAMILIES)
    except SpaceError as error:
        assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.text(max_size=5), st.integers(0, 10))
def test_a_damaged_file_is_a_space_or_a_space_error(position: int, inserted: str, removed: int) -> None:
    text = GOOD[:position] + inserted + GOOD[position + removed :]
    try:
        parse(text, FAMILIES)
    except SpaceError as error:
        assert all(problem.message for problem in error.problems)
