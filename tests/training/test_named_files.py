"""Weights that a search-space file names, replaced while the run is under way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from automl.search.trial import Assignment, begin
from automl.space import UserError, sample_configs
from automl.training.named_files import digest_named_files, require_unchanged
from automl.training.run_directory import RunDirectory
from automl.verbs import load_space


def put_weights(path: Path, value: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"head.weight": torch.full((2, 4), value)}, path)
    return path


@pytest.mark.parametrize("kind", ["file", "run"])
def test_weights_that_were_replaced_are_refused(kind: str, small_space: Path, tmp_path: Path) -> None:
    source = tmp_path / "earlier" if kind == "run" else tmp_path / "weights.safetensors"
    best = RunDirectory(source).best_model / "model.safetensors"
    file = put_weights(best if kind == "run" else source, 0.0)
    spec = load_space(small_space, [f"training.init_from={{model: {source}}}"])
    digests = digest_named_files(spec, tmp_path)
    assert list(digests) == [str(file)]
    require_unchanged(digests, tmp_path)
    put_weights(file, 1.0)
    with pytest.raises(UserError, match="from which trials take weights, has changed since the run began"):
        require_unchanged(digests, tmp_path)
    file.unlink()
    require_unchanged(digests, tmp_path)  # the trial says that it is gone


def test_a_trial_takes_no_other_weights(small_space: Path, tmp_path: Path) -> None:
    file = put_weights(tmp_path / "weights.safetensors", 0.0)
    spec = load_space(small_space, [f"training.init_from={{model: {file}}}"])
    assignment = Assignment(
        number=0,
        config=sample_configs(spec, 1, seed=0)[0],
        epochs_known=0,
        max_epochs=1,
        seed=0,
        training_seed=0,
        metric="accuracy",
        maximize=True,
        folder=str(tmp_path / "trial"),
        run_folder=str(tmp_path),
        cache=str(tmp_path / "cache"),
        working_directory=str(tmp_path),
        threads=1,
        named_files=json.loads(json.dumps(digest_named_files(spec, tmp_path / "cache"))),
    )
    put_weights(file, 1.0)
    with pytest.raises(UserError, match="has changed since the run began"):
        begin(assignment, device=torch.device("cpu"))
