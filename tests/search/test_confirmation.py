"""The reruns of the finalists: each once, under its own seed, whatever happens in between."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from automl.models import FAMILIES
from automl.search.confirmation import Confirmation, Rerun, read_confirmed
from automl.search.ledger import MAX_RESTARTS
from automl.search.refit import validation_losses
from automl.space import parse
from automl.training.run_directory import RunDirectory, TrialDirectory

SPEC = parse(
    "name: x\ndata: {train: t.csv}\nmodel: {cnn: {}}\nsearch: {early_stopping: {asha: {max_epochs: 2}}}", FAMILIES
)
CONFIGS: dict[int, dict[str, Any]] = {7: {"a": 1}, 3: {"a": 2}}


def begin(folder: Path) -> Confirmation:
    return Confirmation(RunDirectory(folder), SPEC, CONFIGS, seeds=2)


def result(epoch: int, value: float) -> dict[str, Any]:
    return {"epoch": epoch, "accuracy": value}


def test_every_finalist_is_trained_under_every_seed_to_the_last_epoch(tmp_path: Path) -> None:
    reruns = begin(tmp_path)
    seen = []
    while proposal := reruns.next():
        rerun = reruns.reruns[proposal.number]
        seen.append(rerun)
        assert proposal.config == CONFIGS[rerun.trial]
        assert reruns.record(proposal.number, result(1, 0.9))
        assert not reruns.record(proposal.number, result(2, 0.8))
    assert seen == [Rerun(7, 1), Rerun(3, 1), Rerun(7, 2), Rerun(3, 2)] and reruns.remaining() == 0
    confirmed = read_confirmed(RunDirectory(tmp_path))
    assert confirmed["7"]["2"] == {"score": 0.9, "values": [0.9, 0.8]}


def test_what_is_done_is_not_done_again_and_what_was_interrupted_is(tmp_path: Path) -> None:
    reruns = begin(tmp_path)
    first, second = reruns.next(), reruns.next()
    assert first and second
    for epoch in (1, 2):
        reruns.record(first.number, result(epoch, 0.5))
    reruns.record(second.number, result(1, 0.5))
    again = begin(tmp_path)
    assert again.remaining() == 3
    assert [again.reruns[proposal.number] for proposal in iter(again.next, None)] == [
        Rerun(3, 1),
        Rerun(7, 2),
        Rerun(3, 2),
    ]


@pytest.mark.parametrize(
    ("news", "error"),
    [
        ({"error": "ValueError: boom"}, "ValueError: boom"),
        ({"epoch": 1, "accuracy": math.nan}, "the loss was not finite in epoch 1"),
        ({"epoch": 1, "accuracy": None}, "the loss was not finite in epoch 1"),
    ],
)
def test_a_rerun_that_fails_is_written_down(news: dict[str, Any], error: str, tmp_path: Path) -> None:
    reruns = begin(tmp_path)
    proposal = reruns.next()
    assert proposal and not reruns.record(proposal.number, news)
    assert read_confirmed(RunDirectory(tmp_path)) == {"7": {"1": {"error": error}}}


def test_a_rerun_that_loses_its_worker_runs_again_and_in_the_end_fails(tmp_path: Path) -> None:
    reruns = begin(tmp_path)
    reruns.next()
    for _ in range(MAX_RESTARTS):
        assert reruns.restart(0, "it died") and reruns.remaining() == 4
        while reruns.next() and 0 not in reruns._values:
            pass
    assert not reruns.restart(0, "it died")
    assert read_confirmed(RunDirectory(tmp_path))["7"]["1"]["error"] == "it died (3 times)"


def test_a_refit_follows_the_losses_of_the_trial(tmp_path: Path) -> None:
    lines = [{"loss": 0.5}, {"loss": None}, {"loss": 0.4}, {"loss": 0.1}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, second, third = validation_losses(TrialDirectory(tmp_path), 3)
    assert (first, third) == (0.5, 0.4) and math.isnan(second)
