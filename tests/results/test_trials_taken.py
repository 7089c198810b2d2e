"""Any trial whose weights are kept is taken like the best model: `--trial N` and `automl pack`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import automl
from automl import cli, verbs
from automl.data.store import Store
from automl.results import read_run
from automl.space import UserError
from automl.training.run_directory import RunDirectory, read_json
from tests.conftest import copy_run

TEXTS = ["a lovely flight to boston", "an awful bag", "the gate"]


@pytest.fixture
def run(finished: RunDirectory, tmp_path: Path) -> RunDirectory:
    return copy_run(finished, tmp_path / "run")


def kept(run: RunDirectory) -> list[int]:
    record = read_run(run)
    return [trial.number for trial in record.ranked if record.has_weights(trial)]


def lose_data(patch: pytest.MonkeyPatch) -> None:
    """Let the data of all runs be gone."""

    def gone(*_: Any) -> Any:
        raise UserError("the data has gone")

    for module in ("packing", "finalists"):
        patch.setattr(f"automl.results.{module}.prepared_data", gone)


def test_every_finalist_is_packed_as_its_row_says_without_the_data(
    run: RunDirectory, small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_data(monkeypatch)
    rows = {row["trial"]: row for row in automl.leaderboard(run.path)}
    said = load_file(run.predictions)
    finalists = [number for number in kept(run) if rows[number]["test_score"] is not None]
    assert len(finalists) >= 3 and finalists[0] == read_run(run).best_trial.number
    for number in finalists:
        folder = automl.pack(run.path, number)
        assert folder == run.path.resolve() / "trials" / str(number) / "packed"
        assert (folder / "model.safetensors").read_bytes() == run.trial(number).weights.read_bytes()
        figures = read_json(folder / "metrics.json")
        assert figures["validation"]["accuracy"] == rows[number]["score"]
        assert figures["test"]["accuracy"] == rows[number]["test_score"]
        found = automl.evaluate(folder, small_data / "test.jsonl")["metrics"]
        assert found == pytest.approx(figures["test"], abs=1e-5)
        card = (folder / "README.md").read_text()
        assert f"This is trial {number} ({rows[number]['family']}), number {rows[number]['rank']} of 10" in card
        assert "Who took this trial for its test figure" in card
        texts = [json.loads(line)["text"] for line in (small_data / "test.jsonl").read_text().splitlines()]
        model = automl.load_model(run.path, trial=number)
        probabilities = model.predict_probabilities(texts)
        np.testing.assert_allclose(probabilities, automl.load_model(folder).predict_probabilities(texts), atol=1e-6)
        assert (probabilities.argmax(axis=1) == said[f"test/{number}"].argmax(axis=1)).all()
    best = automl.load_model(run.path)
    np.testing.assert_allclose(
        best.predict_probabilities(TEXTS), automl.load_model(run.path, trial=finalists[0]).predict_probabilities(TEXTS)
    )


def test_each_command_takes_a_trial(
    run: RunDirectory, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = kept(run)[1]
    asked = [str(run.path), "--trial", str(number)]

    def said(*words: str) -> str:
        cli.app(list(words), standalone_mode=False)
        return capsys.readouterr().out

    packed = said("pack", *asked, "--output", str(tmp_path / "mine")).strip()
    assert packed == str(tmp_path / "mine")
    assert read_json(Path(packed) / "config.json")["members"][0]["trial"] == number
    data = str(small_data / "test.jsonl")
    labelled = said("predict", asked[0], data, *asked[1:])
    assert labelled == said("predict", packed, data)
    figures = said("evaluate", asked[0], data, *asked[1:], "--format", "json")
    assert figures == said("evaluate", packed, data, "--format", "json")
    exported = said("export", *asked, "--format", "torch").strip()
    assert exported == str(run.path.resolve() / "trials" / str(number) / "exported" / "torch")
    variants = json.loads(said("compress", *asked, "--epochs", "1", "--json"))
    folder = run.path.resolve() / "trials" / str(number) / "compressed"
    row = next(row for row in automl.leaderboard(run.path) if row["trial"] == number)
    assert (variants[0]["validation"], variants[0]["test"]) == (row["score"], row["test_score"])
    assert read_json(folder / "compressed.json")["trial"] == number
    assert (
        f"trial {number} ({row['family']}), as asked; best_model/ holds trial"
        in (folder / "int8" / "README.md").read_text()
    )
    assert not run.compressed.exists()
    heard: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("automl.results.serve.serve", lambda model, *_: heard.append(model))
        said("serve", *asked)
    assert heard[0].predict(TEXTS) == automl.load_model(packed).predict(TEXTS)


def calls(place: Path | str, number: int) -> list[Callable[[], Any]]:
    """Everything that takes a trial, asked for trial `number` of what lies at `place`."""
    return [
        lambda: automl.load_model(place, trial=number),
        lambda: automl.predict(place, "x.csv", trial=number),
        lambda: automl.evaluate(place, "x.csv", trial=number),
        lambda: automl.export(place, trial=number),
        lambda: automl.compress(place, trial=number),
        lambda: verbs.serve(place, trial=number),
        lambda: automl.pack(place, number),
    ]


def test_what_cannot_be_taken_is_said(run: RunDirectory, tmp_path: Path) -> None:
    there = kept(run)
    lost = next(trial.number for trial in read_run(run).ranked if trial.number not in there)
    for call in calls(run.path, 99):
        with pytest.raises(UserError, match=r"has no trial 99; its trials are 0 to 9$"):
            call()
    for call in calls(run.path, lost):
        with pytest.raises(UserError, match=rf"weights of trial {lost} of .* are not kept; weights are kept of trials"):
            call()
    for call in calls(run.best_model, 0):
        with pytest.raises(UserError, match=r"is a model, not a run: --trial chooses among the trials of a run"):
            call()
    for call in calls(tmp_path / "nothing", 0):
        with pytest.raises(UserError, match="there is no run directory"):
            call()
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("mine")
    own = [run.path, run.best_model, run.best_model / "x", run.compressed, run.trial(there[0]).path]
    for output in (taken, taken / "thesis.txt", *own):
        with pytest.raises(UserError, match="name another --output"):
            automl.pack(run.path, there[0], output=output)
    assert run.trial(there[0]).weights.exists() and (taken / "thesis.txt").read_text() == "mine"
    twice = [automl.pack(run.path, number, output=tmp_path / "twice") for number in there[:2]]
    assert read_json(twice[1] / "config.json")["members"][0]["trial"] == there[1]
    for number in there:
        run.trial(number).weights.unlink()
    with pytest.raises(UserError, match="are not kept; no trial's weights are kept"):
        automl.pack(run.path, there[0])


@pytest.mark.parametrize("damage", ["no weights", "link", "other", "predictions", "encoder"])
def test_a_damaged_run_gives_a_sentence(run: RunDirectory, tmp_path: Path, damage: str) -> None:
    first, second = kept(run)[:2]
    weights = run.trial(second).weights
    if damage == "no weights":
        weights.write_bytes(weights.read_bytes()[:200])
    elif damage == "link":
        outside = tmp_path / "outside.safetensors"
        shutil.move(weights, outside)
        weights.symlink_to(outside)
    elif damage == "other":
        config = run.trial(first).weights.read_bytes()
        weights.write_bytes(config[:-64])
    elif damage == "predictions":
        run.predictions.write_bytes(b"nothing")
    else:
        (run.best_model / "tokenizer.json").write_text("{")
    with pytest.raises(UserError) as error:
        automl.load_model(run.path, trial=second)
    assert "\n" not in str(error.value) and "automl." not in str(error.value)
    assert str(run.path.name) in str(error.value)


def test_a_trial_that_was_not_measured_takes_the_data_or_says_its_score_alone(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = kept(run)[1]
    run.finalists.unlink()
    run.predictions.unlink()
    figures = read_json(automl.pack(run.path, number) / "metrics.json")
    row = next(row for row in automl.leaderboard(run.path) if row["trial"] == number)
    assert figures["validation"]["accuracy"] == row["score"] and figures["test"]["accuracy"] > 0
    lose_data(monkeypatch)
    folder = automl.pack(run.path, number, output=tmp_path / "packed")
    assert read_json(folder / "metrics.json") == {"validation": {"accuracy": row["score"]}, "test": None}
    assert "Its probabilities are not calibrated." in (folder / "README.md").read_text()
    assert len(automl.load_model(folder).predict(TEXTS)) == 3


def test_a_trial_of_a_run_in_a_store_is_taken(run: RunDirectory, bucket: str, tmp_path: Path) -> None:
    number, place = kept(run)[1], f"{bucket}/taken"
    for path in sorted(each for each in run.path.rglob("*") if each.is_file()):
        Store(place).put(path, path.relative_to(run.path).as_posix())
    here = automl.load_model(run.path, trial=number).predict_probabilities(TEXTS)
    np.testing.assert_allclose(automl.load_model(place, trial=number).predict_probabilities(TEXTS), here)
    with pytest.raises(UserError, match="lies in a store; name a folder to write to with --output"):
        automl.pack(place, number)
    packed = automl.pack(place, number, output=tmp_path / "packed")
    np.testing.assert_allclose(automl.load_model(packed).predict_probabilities(TEXTS), here)
    for call in calls(place, 99):
        with pytest.raises(UserError, match=r"has no trial 99|lies in a store"):
            call()
