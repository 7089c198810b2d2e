"""Searches that can have no result: they fail with advice, and `check` says so before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import automl
from automl.cli import main
from tests.conftest import make_texts, write_jsonl, write_space

ONE_CLASS = [{"text": f"good flight {number}", "label": "positive"} for number in range(30)]


def space_with(folder: Path, train: list[dict[str, str]], validation: list[dict[str, str]], search: str) -> Path:
    for name, rows in (("train", train), ("validation", validation), ("test", make_texts(20, 3))):
        write_jsonl(folder / f"{name}.jsonl", rows)
    space = write_space(folder / "space.yaml", folder, trials=2, epochs=1)
    space.write_text(space.read_text().replace("search:\n", f"search:\n{search}"))
    return space


def warnings_of(space: Path, *overrides: str) -> str:
    return "\n".join(automl.check(space, overrides=overrides).warnings)


@pytest.mark.ray
@pytest.mark.slow
def test_trials_that_all_fail_are_no_finished_search(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    space = space_with(tmp_path, make_texts(80, 0), ONE_CLASS, "  metric: auroc\n")
    assert "alone, of which there is no auroc, so every trial will fail" in warnings_of(space)
    with pytest.raises(SystemExit) as ended:
        main(["run", str(space), "--output", str(tmp_path / "run")])
    said = capfd.readouterr().err
    assert ended.value.code == 1 and "Traceback" not in said
    assert "validation has rows of one class only, of which there is no auroc; give validation rows of other" in said
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "failed"


@pytest.mark.ray
@pytest.mark.slow
def test_a_budget_that_ends_before_any_epoch_is_no_finished_search(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    space = space_with(tmp_path, make_texts(4000, 0), make_texts(40, 1), "  time_budget: 0.05s\n")
    with pytest.raises(SystemExit) as ended:
        main(["run", str(space), "--output", str(tmp_path / "run")])
    said = capfd.readouterr().err
    assert ended.value.code == 1 and "Traceback" not in said
    assert "the time budget of 0.05s ended before any trial had finished its first epoch" in said
    assert automl.resume(tmp_path / "run", time_budget="10m", quiet=True).status == "finished"


def test_check_counts_the_rows_of_classes(tmp_path: Path) -> None:
    rare = [{"text": "what a flight", "label": "rare"}, *[{"text": f"so {n}", "label": "pair"} for n in range(2)]]
    space = space_with(tmp_path, [*make_texts(80, 0), *rare], make_texts(40, 1), "")
    said = warnings_of(space)
    assert "classes with one or two train rows: 'rare' (1), 'pair' (2)" in said and "missing from" not in said
    assert "a class with one row is missing from validation" in warnings_of(space, "data.validation=0.2")
    write_jsonl(tmp_path / "train.jsonl", [*ONE_CLASS, rare[0]])
    said = warnings_of(space, "data.validation=0.2", "data.test=null")  # whose labels would be unknown
    assert "validation will have rows of the class 'positive' alone, so it cannot tell" in said
    write_jsonl(tmp_path / "train.jsonl", make_texts(80, 0))
    assert not [each for each in automl.check(space).warnings if "class" in each or "budget" in each]


def test_check_estimates_an_epoch_that_no_budget_holds(tmp_path: Path) -> None:
    space = space_with(tmp_path, make_texts(2000, 0), make_texts(40, 1), "  time_budget: 6s\n")
    assert "budget" not in warnings_of(space)
    huge = ["model={rnn: {embedding: 2000, hidden: 6000, layers: 3}}", "data.max_length=2000"]
    assert "ends before any trial can have finished an epoch" in warnings_of(space, *huge)
