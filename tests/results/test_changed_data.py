"""Data files that hold something else than when the run began: the run has the old data or says which has changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import automl
from automl.data import prepare
from automl.data.fingerprint import ChangedDataError
from automl.data.prepared import _keys
from automl.results import read_run
from automl.results.finalists import prepared_data
from automl.search.trial import _prepared
from automl.space import UserError
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.conftest import copy_run, make_texts, write_jsonl
from tests.data.settings import settings_for


def other_rows(path: Path) -> Path:
    """The same file with other words and the labels turned round."""
    turned = {"negative": "positive", "positive": "negative"}
    rows = [{"text": f"{row['text']} indeed", "label": turned[row["label"]]} for row in make_texts(150, 9)]
    return write_jsonl(path, rows)


@pytest.fixture
def moved(finished: RunDirectory, small_data: Path, tmp_path: Path) -> Iterator[RunDirectory]:
    """A run whose data, and what has been prepared of it, are its own."""
    run, data, cache = copy_run(finished, tmp_path / "run"), tmp_path / "data", tmp_path / "cache"
    shutil.copytree(small_data, data)
    manifest = json.loads(run.manifest.read_text().replace(str(small_data), str(data)))
    journal = run.journal.read_text().replace(str(small_data), str(data))
    run.journal.write_text(journal)
    run.space.write_text(run.space.read_text().replace(str(small_data), str(data)))
    manifest["prepared"] = str(cache / Path(manifest["prepared"]).name)
    manifest["space_hash"] = hashlib.sha256(run.space.read_bytes()).hexdigest()
    write_json(run.manifest, manifest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOML_CACHE", str(cache))
        yield run


def measured_anew(run: RunDirectory) -> None:
    for path in (run.finalists, run.predictions):
        path.unlink()
    shutil.rmtree(run.best_model)


COMMANDS: dict[str, Callable[[RunDirectory], Any]] = {
    "report": lambda run: automl.report(run.path),
    "compress": lambda run: automl.compress(run.path, epochs=1),
    "export": lambda run: automl.export(run.path, format="torch"),
    "resume": lambda run: automl.resume(run.path, trials=11, quiet=True),
}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_other_data_is_refused_with_its_name(moved: RunDirectory, command: str) -> None:
    if command == "report":
        measured_anew(moved)
    before = {path: path.read_bytes() for path in moved.path.rglob("*.safetensors")}
    changed = other_rows(moved.path.parent / "data" / "train.jsonl")
    with pytest.raises(UserError, match=r"train \(.*train\.jsonl\) has changed since the run began") as refused:
        COMMANDS[command](moved)
    assert "validation.jsonl" not in str(refused.value) and str(changed) in str(refused.value)
    assert {path: path.read_bytes() for path in moved.path.rglob("*.safetensors")} == before


def test_what_is_prepared_already_is_used(moved: RunDirectory) -> None:
    record = read_run(moved)
    before = json.loads((moved.best_model / "metrics.json").read_text())
    words = [prepared_data(record, trial.config).words() for trial in record.ranked]
    for split in ("train", "validation", "test"):
        other_rows(moved.path.parent / "data" / f"{split}.jsonl")
    measured_anew(moved)
    automl.report(moved.path)
    assert json.loads((moved.best_model / "metrics.json").read_text()) == before
    assert [prepared_data(record, trial.config).words() for trial in record.ranked] == words


@pytest.mark.parametrize("file", ["train", "validation", "test"])
def test_runs_of_earlier_versions_do_not_take_other_data_either(moved: RunDirectory, file: str) -> None:
    manifest = read_json(moved.manifest)
    del manifest["data"]["files"]
    write_json(moved.manifest, manifest)
    record = read_run(moved)
    assert prepared_data(record, record.ranked[0].config).fingerprint == manifest["data"]["fingerprint"]
    other_rows(moved.path.parent / "data" / f"{file}.jsonl")
    with pytest.raises(ChangedDataError):
        prepared_data(record, record.ranked[0].config)


def test_trials_with_settings_that_were_never_prepared_take_no_other_data(small_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(small_data, data)
    section = settings_for(data / "train.jsonl", max_length=20)
    cache = tmp_path / "cache"
    first = prepare(section, seed=0, cache=cache)
    assert _keys(section, 0, first.files)[1] == first.fingerprint
    shorter = {**section, "max_length": 10}
    ask = (json.dumps(shorter), 0, str(cache), None, first.files)
    assert _prepared.__wrapped__(*ask).source == first.source
    other_rows(data / "train.jsonl")
    assert _prepared.__wrapped__(*ask).source == first.source  # the rows are there, whatever the settings
    assert _prepared.__wrapped__(json.dumps({**section, "max_length": 5}), *ask[1:]).source == first.source
    with pytest.raises(ChangedDataError, match="train"):
        _prepared.__wrapped__(json.dumps(shorter), 0, str(tmp_path / "of another node"), None, first.files)
    assert not list((tmp_path / "of another node").glob("source-*[!k]"))
