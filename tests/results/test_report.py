"""The report at every stage of a run: while it is driven, killed, without any finished trial, without its data."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest
from filelock import FileLock

import automl
from automl.results import live, read_run
from automl.results.package import load_model
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.conftest import copy_run
from tests.results.conftest import record_trials

pytestmark = pytest.mark.ray


def text_of(run: RunDirectory) -> str:
    """The words of the page, scripts and styles aside."""
    page = re.sub(r"<(script|style)\b.*?</\1>", " ", run.report.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_report_of_a_finished_run(finished: RunDirectory) -> None:
    text, rows = text_of(finished), automl.leaderboard(finished.path)
    best, floor = rows[0], rows[-1]
    assert f"best accuracy, validation {best['score']:.4f} trial {best['trial']}, {best['family']}" in text
    assert f"the same model, test {best['test_score']:.4f}" in text
    assert f"linear floor, test {floor['test_score']:.4f}" in text
    epochs = sum(row["epochs"] for row in rows[:-1])
    assert f"{100 - 100 * epochs / 40:.0f} % {epochs} of 40 trained" in text
    for row in rows[:-1]:
        group = f"{row['group']} " if row.get("group") else ""
        test = "" if row["test_score"] is None else f"{row['test_score']:.4f} "
        interval = "" if row.get("test_low") is None else f"{row['test_low']:.3f} to {row['test_high']:.3f} "
        first = f"{row['rank']} {row['trial']} {row['family']} {row['score']:.4f} "
        assert f"{first}{group}{test}{interval}{row['epochs']} " in text
    finalists = read_json(finished.finalists)
    assert sum(map(sum, finalists["confusion"])) == 120
    right = finalists["confusion"][0][0] + finalists["confusion"][1][1]
    assert round(right / 120, 6) == best["test_score"]


def test_no_test_row_is_looked_at_while_a_run_is_driven(finished: RunDirectory, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    record_trials(run, trials=12, epochs=9, reasons={}, unfinished=2)
    write_json(run.manifest, {**read_json(run.manifest), "status": "running"})
    model = (run.best_model / "config.json").read_bytes()
    with FileLock(run.lock):
        automl.report(run.path)
    text = text_of(run)
    assert "unfinished" in text and "not measured yet" in text
    assert not run.finalists.exists()
    assert (run.best_model / "config.json").read_bytes() == model
    board = read_json(run.leaderboard("json"))
    assert len(board["trials"]) == 10 and all(row["test_score"] is None for row in board["trials"])


def test_it_is_written_again_as_the_search_goes_on(
    finished: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_run(finished, tmp_path / "run")
    record_trials(run, trials=12, epochs=9, reasons={}, unfinished=4)
    journal = run.journal.read_bytes()
    monkeypatch.setattr(live, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(live, "MOST_OF_THE_TIME", 1.0)
    with live.kept_up_to_date(run):
        for size in (0, len(journal) // 2, len(journal)):  # nothing, some trials, more of them
            run.journal.write_bytes(journal[:size])
            for path in (run.report, run.leaderboard("json")):
                path.unlink(missing_ok=True)
            while size and not run.report.exists():
                time.sleep(0.02)
    run.report.unlink()
    time.sleep(0.2)
    assert not run.report.exists()  # the block is over


def test_a_killed_run_whose_journal_is_torn(finished: RunDirectory, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    for path in (run.report, run.finalists, *(run.leaderboard(kind) for kind in ("csv", "json", "md", "parquet"))):
        path.unlink()
    before = run.journal.read_bytes()
    run.journal.write_bytes(before + b'{"op_code": 6, "worker')
    write_json(run.manifest, {**read_json(run.manifest), "status": "running"})
    assert automl.report(run.path) == run.report
    assert run.journal.read_bytes().startswith(before)

    def figures(run: RunDirectory) -> list[dict[str, object]]:
        """What is not measured anew, as latency is, and what does not follow from it."""
        timed = ("latency", "recommended")
        found = [*automl.leaderboard(run.path), *read_json(run.finalists)["trials"].values()]
        return [{name: value for name, value in row.items() if not name.startswith(timed)} for row in found]

    assert figures(run) == figures(finished)


def test_a_run_without_any_finished_trial(finished: RunDirectory, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    record_trials(run, trials=5, epochs=9, reasons={}, unfinished=5)
    for path in (run.floor, run.leaderboard("json")):
        path.unlink()
    shutil.rmtree(run.best_model)
    automl.report(run.path)
    assert "none yet" in text_of(run) and "not trained" in text_of(run)
    assert read_json(run.leaderboard("json"))["trials"] == []
    assert not run.best_model.exists()
    with pytest.raises(automl.UserError, match="has no best model yet"):
        load_model(run.path)


def test_a_run_all_of_whose_trials_failed(finished: RunDirectory, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    record_trials(run, trials=4, epochs=9, reasons=dict.fromkeys(range(4), "ValueError: no"))
    write_json(run.manifest, {**read_json(run.manifest), "status": "failed", "reason": "4 trials failed: ValueError"})
    automl.report(run.path)
    text = text_of(run)
    assert "The search failed: 4 trials failed: ValueError" in text and "failed: ValueError: no" in text
    assert read_run(run).ranked == ()


def test_a_report_without_the_data_keeps_what_was_measured(finished: RunDirectory, tmp_path: Path) -> None:
    """The run was moved to a machine that has neither the data nor the cache."""
    run = copy_run(finished, tmp_path / "moved")
    manifest = json.loads(run.manifest.read_text())
    folder = next(iter(read_run(run).ranked)).config["data"]["train"][0].rsplit("/", 1)[0]
    gone = str(tmp_path / "gone")
    for path in (run.journal, run.space):
        path.write_text(path.read_text().replace(folder, gone))
    write_json(run.manifest, {**manifest, "prepared": gone + "/prepared/x"})
    run.report.unlink()
    automl.report(run.path)
    assert "the same model, test" in text_of(run) and "not measured yet" not in text_of(run)
    assert (run.best_model / "model.safetensors").read_bytes() == (
        finished.best_model / "model.safetensors"
    ).read_bytes()
    run.finalists.unlink()
    run.report.unlink()
    with pytest.raises(automl.UserError, match="there is no file"):
        automl.report(run.path)
    assert "not measured yet" in text_of(run)
