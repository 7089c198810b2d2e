"""Two runs compared: on the same rows only, with what was asked differently."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import binomtest

import automl
from automl.cli import main
from automl.results.predictions import read_predictions, write_predictions
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.conftest import copy_run, write_space

pytestmark = pytest.mark.ray


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["leaderboard", *map(str, arguments)])
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_the_best_models_are_compared_row_by_row(
    finished: RunDirectory, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = write_space(tmp_path / "space.yaml", small_data, trials=1, epochs=1)
    asked = ["training.batch_size=64", "model={cnn: {channels: 4}}"]
    other = RunDirectory(automl.run(space, output=tmp_path / "other", overrides=asked, quiet=True).path)
    code, out, _ = printed(capsys, "--compare", finished.path, other.path, "--format", "json")
    found, boards = json.loads(out), [automl.leaderboard(run.path)[0] for run in (finished, other)]
    assert code == 0 and found["same_rows"] == {"validation": True, "test": True}
    kept = [read_predictions(run) for run in (finished, other)]
    for split, column in (("validation", "score"), ("test", "test_score")):
        assert [side[split] for side in found["sides"]] == [board[column] for board in boards]
        assert found["differences"][split]["value"] == pytest.approx(boards[0][column] - boards[1][column], abs=2e-6)
        one, two = (
            each.said[split][str(board["trial"])].argmax(axis=1) == each.labels[split]
            for each, board in zip(kept, boards, strict=True)
        )
        exact = binomtest(int((one & ~two).sum()), int((one != two).sum())).pvalue
        assert 0.2 * exact <= found["differences"][split]["p"] <= exact
    assert found["settings"] == {
        "model.cnn.channels": ["4 to 8", "4"],
        "model.cnn.embedding": ["8", "64 to 256, log"],
        "model.cnn.kernel_sizes": ["one of [2], [1, 2]", "one of [3], [1, 2, 3], [2, 3, 4], [3, 4, 5]"],
        "model.rnn": ["one of the alternatives", None],
        "training.batch_size": ["32", "64"],
        "search.trials": ["10", "1"],
        "search.early_stopping.asha.max_epochs": ["4", "1"],
    }
    code, out, _ = printed(capsys, "--compare", finished.path, other.path)
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    words = " ".join(out.split())
    assert f"trial {boards[0]['trial']}, {boards[0]['family']}" in words and "training.batch_size 32 64" in words
    assert "On the same test rows run is ahead by" in words and "more than chance" in words


def test_rows_that_are_not_the_same_are_not_compared(
    finished: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = copy_run(finished, tmp_path / "copied")
    _, out, _ = printed(capsys, "--compare", finished.path, copied.path)
    assert "On the same test rows both are equal" in " ".join(out.split()) and "Both files ask for the same" in out
    kept = read_predictions(copied)
    write_predictions(copied, replace(kept, rows={**kept.rows, "test": "0"}))
    _, out, _ = printed(capsys, "--compare", finished.path, copied.path)
    words = " ".join(out.split())
    assert "The test figures cannot be compared by row: they are not the same rows" in words
    assert "On the same validation rows both are equal" in words


def test_what_cannot_be_compared_is_refused_in_a_sentence(
    finished: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = copy_run(finished, tmp_path / "copied")
    write_json(copied.manifest, {**read_json(copied.manifest), "metric": "macro_f1", "objectives": ["macro_f1"]})
    for arguments, message in (
        (("--compare", finished.path, copied.path), "run looked for accuracy and copied for macro_f1"),
        (("--compare", finished.path, tmp_path / "none"), "there is no run directory"),
        (("--compare", finished.path, finished.path, copied.path), "looked for accuracy and copied for macro_f1"),
        (("--compare", finished.path), "takes two runs or more"),
        (("--compare", finished.path, finished.path, "--sort", "rank"), "leave out --compare"),
        ((finished.path, copied.path), "run looked for accuracy and copied for macro_f1"),
        ((finished.path, finished.path, "--sort", "none"), "there is no column or setting"),
    ):
        code, out, err = printed(capsys, *arguments)
        assert code == 2 and message in err and not out
