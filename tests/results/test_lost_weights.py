"""Weights that were deleted after a run: what is left of it is measured, packed and told."""

from pathlib import Path

import pytest

from automl import load_model
from automl.results import finish, read_run
from automl.training.run_directory import RunDirectory
from tests.conftest import copy_run


@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("known", [True, False])
def test_the_best_trial_that_is_left_is_packed(
    finished: RunDirectory, tmp_path: Path, *, lost: int, known: bool
) -> None:
    run = copy_run(finished, tmp_path / "run")
    ranked = [trial for trial in read_run(run).ranked if read_run(run).has_weights(trial)]
    assert len(ranked) > lost
    for trial in ranked[:lost]:
        run.trial(trial.number).weights.unlink()
    if not known:
        run.finalists.unlink()
    record = finish(run)
    assert record.best_trial.number == ranked[lost].number
    assert record.finalists is not None and record.finalists["calibration"]["temperature"] > 0
    assert not {str(trial.number) for trial in ranked[:lost]} & record.finalists["trials"].keys()
    assert load_model(run.best_model).predict(["good"])


def test_a_run_without_any_weights_keeps_its_leaderboard(finished: RunDirectory, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    for weights in run.path.glob("trials/*/*.safetensors"):
        weights.unlink()
    record = finish(run)
    assert record.ranked and record.finalists is not None and not record.finalists["trials"]
