"""The linear floor is the best model where nothing that was searched is ahead of it on validation, and all say so."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import automl
from automl.results import finish, read_run
from automl.results.comparison import compare
from automl.results.finalists import prepared_data
from automl.results.formats import format_leaderboard
from automl.results.package import load_model
from automl.results.packing import write_best_model
from automl.results.verdict import verdict
from automl.space import UserError
from automl.training.floor import Linear, fit_floor, load_linear
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.conftest import copy_run, make_texts, write_jsonl, write_space
from tests.results.packages import inputs_of, of_images, of_series, of_texts


@pytest.fixture
def run(finished: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of a finished run that may pack its linear floor, which is ahead of its best trial on validation."""
    copied = copy_run(finished, tmp_path / "run")
    record = read_run(copied)
    prepared = prepared_data(record, record.ranked[0].config)
    linear, figures = fit_floor(prepared, record.ranked[0].config["data"]["clean"], metric="accuracy", maximize=True)
    linear.save(copied.linear)
    assert figures["validation"]["accuracy"] > record.ranked[0].score
    write_json(copied.manifest, {**read_json(copied.manifest), "pack_linear": True})
    return copied


def test_what_is_packed_is_the_floor_itself_and_everything_says_so(
    run: RunDirectory, small_data: Path, tmp_path: Path
) -> None:
    record = finish(run)
    floor = read_json(run.floor)
    config, figures = read_json(run.best_model / "config.json"), read_json(run.best_model / "metrics.json")
    assert config["members"] == [] and config["linear"] == "linear" and config["format_version"] == 2
    for split in ("validation", "test"):
        found = automl.evaluate(run.path, small_data / f"{split}.jsonl")["metrics"]
        assert found["accuracy"] == figures[split]["accuracy"] == floor[split]["accuracy"]
        assert found == pytest.approx(
            figures[split] | (figures["calibrated_in_sample"] if split == "validation" else {}), abs=1e-5
        )
    board = json.loads(format_leaderboard(record, "json"))
    assert board["floor"]["packed"] is True and not any(row["packed"] for row in board["trials"])
    assert board["floor"]["test_low"] < board["floor"]["test_score"] < board["floor"]["test_high"]
    assert [row["rank"] for row in board["trials"]][:3] == [1, 2, 3]
    said = verdict(record)
    assert said.startswith(
        "The best model is the linear floor: nothing that was searched is ahead of it on validation."
    )
    assert "The best trial does not beat the linear floor on validation" in said
    assert said.split(".")[0] in format_leaderboard(record, "md") and ", the best model" in format_leaderboard(
        record, "md"
    )
    page, card = run.report.read_text(), (run.best_model / "README.md").read_text()
    assert "The best model is the linear floor" in page and "<small>the linear floor</small>" in page
    assert "The best searched configuration" in page and "optimistic" in page
    assert card.startswith("# small: TF-IDF and logistic regression") and "automl export" not in card
    assert "optimistic" in card and "out of fold" in card
    assert compare([record, record], [{}, {}]).sides[0].best == "the linear floor"
    assert read_json(run.examination)["model"] == ["linear"]
    moved = Path(shutil.copytree(run.best_model, tmp_path / "elsewhere"))
    assert load_model(moved).predict(["a lovely flight"])[0].label == "positive"


def test_what_needs_a_network_says_so(run: RunDirectory, small_data: Path) -> None:
    finish(run)
    with pytest.raises(UserError, match=r"linear baseline, which is no network.*automl compress"):
        automl.export(run.path, data=small_data / "test.jsonl")
    heard: list[str] = []
    variants = automl.compress(run.path, epochs=1, tell=heard.append)
    assert "the linear floor, which is no network" in heard[0] and len(variants) > 1
    assert read_json(run.compressed / "int8" / "config.json")["format_version"] == 1
    assert len(load_model(run.compressed / "int8").members) == 1


def test_a_file_that_wants_networks_gets_them(run: RunDirectory) -> None:
    write_json(run.manifest, {**read_json(run.manifest), "pack_linear": False})
    record = finish(run)
    assert record.linear is None and len(read_json(run.best_model / "config.json")["members"]) == 1
    assert "does not beat the linear floor" in verdict(record)


def test_what_was_packed_needs_no_data_again(run: RunDirectory, tmp_path: Path) -> None:
    finish(run)
    written = run.finalists.read_text(), (run.best_model / "metrics.json").read_text()
    manifest = {**read_json(run.manifest), "prepared": str(tmp_path / "gone" / "x"), "working_directory": "/"}
    write_json(run.manifest, manifest)
    finish(run)
    assert (run.finalists.read_text(), (run.best_model / "metrics.json").read_text()) == written
    shutil.rmtree(run.linear)
    assert write_best_model(read_run(run)) == run.best_model  # it holds the floor already
    shutil.rmtree(run.best_model)
    with pytest.raises(UserError, match="has gone"):
        write_best_model(read_run(run))


@pytest.mark.parametrize(
    ("metric", "trial", "average", "floor", "packed"),
    [
        ("accuracy", 0.777, None, 0.795, "linear"),
        ("accuracy", 0.795, None, 0.777, "trial"),
        ("accuracy", 0.795, None, 0.795, "trial"),
        ("accuracy", 0.777, 0.79, 0.795, "linear"),
        ("accuracy", 0.777, 0.80, 0.795, "ensemble"),
        ("accuracy", 0.777, 0.795, 0.795, "ensemble"),
        ("accuracy", 0.80, 0.79, 0.795, "trial"),
        ("loss", 0.5, None, 0.4, "linear"),
        ("loss", 0.4, None, 0.5, "trial"),
        ("loss", 0.5, 0.3, 0.4, "ensemble"),
        ("loss", 0.5, 0.45, 0.4, "linear"),
        ("calibration_error", 0.1, None, 0.02, "linear"),
        ("macro_f1", 0.6, 0.65, 0.7, "linear"),
    ],
)
def test_which_model_is_the_best(
    finished: RunDirectory, metric: str, trial: float, average: float | None, floor: float, packed: str
) -> None:
    record = read_run(finished)
    number = record.ranked[0].number

    def figures(value: float) -> dict[str, Any]:
        return {"validation": {metric: value}, "test": None}

    ahead = {"value": trial - (average or 0), "low": -1.0, "high": 1.0, "p": 0.5}
    content = {
        "trials": {str(number): figures(trial)},
        "ensemble": average and {"members": [number, 1], "linear": False, "best_ahead": ahead, **figures(average)},
        "linear": figures(floor),
    }
    manifest = {**record.manifest, "metric": metric, "mode": "max" if metric in ("accuracy", "macro_f1") else "min"}
    found = replace(record, finalists=content, manifest=manifest)
    expected: dict[str, tuple[list[int], bool]] = {
        "linear": ([], True),
        "trial": ([number], False),
        "ensemble": ([number, 1], False),
    }
    assert (found.made_of["members"], found.made_of["linear"]) == expected[packed]
    assert (found.linear is not None, found.ensemble is not None) == (packed == "linear", packed == "ensemble")


def write_alone(folder: Path, kind: str, **changes: Any) -> Path:
    """A package of the linear floor alone, for texts, images or series."""
    made = {"text": of_texts, "image": of_images, "series": of_series}[kind]
    source = folder / "source"
    source.mkdir(parents=True)
    config, prepared = made(source)
    linear, _ = fit_floor(prepared, config["data"].get("clean"), metric="accuracy", maximize=True)
    package = folder / "package"
    linear.save(package / "linear")
    described = {
        "format_version": 2,
        "task": config["task"],
        "classes": list(prepared.classes),
        "column": config["data"][kind],
        "label_column": "label",
        "run": "run",
        "members": [],
        "linear": "linear",
        "temperature": 1.0,
    }
    write_json(package / "config.json", {**described, **changes})
    return package


@pytest.mark.parametrize("kind", ["text", "image", "series"])
def test_packages_of_the_floor_alone_of_each_kind(kind: str, tmp_path: Path) -> None:
    package = write_alone(tmp_path, kind)
    model, inputs = load_model(package), inputs_of(kind)
    assert model.members == () and model.modality.name == kind
    assert isinstance(model.linear, Linear) == (kind == "text")
    expected = load_linear(package / "linear").predict_probabilities(inputs)
    np.testing.assert_allclose(model.predict_probabilities(inputs), expected, atol=1e-6)
    assert model.predict_probabilities([]).shape == (0, 2)
    assert {each.label for each in model.predict(inputs)} <= set(model.classes)
    if kind != "text":
        source = tmp_path / "source" / ("images.parquet" if kind == "image" else "series.parquet")
        assert automl.evaluate(package, source)["rows"] == 40
        automl.predict(package, source, output=tmp_path / "out.parquet")
        assert pq.read_table(tmp_path / "out.parquet").num_rows == 40


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"linear": None}, "a model has members or a linear model"),
        ({"task": None}, "a linear model alone says its task"),
        ({"task": "image_classification"}, "other inputs"),
        ({"task": "guessing"}, "task"),
        ({"linear": "../source"}, "outside"),
        ({"linear": "nowhere"}, "damaged"),
        ({"classes": ["a", "b", "c"]}, "other classes"),
        ({"format_version": 3}, "later version"),
        ({"members": None}, "members"),
    ],
)
def test_a_stranger_s_package_without_networks_is_checked(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        load_model(write_alone(tmp_path, "text", **changes))


@pytest.mark.ray
@pytest.mark.slow
def test_a_search_that_learns_nothing_gives_the_floor(tmp_path: Path, small_data: Path) -> None:
    space = write_space(tmp_path / "space.yaml", small_data, trials=2, epochs=1)
    overrides = ["search.pack_linear=true", "training.optimizer={adamw: {learning_rate: 1e-9}}"]
    result = automl.run(space, output=tmp_path / "run", overrides=overrides, quiet=True)
    model = automl.load_model(result.path)
    assert model.members == () and model.predict(["a wonderful flight"])[0].label == "positive"
    rows = write_jsonl(tmp_path / "more.jsonl", make_texts(200, 77, noise=0.0))
    assert automl.evaluate(result.path, rows)["metrics"]["accuracy"] > 0.9
