"""Compressed models: each is what its row says, and is used as any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import automl
from automl import cli
from automl.training.run_directory import RunDirectory, read_json
from tests.conftest import copy_run, write_space

pytestmark = pytest.mark.ray


def test_each_variant_is_a_model_as_good_as_its_row_says(
    finished: RunDirectory, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_run(finished, tmp_path / "run")
    cli.app(["compress", str(run.path), "--epochs", "2", "--json"], standalone_mode=False)
    said = capsys.readouterr()
    original, *variants = json.loads(said.out)
    assert [original["name"], *(variant["name"] for variant in variants)] == [
        "original",
        "int8",
        "pruned",
        "half",
        "quarter",
    ]
    best = read_json(run.leaderboard("json"))["trials"][0]
    assert (original["validation"], original["test"]) == (best["score"], best["test_score"])
    for variant in variants:
        folder = run.path / "compressed" / variant["name"]
        assert variant["path"] == str(folder) and variant["bytes"] == (folder / "model.safetensors").stat().st_size
        for split in ("validation", "test"):
            figures = automl.evaluate(folder, small_data / f"{split}.jsonl")["metrics"]
            assert figures["accuracy"] == pytest.approx(variant[split], abs=1e-6)
            said_of_it = read_json(folder / "metrics.json")
            fitted = said_of_it["calibrated_in_sample"] if split == "validation" else {}
            assert figures == pytest.approx(said_of_it[split] | fitted, abs=1e-5)
        assert variant["lost"] == pytest.approx(original["validation"] - variant["validation"])
        assert variant["smaller"] == pytest.approx(original["bytes"] / variant["bytes"], abs=0.01)
        assert any(tensor.dtype == torch.int8 for tensor in load_file(folder / "model.safetensors").values())
    rows = [row for row in automl.leaderboard(run.path) if row["status"] == "compressed"]
    assert rows == read_json(run.leaderboard("json"))["compressed"]
    for row, variant in zip(rows, variants, strict=True):
        shown = (row["family"], row["score"], row["test_score"], row["lost"], row["bytes"], row["recommended"])
        names = ("name", "validation", "test", "lost", "bytes", "recommended")
        assert shown == tuple(variant[name] for name in names) and row["rank"] is row["trial"] is None
        assert row["latency32_p50_ms"] == variant["latency_ms"]["32"]
        assert f"| {variant['name']} |" in run.leaderboard("md").read_text()
        assert f"{variant['smaller']:.1f}x smaller, {abs(variant['lost']):.4f} " in run.leaderboard("md").read_text()
    (recommended,) = [variant for variant in [original, *variants] if variant["recommended"]]
    assert recommended["lost"] <= 0.005
    assert said.err.splitlines()[-1] == (
        f"recommended: {recommended['path']}" if recommended["path"] else "none loses 0.005 or less on validation"
    )
    (tmp_path / "new.csv").write_text("text\na great lovely flight\n")
    assert automl.predict(run.path / "compressed" / "half", tmp_path / "new.csv", output=tmp_path / "out.csv") == 0
    assert ",positive," in (tmp_path / "out.csv").read_text()


def test_a_file_may_ask_for_it(small_data: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "space.yaml", small_data, trials=1, epochs=1)
    asked = ["search.compress={epochs: 1, tolerance: 1.0}"]
    run = RunDirectory(automl.run(space, output=tmp_path / "run", overrides=asked, quiet=True).path)
    found = read_json(run.compressed / "compressed.json")
    assert [variant["recommended"] for variant in found["variants"]].count(True) == 1
    smallest = run.compressed / found["variants"][-1]["name"]
    assert len(automl.load_model(smallest).predict(["a great flight", "an awful gate"])) == 2
    assert len(list(run.compressed.iterdir())) == len(found["variants"])
