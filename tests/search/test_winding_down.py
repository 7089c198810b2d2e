"""The end of a search: budgets count searching alone, and what happens after it leaves a run finished or resumable."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import automl
from automl.search.budget import INTERRUPTED, Stop, Usage
from automl.search.engine import _is_over, _outcome
from automl.search.signals import end_at_once, on_interrupt
from automl.search.stop_file import StopFile
from automl.training.run_directory import RunDirectory
from tests.conftest import copy_run, write_space
from tests.search.conftest import start_automl


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("automl.search.budget.time.monotonic", lambda: self.now)


def make_stop(folder: Path, used: dict[str, Any] | None = None) -> Stop:
    search = SimpleNamespace(time_budget_seconds=60.0, gpu_hours=1.0, plateau=None)
    ledger = SimpleNamespace(same_failure=lambda: None, ended=[], requeue=lambda: None, leaders=lambda count: [0])
    ledger.end_of_budget = ledger.ended.append
    usage = Usage.resumed(used or {"seconds": 0.0, "gpu_hours": 0.0})
    return Stop(SimpleNamespace(search=search), ledger, usage, StopFile(folder, None))  # type: ignore[arg-type]


def test_confirming_uses_no_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    stop = make_stop(tmp_path)
    stop.gpus_in_use = lambda: 2.0
    clock.now += 50
    assert not stop.stop_all()
    stop.finish()
    clock.now += 1000
    assert not stop.stop_all()
    used = stop.usage.entry()
    assert used == {
        "seconds": 50.0,
        "gpu_hours": round(100 / 3600, 4),
        "after_search": {"seconds": 1000.0, "gpu_hours": round(2000 / 3600, 4)},
    }
    again = make_stop(tmp_path, used)
    assert not again.stop_all()  # ten seconds are left
    clock.now += 11
    assert again.stop_all() and again.reason == "time budget"


def test_ctrl_c_at_the_end_of_a_budget_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    stop = make_stop(tmp_path)
    clock.now += 61
    assert stop.stop_all()
    stop.interrupt()  # the first one, so in good order
    stop.finish()
    assert stop.search_ended == "time budget" and stop.stop_all() and stop.stop_file.is_set()
    assert _outcome(stop, stop.ledger).status == INTERRUPTED
    with pytest.raises(KeyboardInterrupt):
        stop.interrupt()


def test_what_fails_while_a_used_budget_ends_does_not_fail_the_run(tmp_path: Path) -> None:
    stop = make_stop(tmp_path)
    stop.request("time budget")
    assert not _is_over(RuntimeError("the actor died"), 1, stop, stop.ledger)  # another session confirms
    assert stop.ledger.ended == ["time budget"]  # type: ignore[attr-defined]
    assert _is_over(RuntimeError("it died again"), 3, stop, stop.ledger)
    found = _outcome(stop, stop.ledger)
    assert (found.status, found.reason) == ("finished", "time budget") and "it died again" in found.note


def test_a_signal_is_answered_in_the_block_alone() -> None:
    heard = []
    before = signal.getsignal(signal.SIGTERM)
    with on_interrupt(lambda: heard.append(1)):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert heard == [1, 1] and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_models_are_measured(
    finished: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    run = copy_run(finished, tmp_path / "run")

    def measure(_: RunDirectory, *families: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(30)

    with monkeypatch.context() as patch:
        patch.setattr("automl.results.finish", measure)
        assert automl.resume(run.path, quiet=True).status == INTERRUPTED
    assert json.loads(run.manifest.read_text())["status"] == INTERRUPTED
    assert automl.resume(run.path, quiet=True).status == "finished"
    assert json.loads(run.manifest.read_text())["status"] == "finished"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_while_the_best_are_confirmed(small_data: Path, tmp_path: Path, times: int) -> None:
    space = write_space(tmp_path / "space.yaml", small_data, trials=2, epochs=16)
    space.write_text(space.read_text().replace("search:\n", "search:\n  confirm: {top: 2, seeds: 8}\n"))
    run = RunDirectory(tmp_path / "run")
    process = start_automl(["run", space, "--output", run.path, "--time-budget", "10m"], tmp_path)
    deadline = time.monotonic() + 400
    while not run.confirmed.exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.2)
    _, err = process.communicate(timeout=300)
    assert process.returncode not in (0, 2) and "Traceback" not in err, err
    if times == 1:
        assert f"go on with: automl resume {run.path}" in err
        manifest = json.loads(run.manifest.read_text())
        assert manifest["status"] == INTERRUPTED and manifest["used"]["after_search"]["seconds"] > 0
        assert run.report.exists()
    assert automl.resume(run.path, quiet=True).status == "finished"
    confirmed = json.loads(run.confirmed.read_text())["trials"]
    assert [len(reruns) for reruns in confirmed.values()] == [8, 8]


def test_an_interrupt_during_a_destructor_is_not_lost() -> None:
    class Closing:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)  # the signal is answered here

    with pytest.raises(KeyboardInterrupt), on_interrupt(end_at_once):
        Closing()
        time.sleep(10)
