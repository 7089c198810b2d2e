"""What is packed, made smaller and recommended is the same in terminal, report, card and JSON, whatever was packed."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from automl.results import finish, read_run, story, summarise
from automl.results.finalists import prepared_data
from automl.results.packing import write_best_model
from automl.results.recommendation import recommendation, recommended
from automl.results.selection import WHOLE
from automl.results.study import RunRecord
from automl.results.table import render_table
from automl.results.verdict import verdict
from automl.space.markdown import markdown_text
from automl.training.floor import fit_floor
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.conftest import copy_run

Change = Callable[[RunDirectory], None]


def manifest(run: RunDirectory, **changes: Any) -> None:
    write_json(run.manifest, {**read_json(run.manifest), **changes})


def as_it_is(run: RunDirectory) -> None:
    """The best trial."""


def averaged(run: RunDirectory) -> None:
    manifest(run, ensemble={"top": 3, "linear": False})


def linear_floor(run: RunDirectory) -> None:
    record = read_run(run)
    prepared = prepared_data(record, record.ranked[0].config)
    linear, _ = fit_floor(prepared, record.ranked[0].config["data"]["clean"], metric="accuracy", maximize=True)
    linear.save(run.linear)
    manifest(run, pack_linear=True)


def refitted(run: RunDirectory) -> None:
    best = read_run(run).ranked[0].number
    run.refit.mkdir()
    run.refitted().weights.write_bytes(run.trial(best).weights.read_bytes())
    write_json(run.refit_record, {"trial": best, "epochs": 2})


def decided(run: RunDirectory) -> None:
    numbers = [trial.number for trial in read_run(run).ranked[:3]]
    means = {
        str(number): {"1": {"score": score, "values": [score]}}
        for number, score in zip(numbers, (0.6, 0.5, 0.7), strict=True)
    }
    write_json(run.confirmed, {"trials": means})
    manifest(run, confirm={"top": 3, "seeds": 1, "decides": True})


def deleted(run: RunDirectory) -> None:
    run.trial(read_run(run).ranked[0].number).weights.unlink()


def all_deleted(run: RunDirectory) -> None:
    for trial in read_run(run).ranked:
        run.trial(trial.number).weights.unlink(missing_ok=True)


CASES: dict[Change, str] = {
    as_it_is: "best_model/ holds trial {first} (cnn), which automl compress makes smaller.",
    averaged: "best_model/ holds the average of trials {first}, ",
    linear_floor: "best_model/ holds the linear floor; automl compress makes trial {first} (cnn), the best trial, "
    "smaller.",
    refitted: "best_model/ holds trial {first} (cnn), trained anew on train and validation rows together; "
    "automl compress makes it smaller as the search trained it.",
    decided: "best_model/ holds trial {third} (",
    deleted: "The weights of trial {first}, which ranks before it, are not kept.",
    all_deleted: "No trial's weights are kept, so no best model can be packed or made smaller.",
}


def flat(text: str) -> str:
    return " ".join(text.split())


def terminal(record: RunRecord) -> str:
    console = Console(width=80, file=io.StringIO(), highlight=False)
    console.print(render_table(record, WHOLE))
    return flat(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize("change", CASES, ids=lambda change: change.__name__)
def test_all_places_tell_what_is_packed(finished: RunDirectory, tmp_path: Path, change: Change) -> None:
    run = copy_run(finished, tmp_path / "run")
    numbers = [trial.number for trial in read_run(run).ranked[:3]]
    change(run)
    record = finish(run)
    if change is averaged:  # not this or that by chance
        content = read_json(run.finalists)
        content["ensemble"]["best_ahead"] |= {"value": 0.0, "p": 1.0}
        write_json(run.finalists, {**content, "confusion_of": None})
        write_best_model(read_run(run))
        record = summarise(run)
    said, taken = story.packed_text(record), recommendation(record)
    assert CASES[change].format(first=numbers[0], third=numbers[2]) in said
    card = (run.best_model / "README.md").read_text()
    places = [terminal(record), flat(html.unescape(run.report.read_text())), flat(run.leaderboard("md").read_text())]
    places += [flat(card)] if change is not all_deleted else []
    for place in places:
        assert said in place.replace("\\", "") and taken in place.replace("\\", "")
    board = read_json(run.leaderboard("json"))
    assert board["recommendation"]["text"] == taken and board["recommendation"]["trial"] == recommended(record)
    assert [row["trial"] for row in board["trials"] if row["recommended"]] == (
        [] if recommended(record) is None else [recommended(record)]
    )
    if change is all_deleted:
        assert board["best_model"] is None and board["original"] is None
        return
    config = read_json(run.best_model / "config.json")
    assert board["best_model"] == {
        "members": [member["trial"] for member in config["members"]],
        "linear": config["linear"] is not None,
        "refit": change is refitted,
        "text": said,
    }
    packed = [row["trial"] for row in board["trials"] if row["packed"]]
    assert packed == (board["best_model"]["members"] if change not in (averaged, linear_floor) else [])
    best = record.best_trial
    assert board["original"] == {"trial": best.number, "text": story.original_text(record, best)}
    assert f"trial {best.number} ({best.family})" in board["original"]["text"]


@pytest.mark.parametrize("change", [as_it_is, averaged, linear_floor, refitted], ids=lambda change: change.__name__)
@pytest.mark.parametrize("tested", [True, False])
def test_the_card_says_how_test_rows_were_used(
    finished: RunDirectory, tmp_path: Path, change: Change, tested: bool
) -> None:
    run = copy_run(finished, tmp_path / "run")
    change(run)
    finish(run)
    if not tested:
        lose_test(run)
    record = summarise(run)
    write_best_model(record)
    card = flat((run.best_model / "README.md").read_text())
    assert ("| test |" in card) is tested and ("120 test rows chose nothing" in card) is tested
    assert ("There were no test rows" in card) is not tested
    assert "used once" not in card
    assert ("test is measured for" in terminal(record)) is tested
    if tested:
        count = len((record.finalists or {})["trials"])
        assert f"they measured the {count} finalists" in card and "the linear floor." in card


def lose_test(run: RunDirectory) -> None:
    """Let a run be one that had no test rows."""
    written = read_json(run.manifest)
    rows = {split: count for split, count in written["data"]["profile"]["rows"].items() if split != "test"}
    classes = {split: each for split, each in written["data"]["profile"]["classes"].items() if split != "test"}
    profile = {**written["data"]["profile"], "rows": rows, "classes": classes}
    write_json(run.manifest, {**written, "data": {**written["data"], "profile": profile}})
    content = read_json(run.finalists)
    for figures in [*content["trials"].values(), content["ensemble"], content["linear"]]:
        if figures:
            figures |= {"test": None, "test_interval": None}
            if "refit" in figures:
                figures["refit"] = {"test": None}
    content |= {"split": "validation", "confusion_of": content["confusion_of"]}
    content["calibration"] |= {"test": None}
    write_json(run.finalists, content)
    write_json(run.floor, {**read_json(run.floor), "test": None})


def test_what_lies_in_compressed_is_said_where_it_is_of_another_trial(finished: RunDirectory, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    best, other = [trial.number for trial in read_run(run).ranked[:2]]
    run.compressed.mkdir()
    content = {"schema_version": 1, "metric": "accuracy", "variants": []}
    for trial, said in ((best, False), (other, True), (None, False)):
        write_json(run.compressed_record, content if trial is None else {**content, "trial": trial})
        assert (f"compressed/ was made of trial {other}." in verdict(read_run(run))) is said


def test_before_anything_is_measured_nothing_is_said(finished: RunDirectory, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    run.finalists.unlink()
    record = read_run(run)
    assert story.packed_text(record) == "" == recommendation(record)
    found = json.loads(json.dumps(story.as_json(record)))
    assert found["best_model"] is None and found["recommendation"]["trial"] is None
    assert markdown_text(verdict(record))
