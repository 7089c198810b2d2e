"""Every figure on the leaderboard is found again by another way: from the trials' files, the model, the dashboard."""

from __future__ import annotations

import io
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna_dashboard
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from rich.console import Console
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file
from scipy.stats import binomtest

import automl
from automl.models import build
from automl.results import read_run, summarise
from automl.results.finalists import prepared_data
from automl.results.formats import format_leaderboard
from automl.results.intervals import wilson_interval
from automl.results.leaderboard import rows as rows_of
from automl.results.selection import Selection
from automl.results.table import render_table
from automl.results.verdict import verdict
from automl.search.journal import open_journal
from automl.search.ledger import Ledger
from automl.training.inference import load_weights, predict_probabilities
from automl.training.run_directory import RunDirectory, read_json, write_json
from tests.conftest import copy_run
from tests.results.conftest import HTML, LONG

pytestmark = pytest.mark.ray


def board_of(run: RunDirectory) -> dict[str, Any]:
    return read_json(run.leaderboard("json"))


def test_scores_are_those_that_the_trials_wrote(finished: RunDirectory) -> None:
    scores = {}
    for row in board_of(finished)["trials"]:
        lines = (finished.path / "trials" / str(row["trial"]) / "metrics.jsonl").read_text().splitlines()
        measured = [json.loads(line) for line in lines]
        assert row["score"] == max(line["accuracy"] for line in measured)
        assert row["epochs"] == len(measured) == measured[-1]["epoch"]
        assert math.isclose(row["train_seconds"], sum(line["seconds"] for line in measured))
        scores[row["trial"]] = row["score"]
    ranked = sorted(scores, key=lambda number: (-scores[number], number))
    assert [row["trial"] for row in board_of(finished)["trials"]] == ranked


def test_the_test_score_is_the_share_of_test_rows_that_the_best_model_gets_right(
    finished: RunDirectory, small_data: Path
) -> None:
    best = board_of(finished)["trials"][0]
    rows = [json.loads(line) for line in (small_data / "test.jsonl").read_text().splitlines()]
    model = automl.load_model(finished.best_model)
    right = sum(model.predict([row["text"]])[0].label == row["label"] for row in rows)
    assert best["test_score"] == round(right / len(rows), 6)
    weights = load_file(finished.best_model / "model.safetensors")
    (member,) = read_json(finished.best_model / "config.json")["members"]
    module = build(member["config"]["model"], vocabulary=member["vocabulary"], classes=2)
    assert best["parameters"] == sum(parameter.numel() for parameter in module.parameters())
    assert set(weights) == set(module.state_dict()) and all(torch.isfinite(value).all() for value in weights.values())


def dashboard(run: RunDirectory, path: str) -> Any:
    """The answer of optuna-dashboard's own server to a GET, for the run's journal."""
    application = optuna_dashboard.wsgi(JournalStorage(JournalFileBackend(str(run.journal))))
    environment: dict[str, Any] = {"wsgi.input": io.BytesIO()}
    setup_testing_defaults(environment)
    environment |= {"PATH_INFO": path, "QUERY_STRING": "after=0"}
    status: list[str] = []
    body = b"".join(application(environment, lambda code, headers, *rest: status.append(code)))
    assert status == ["200 OK"], (status, body[:300])
    return json.loads(body)


def test_the_study_opens_in_optuna_dashboard_and_agrees_with_the_leaderboard(
    finished: RunDirectory, tmp_path: Path
) -> None:
    run = copy_run(finished, tmp_path / "run")
    (study,) = dashboard(run, "/api/studies")["study_summaries"]
    assert study["study_name"] == "search" and study["directions"] == ["maximize"]
    trials = {trial["number"]: trial for trial in dashboard(run, f"/api/studies/{study['study_id']}")["trials"]}
    rows = board_of(run)["trials"]
    assert sorted(trials) == sorted(row["trial"] for row in rows) == list(range(10))
    for row in rows:
        trial = trials[row["trial"]]
        assert trial["state"] == {"completed": "Complete", "stopped": "Pruned", "failed": "Fail"}[row["status"]]
        values = {line["step"]: line["value"] for line in trial["intermediate_values"]}
        assert max(values.values()) == row["score"] and max(values) == row["epochs"]
        if row["status"] == "completed":
            assert trial["values"] == [row["score"]]
        family = next(param for param in trial["params"] if param["name"] == "model")
        assert family["param_external_value"].strip("'\"") == row["family"]


def test_the_leaderboard_fits_eighty_columns_and_shows_words_as_they_are(hostile_run: RunDirectory) -> None:
    console = Console(width=80, file=io.StringIO(), highlight=False)
    console.print(render_table(read_run(hostile_run), Selection(top=24)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    flat = "".join(text.split())
    assert "".join(LONG.split()) in flat.replace("rnn", "") and "[/usr/lib/torch]" in flat
    for row in automl.leaderboard(hostile_run.path):
        if row["score"] is not None:
            assert any(f"{row['score']:.4f}" in line and f" {row['family'].split()[0][:3]}" for line in lines)
    assert "…" not in text


def test_markdown_keeps_its_columns_whatever_the_reasons_say(hostile_run: RunDirectory) -> None:
    text = format_leaderboard(read_run(hostile_run), "md")
    table = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {19}
    assert len(table) == 2 + 23 + 1
    assert "<img" not in text


def test_a_trial_that_waits_at_a_rung_is_shown_as_paused(finished: RunDirectory, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    for path in (run.journal, run.finalists):
        path.unlink()
    asha = "{asha: {max_epochs: 4, grace_period: 1, reduction_factor: 2, promotion: true}}"
    spec = automl.verbs.load_space(run.space, [f"search.early_stopping={asha}"])
    ledger = Ledger(open_journal(run.journal, mode="max"), spec)
    costs = {"train_seconds": 1.0, "parameters": 9, "bytes": 36}
    for _ in range(3):
        assert ledger.next() is not None
    for number, accuracy in enumerate((0.5, 0.9, 0.7)):
        assert not ledger.record(number, {"epoch": 1, "accuracy": accuracy, **costs})
    rows = automl.leaderboard(run.path)[:-1]
    assert [(row["trial"], row["status"], row["rank"], row["epochs"]) for row in rows] == [
        (1, "paused", None, 1),
        (2, "paused", None, 1),
        (0, "paused", None, 1),
    ]
    assert "paused at epoch 1" in format_leaderboard(read_run(run), "md")
    promoted = ledger.next()
    assert promoted is not None and promoted.number == 1
    assert [row["trial"] for row in automl.leaderboard(run.path)[:-1]] == [2, 0]
    ledger.record(1, {"epoch": 2, "accuracy": 0.8, **costs})
    ledger.end_of_budget("time budget")
    summarise(run)
    assert [(row["trial"], row["rank"]) for row in board_of(run)["trials"]] == [(1, 1), (2, 2), (0, 3)]
    assert {row["status"] for row in board_of(run)["trials"]} == {"stopped"}


def test_top_limits_the_trials_and_never_the_floor(finished: RunDirectory) -> None:
    content = json.loads(automl.verbs.format_leaderboard(finished.path, "json", top=3))
    assert [row["rank"] for row in content["trials"]] == [1, 2, 3] and content["floor"]["status"] == "floor"
    assert len(automl.verbs.format_leaderboard(finished.path, "csv").splitlines()) == 1 + 10 + 1


def test_intervals_groups_and_costs_are_found_again_from_the_files(finished: RunDirectory) -> None:
    """By other code: scipy's Wilson interval and binomial test on what each finalist said, seconds times CPUs."""
    said = load_arrays(finished.predictions)
    rows = {row["trial"]: row for row in board_of(finished)["trials"]}
    finalists = [number for number, row in rows.items() if row["test_score"] is not None]
    assert len(finalists) >= 3
    right = {}
    for number in finalists:
        row, labels = rows[number], said["test/labels"]
        hits = int((said[f"test/{number}"].argmax(axis=1) == labels).sum())
        assert row["test_score"] == round(hits / len(labels), 6)
        interval = binomtest(hits, len(labels)).proportion_ci(method="wilson")
        assert (row["test_low"], row["test_high"]) == pytest.approx(tuple(interval), abs=1e-5)
        right[number] = said[f"validation/{number}"].argmax(axis=1) == said["validation/labels"]
        assert row["score"] == pytest.approx(right[number].mean(), abs=1e-6)
    found = read_json(finished.finalists)["chance"]["behind_best"]
    raw = {pair: mid_p(right[pair[0]], right[pair[1]]) for pair in combinations(finalists, 2)}
    least = min(raw.values())
    for number in finalists[1:]:
        assert found[str(number)]["p"] >= min(1.0, 3 * least) - 1e-6
        assert found[str(number)]["p"] >= raw[finalists[0], number] - 1e-6
        assert (rows[number]["group"] == 1) is (found[str(number)]["p"] >= 0.05)
        assert found[str(number)]["value"] == pytest.approx(
            rows[finalists[0]]["score"] - rows[number]["score"], abs=2e-6
        )
    assert rows[finalists[0]]["group"] == 1
    assert finished.predictions.stat().st_mode == finished.finalists.stat().st_mode  # who reads the run reads it, too
    assert sum(bool(row["recommended"]) for row in rows.values()) == 1
    for number, row in rows.items():
        lines = [json.loads(line) for line in finished.trial(number).metrics.read_text().splitlines()]
        assert row["cpu_hours"] == pytest.approx(sum(line["seconds"] for line in lines) / 3600, abs=1e-6)
        assert row["gpu_hours"] == 0 and {line["cpus"] for line in lines} == {1}


@pytest.mark.parametrize(
    ("milliseconds", "parameters", "groups", "recommended", "words"),
    [
        ((1.0, 0.5, 0.1), (900, 400, 50), (1, 1, 2), 1, "differs from the best, trial {0}, by no more than chance"),
        ((0.5, 1.0, 0.1), (400, 900, 50), (1, 1, 2), 0, "what it is ahead of trial {1} may be chance"),
        ((0.50, 0.55, 0.59), (900, 400, 50), (1, 1, 1), 2, "and is smaller (50 parameters against 900)."),
        ((0.9, 0.5, 0.1), (400, 900, 50), (1, 1, 2), 1, "and is faster (0.5 ms for an example against 0.9)."),
        ((0.9, 0.1, 0.1), (900, 400, 50), (1, 2, 2), 0, "it is better than the other finalists by more than chance"),
    ],
)
def test_the_cheapest_of_those_that_are_level_is_recommended_in_words(
    finished: RunDirectory,
    tmp_path: Path,
    milliseconds: Any,
    parameters: Any,
    groups: Any,
    recommended: int,
    words: str,
) -> None:
    run = copy_run(finished, tmp_path / "run")
    finalists = read_json(run.finalists)
    numbers = [row["trial"] for row in board_of(run)["trials"][:3]]
    finalists["chance"]["groups"] = {str(number): group for number, group in zip(numbers, groups, strict=True)}
    for number, took in zip(numbers, milliseconds, strict=True):
        finalists["trials"][str(number)]["latency"]["1"]["p50"] = took
    write_json(run.finalists, finalists)
    record = read_run(run)
    sizes = dict(zip(numbers, parameters, strict=True))
    trials = tuple(replace(trial, parameters=sizes.get(trial.number, 1)) for trial in record.trials)
    record = replace(record, trials=trials)
    found = [row["trial"] for row in rows_of(record) if row["recommended"]]
    assert found == [numbers[recommended]]
    said = verdict(record)
    assert f"Trial {numbers[recommended]} (" in said and words.format(*numbers) in said
    console = Console(width=80, file=io.StringIO(), highlight=False)
    console.print(render_table(record, Selection(top=2)))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert " ".join(shown.split()).endswith(said)
    assert (f"= {record.ranked[1].score:.4f}" in shown) is (groups[1] == 1)


def mid_p(one: Any, other: Any) -> float:
    """McNemar's test by another way: the exact one less half of what the observed split itself has."""
    wins, both = int((one & ~other).sum()), int((one != other).sum())
    if not both:
        return 1.0
    exact = binomtest(wins, both).pvalue
    return min(1.0, exact - comb(both, wins) / 2**both) if 2 * wins != both else 1.0


def test_every_finalist_says_of_the_raw_test_rows_what_the_leaderboard_says(
    finished: RunDirectory, small_data: Path
) -> None:
    raw = [json.loads(line) for line in (small_data / "test.jsonl").read_text().splitlines()]
    record, kept = read_run(finished), load_arrays(finished.predictions)
    rows = {row["trial"]: row for row in board_of(finished)["trials"]}
    for trial in record.ranked[:3]:
        prepared = prepared_data(record, trial.config)
        weights = finished.trial(trial.number).weights
        module = load_weights(trial.config, vocabulary=prepared.vocabulary, classes=2, path=weights)
        encoded = prepared.encoder().encode([each["text"] for each in raw])
        said = predict_probabilities(module, encoded, device=torch.device("cpu"))
        right = [("negative", "positive")[row.argmax()] == each["label"] for row, each in zip(said, raw, strict=True)]
        assert rows[trial.number]["test_score"] == round(sum(right) / len(raw), 6)
        assert abs(said - kept[f"test/{trial.number}"]).max() < 1e-6


def test_the_card_says_what_the_files_say(finished: RunDirectory) -> None:
    card = (finished.best_model / "README.md").read_text()
    board, manifest = board_of(finished), read_json(finished.manifest)
    best = board["trials"][0]
    metrics = read_json(finished.best_model / "metrics.json")
    for name, value in metrics["test"].items():
        assert f"| {name} | {metrics['validation'][name]:.4f} | {value:.4f} |" in card
    low, high = wilson_interval(best["test_score"], 120)
    assert f"{low:.3f} to {high:.3f} (120 rows, Wilson)" in card
    counts = manifest["data"]["profile"]["classes"]["train"]
    assert sum(counts.values()) == 400
    for name, count in counts.items():
        assert f"- `{name}`: {count} of the training rows" in card
    stopped = sum(row["status"] == "stopped" for row in board["trials"])
    assert f"Trial {best['trial']} ({best['family']}), best epoch" in card
    assert f"Run `run`: 10 trials, {stopped} of them stopped early" in card
    assert manifest["data"]["fingerprint"] in card
    searched = json.loads(card.split("```json\n")[1].split("```")[0])
    assert searched == {name: best["config"][name] for name in ("model", "training")}


def test_the_best_model_needs_nothing_of_its_run(finished: RunDirectory, tmp_path: Path) -> None:
    """Moved away, its run and the prepared data gone, in a fresh process, by the words of its own card."""
    folder = shutil.copytree(finished.best_model, tmp_path / "elsewhere" / "model")
    assert str(finished.path) not in "".join(
        path.read_text() for path in folder.iterdir() if path.suffix in (".json", ".md") and path.name != "config.json"
    )
    texts = ["great", "what an awful flight", "monday"]
    card = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = f"{card}import json; print(json.dumps([found.probabilities for found in model.predict({texts!r})]))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True,
        env={"PATH": "", "PYTHONPATH": str(Path(automl.__file__).parents[1]), "AUTOML_CACHE": str(tmp_path / "none")},
    )  # fmt: skip
    here = [prediction.probabilities for prediction in automl.load_model(finished.path).predict(texts)]
    assert json.loads(found.stdout) == [pytest.approx(each, abs=1e-6) for each in here]  # by so many threads it differs
    assert not (tmp_path / "none").exists()


def test_damaged_models_are_said_to_be_damaged(finished: RunDirectory, tmp_path: Path) -> None:
    for number, name in enumerate(("config.json", "tokenizer.json", "encoder.json", "model.safetensors")):
        for kind, content in enumerate((b"", b"[]", b"{}", (finished.best_model / name).read_bytes()[:-40])):
            folder = shutil.copytree(finished.best_model, tmp_path / f"{number}-{kind}")
            (folder / name).write_bytes(content)
            with pytest.raises(automl.UserError):
                automl.load_model(folder)
    folder = shutil.copytree(finished.best_model, tmp_path / "later")
    write_json(folder / "config.json", {**read_json(folder / "config.json"), "format_version": 99})
    with pytest.raises(automl.UserError, match="later version"):
        automl.load_model(folder)


def test_damaged_runs_are_said_to_be_damaged(finished: RunDirectory, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    whole = {path: path.read_bytes() for path in (run.manifest, run.journal, run.floor, run.finalists)}
    for path, content in whole.items():
        for damaged in (
            b"[]\n",
            b"{}\n" if path == run.manifest else b"1\n",
            content[: len(content) // 2][:-1] + b"\n",
        ):
            path.write_bytes(damaged)
            if path == run.journal and damaged.startswith(b"{"):
                continue
            with pytest.raises(automl.UserError, match=path.name):
                summarise(run)
        path.write_bytes(content)
    summarise(run)


def test_html_in_a_reason_stays_text_in_every_account(hostile_run: RunDirectory) -> None:
    summarise(hostile_run)
    page = hostile_run.report.read_text()
    assert HTML not in page and "<b>bold" not in page and "&lt;b&gt;bold" in page
