"""What `check` says before a search: whatever `run` would refuse, in its words, and what a search would do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

import automl
from automl.checking import check_space
from automl.data.counted import facts
from automl.models import build, count_parameters
from automl.refusals import prepare_section
from automl.runs import load_space
from automl.space import SpaceError, UserError
from automl.training.run_directory import RunDirectory
from tests.conftest import make_texts, write_jsonl, write_space

ROWS = [
    {"id": number, "text": f"good flight {number % 7}", "label": "ab"[number % 2], "who": number % 5, "when": number}
    for number in range(40)
]
SPACE = """\
name: x
task: {task}_classification
data:
{data}
model: {{{model}: {{}}}}
search: {{trials: 2}}
"""


ASK: dict[str, Callable[[Path], Any]] = {
    "data": automl.verbs.profile,
    "prepare": automl.verbs.prepare,
    "run": lambda path: automl.run(path, output=path.with_name("run"), quiet=True),
}


def space(folder: Path, data: dict[str, Any], task: str = "text", model: str = "cnn") -> Path:
    lines = "".join(f"  {name}: {value}\n" for name, value in data.items()).rstrip()
    path = folder / "space.yaml"
    path.write_text(SPACE.format(task=task, data=lines, model=model), encoding="utf-8")
    return path


def csv_of(path: Path, rows: list[dict[str, Any]]) -> str:
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def parquet_of(path: Path, rows: list[dict[str, Any]]) -> str:
    pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def changed(**values: Any) -> list[dict[str, Any]]:
    return [{**row, **values} for row in ROWS]


def good(folder: Path, **changes: Any) -> dict[str, Any]:
    return {"train": csv_of(folder / "train.csv", ROWS), **changes}


def with_file(folder: Path, setting: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return good(folder, **{setting: csv_of(folder / f"{setting}.csv", rows)})


def raw(folder: Path, content: bytes, name: str = "train.csv", **changes: Any) -> dict[str, Any]:
    (folder / name).write_bytes(content)
    return {"train": str(folder / name), **changes}


BROKEN: dict[str, Callable[[Path], dict[str, Any]]] = {
    "label: id": lambda folder: good(folder, label="id"),
    "one class": lambda folder: {"train": csv_of(folder / "t.csv", changed(label="a"))},
    "no file": lambda folder: {"train": str(folder / "nope.csv")},
    "no test file": lambda folder: good(folder, test=str(folder / "nope.csv")),
    "no validation file": lambda folder: good(folder, validation=str(folder / "nope.csv")),
    "no glob": lambda folder: {"train": str(folder / "*.csv")},
    "no column": lambda folder: good(folder, text="txt"),
    "no label": lambda folder: good(folder, label="stars"),
    "no group": lambda folder: good(folder, group="author"),
    "no time": lambda folder: good(folder, time="date"),
    "one column twice": lambda folder: good(folder, text="label"),
    "test without label": lambda folder: with_file(folder, "test", [{"text": "x"}]),
    "validation without text": lambda folder: with_file(folder, "validation", [{"label": "a"}]),
    "test of other labels": lambda folder: with_file(folder, "test", changed(label="c")),
    "one group": lambda folder: {"train": csv_of(folder / "t.csv", changed(who=1)), "group": "who"},
    "one time": lambda folder: {"train": csv_of(folder / "t.csv", changed(when=1)), "time": "when"},
    "no times": lambda folder: {"train": csv_of(folder / "t.csv", changed(when="soon")), "time": "when"},
    "empty labels": lambda folder: {"train": csv_of(folder / "t.csv", [*ROWS, {**ROWS[0], "label": ""}])},
    "numbers as texts": lambda folder: {"train": parquet_of(folder / "t.parquet", changed(text=1.5))},
    "fractions as labels": lambda folder: {"train": parquet_of(folder / "t.parquet", changed(label=1.5))},
    "booleans as times": lambda folder: {
        "train": parquet_of(folder / "t.parquet", changed(when=True)),
        "time": "when",
    },
    "lists as groups": lambda folder: {
        "train": parquet_of(folder / "t.parquet", changed(who=[1])),
        "group": "who",
    },
    "not UTF-8": lambda folder: raw(folder, b"text,label\n\xff\xfe,a\nx,b\n"),
    "UTF-16": lambda folder: raw(folder, "text,label\nx,a\ny,b\n".encode("utf-16")),
    "no rows": lambda folder: raw(folder, b"text,label\n"),
    "an empty file": lambda folder: raw(folder, b""),
    "semicolons": lambda folder: raw(folder, b"text;label\nx;a\ny;b\n"),
    "a column twice": lambda folder: raw(folder, b"text,label,label\nx,a,a\ny,b,b\n"),
    "an open quote": lambda folder: raw(folder, b'text,label\nx,a\n"y,b\n' + b"z,a\n" * 30),
    "too many cells": lambda folder: raw(folder, b"text,label\nx,a\ny,b,c\n"),
    "no Parquet": lambda folder: raw(folder, b"text", "train.parquet"),
    "no JSON": lambda folder: raw(folder, b'{"text": "x", "label": "a"}\n{"text"\n', "train.jsonl"),
    "another ending": lambda folder: raw(folder, b"x", "train.xlsx"),
    "too many bad rows": lambda folder: {
        "train": csv_of(folder / "t.csv", [*ROWS, {**ROWS[0], "label": ""}]),
        "on_bad_rows": "report",
        "bad_rows_limit": 0.01,
    },
}


def refusal(ask: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as refused:
        ask()
    return str(refused.value)


@pytest.mark.parametrize("fault", BROKEN)
def test_check_refuses_what_run_refuses_with_the_same_sentence(fault: str, tmp_path: Path) -> None:
    path = space(tmp_path, BROKEN[fault](tmp_path))
    said = refusal(lambda: automl.run(path, output=tmp_path / "run", quiet=True))
    assert refusal(lambda: automl.check(path)) == said and not (tmp_path / "run").exists()


DENSE: dict[str, tuple[str, str, Callable[[Path], dict[str, Any]]]] = {
    "no images": ("image", "image_cnn", lambda folder: good(folder, image="text")),
    "no image column": ("image", "image_cnn", lambda folder: good(folder, image="picture")),
    "no series": ("sequence", "tcn", lambda folder: good(folder, series="text")),
    "no series column": ("sequence", "tcn", lambda folder: good(folder, series="steps")),
    "no such columns": ("sequence", "tcn", lambda folder: good(folder, series='"x*"')),
}


@pytest.mark.parametrize("fault", DENSE)
def test_the_same_of_images_and_series(fault: str, tmp_path: Path) -> None:
    task, model, data = DENSE[fault]
    path = space(tmp_path, data(tmp_path), task, model)
    said = refusal(lambda: automl.run(path, output=tmp_path / "run", quiet=True))
    assert refusal(lambda: automl.check(path)) == said


@pytest.mark.parametrize("fault", BROKEN)
def test_check_refuses_what_data_refuses(fault: str, tmp_path: Path) -> None:
    path = space(tmp_path, BROKEN[fault](tmp_path))
    with suppress(UserError):
        automl.verbs.profile(path)
        return
    refusal(lambda: automl.check(path))


def test_all_wrong_columns_and_files_are_said_at_once_with_their_lines(tmp_path: Path) -> None:
    lacking = [{"text": row["text"], "other": 1} for row in ROWS]
    data = with_file(tmp_path, "test", lacking)
    data |= {"text": "txt", "label": "stars", "time": "date", "validation": 0.2}
    path = space(tmp_path, {**data, "train": f"[{data['train']}, nope.csv]"})
    with pytest.raises(SpaceError) as refused:
        automl.check(path)
    lines = path.read_text().splitlines()
    found = [(lines[each.line - 1].split(":")[0].strip(), each.message) for each in refused.value.problems]
    assert [name for name, _ in found] == ["train", "text", "text", "label", "label", "time"]
    assert all(message.startswith(f"data.{name}: ") for name, message in found)
    said = str(refused.value)
    assert "did you mean 'text'?" in said and "there is no file nope.csv" in said
    for name in ("data", "prepare", "run"):
        assert refusal(lambda name=name: ASK[name](path)) == said  # type: ignore[misc]


def test_a_type_that_is_of_no_use_is_said_with_every_other(tmp_path: Path) -> None:
    rows = changed(text=1.5, label=0.5, who=[1])
    path = space(tmp_path, {"train": parquet_of(tmp_path / "t.parquet", rows), "group": "who"})
    with pytest.raises(SpaceError) as refused:
        automl.check(path)
    messages = [each.message for each in refused.value.problems]
    assert len(messages) == 3 and {message.partition(":")[0] for message in messages} == {
        "data.text",
        "data.label",
        "data.group",
    }


def test_a_default_column_is_placed_at_its_section(tmp_path: Path) -> None:
    path = space(tmp_path, {"train": csv_of(tmp_path / "t.csv", [{"review": "x", "label": "a"}])})
    with pytest.raises(SpaceError) as refused:
        automl.check(path)
    (problem,) = refused.value.problems
    assert path.read_text().splitlines()[problem.line - 1] == "data:" and "has no column 'text'" in problem.message


def text_space(folder: Path, rows: int, more: str = "", **data: Any) -> Path:
    data = {"train": write_jsonl(folder / "train.jsonl", make_texts(rows, 0)), **data}
    path = space(folder, data)
    path.write_text(path.read_text() + more)
    return path


def test_costs_are_those_of_trials(tmp_path: Path) -> None:
    data = {"tokenizer": "{word: {vocabulary: {choice: [20, 20000]}}, char: {}}", "max_length": "{choice: [5, auto]}"}
    spec = load_space(text_space(tmp_path, 200, **data))
    checked = check_space(spec, 8)
    assert checked.exact and checked.plan.preparations == 6 and len(checked.samples) == 8
    for config, cost in zip(checked.samples, checked.costs, strict=True):
        prepared = prepare_section(spec, config["data"])
        module = build(config["model"], vocabulary=prepared.vocabulary, classes=2)
        assert cost.parameters == count_parameters(module)


def test_the_plan_is_said_in_words_and_in_json(tmp_path: Path) -> None:
    search = "  time_budget: 20m\n  metric: macro_f1\n  early_stopping: {asha: {max_epochs: 27, patience: 5}}\n"
    path = text_space(tmp_path, 400)
    path.write_text(
        path.read_text().replace("search: {trials: 2}\n", f"search:\n  trials: 40\n{search}  refit: true\n")
    )
    plan = automl.check(path).plan
    said = dict(plan.lines())
    assert said["looks for"] == "macro_f1 (more is better); proposed by tpe, seed 0"
    assert said["until"] == "40 trials or 20m, whichever comes first"
    assert "at most 27 epochs; after epochs 1, 3 and 9 the best 1/3 go on" in said["stops early"]
    assert "360 train, 40 validation rows; 2 classes; no test rows" in said["data"]
    assert said["inputs"] == f"a vocabulary of {plan.vocabulary} tokens; texts of at most 12"
    assert said["updates"].startswith(f"{27 * 6} in the 27 epochs") and "train and validation" in said["then"]
    content = automl.check(path).as_json()["plan"]
    assert content["rungs"] == [1, 3, 9] and content["rows"] == {"train": 360, "validation": 40}


@pytest.mark.parametrize(
    ("rows", "more", "words"),
    [
        (60, "", "makes 9 updates of its weights in all (54 train rows in batches of 64, for 9 epochs)"),
        (2000, "search.early_stopping={asha: {max_epochs: 5000}}", "max_epochs 5,000 is beyond the time budget of 1m"),
        (4000, "", ""),
    ],
)
def test_defaults_that_cannot_work_are_warned_of(rows: int, more: str, words: str, tmp_path: Path) -> None:
    path = text_space(tmp_path, rows)
    overrides = ["search.time_budget=1m", *([more] if more else [])]
    said = [each for each in automl.check(path, overrides=overrides).warnings if "updates" in each or "budget" in each]
    assert [words in each for each in said] == [True] * bool(words)


def test_what_is_cut_is_said_as_data_says_it(tmp_path: Path) -> None:
    path = text_space(tmp_path, 100, max_length=4)
    cut = [each for each in automl.check(path).plan.cut if "max_length" in each]
    assert cut and set(cut) <= set(map(str, facts(automl.verbs.profile(path).content)))


def test_what_a_warm_start_takes_is_said_before_the_search(
    finished: RunDirectory, tmp_path: Path, small_data: Path
) -> None:
    path = write_space(tmp_path / "space.yaml", small_data)
    path.write_text(path.read_text().replace("  trials: 4\n", f"  trials: 4\n  warm_start: ['{finished.path}']\n"))
    checked = automl.check(path)
    assert ": 10 trials for the sampler" in checked.plan.warm_start[0]
    assert not any("warm_start" in each for each in checked.warnings)
    checked = automl.check(path, overrides=["training.batch_size=16"])
    assert "nothing is taken; 10 trials lie outside this space: training.batch_size is another (10)" in str(
        checked.plan
    )
    assert any("search.warm_start: nothing of the earlier runs fits" in each for each in checked.warnings)
