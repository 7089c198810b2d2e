"""Trials share GPUs by what they take of them; one that a neighbour left too little memory is tried again alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from ray.exceptions import RayTaskError

from automl.models import FAMILIES
from automl.search import tuning
from automl.search.confirmation import Confirmation
from automl.search.journal import open_journal
from automl.search.ledger import Ledger
from automl.search.reasons import out_of_gpu_memory, result_of
from automl.search.resources import HEADROOM, Capacity, Share, check_request
from automl.search.sharing import Sharing, is_part
from automl.search.standing import Proposal
from automl.search.trial import Assignment
from automl.search.tuning import run_trials
from automl.space import SearchSpec, parse
from automl.training.run_directory import RunDirectory

EPOCHS = 2
AROUND = 0.02  # of a GPU's memory, which CUDA has for each process
OUT_OF_MEMORY = {"error": "out of GPU memory: CUDA out of memory.", "out_of_gpu_memory": True}


def spec_with(gpus: str = "auto", trials: int = 12, stopping: str = "none: {max_epochs: 2}") -> SearchSpec:
    return parse(
        f"name: x\ndata: {{train: t.csv}}\nmodel: {{cnn: {{}}, rnn: {{}}}}\n"
        f"search: {{trials: {trials}, sampler: random, early_stopping: {{{stopping}}}, ensemble: null}}\n"
        f"resources: {{per_trial: {{cpus: 0.1, gpus: {gpus}}}}}",
        FAMILIES,
    )


def of_gpu(own: float, beside: float = 0.0) -> dict[str, float]:
    return {"gpu_memory": min(1.0, own + AROUND + beside), "gpu_reserved": own}


@given(
    reports=st.lists(st.tuples(st.floats(0.001, 0.97), st.floats(0, 0.9)), min_size=1, max_size=12),
    gpus=st.integers(1, 8),
)
@settings(max_examples=30)
def test_what_trials_took_always_fits_with_headroom(reports: list[tuple[float, float]], gpus: int) -> None:
    """The share only grows, and of the largest trial seen as many fit as share a GPU."""
    sharing = Sharing(check_request(spec_with(), Capacity(64, gpus)))
    assert sharing.share().measure_first and sharing.share().gpus == 1.0
    seen: list[float] = []
    shares: list[float] = []
    for own, beside in reports:
        held = sharing.share().gpus
        sharing.report(of_gpu(own, beside if is_part(held) else 0.0), held)
        seen.append(own + AROUND)
        shares.append(sharing.share().gpus)
        together = math.floor(1 / shares[-1] + 1e-9)
        assert together == 1 or together * max(seen) <= HEADROOM + 1e-6
        assert together == 16 or (together + 1) * max(seen) > HEADROOM - 1e-6
    assert shares == sorted(shares)


def test_a_trial_that_tells_nothing_concludes_nothing() -> None:
    sharing = Sharing(check_request(spec_with(), Capacity(64, 1)))
    for result in (OUT_OF_MEMORY, {"interrupted": True}, {"epoch": 1}):
        sharing.report(result, 1.0)
        assert sharing.share().measure_first and sharing.share().gpus == 1.0
    sharing.report(of_gpu(0.25), 1.0)
    assert sharing.share().gpus == pytest.approx(1 / 3, abs=1e-3)


@pytest.mark.parametrize(("gpus", "alone"), [("0.25", 1.0), ("0", 0.0), ("1", 1.0), ("2", 2.0)])
def test_a_share_that_the_file_names_stays(gpus: str, alone: float) -> None:
    sharing = Sharing(check_request(spec_with(gpus), Capacity(64, 2)))
    sharing.report(of_gpu(0.9), 1.0)
    assert sharing.share() == sharing.asked and sharing.share().gpus == float(gpus)
    assert sharing.whole().gpus == alone


# -- a machine in place of Ray Tune's: trials run side by side on GPUs whose memory is counted


@dataclass
class Machine:
    """Runs trials in turns. Each needs a part of a GPU's memory; it is out of memory where its GPU has less."""

    needs: Callable[[int], float]
    gpus: int = 1
    rounds: list[tuple[float, list[int]]] = field(default_factory=list)
    attempts: list[tuple[int, float]] = field(default_factory=list)
    stop_after: int = 10_000

    def fit(self, searcher: Any, scheduler: Any, stop: Any, share: Share, worker: Any) -> None:
        scheduler.begin(searcher.max_concurrent)
        scheduler._all_started_by = -math.inf
        self.rounds.append((share.gpus, []))
        running: list[tuple[Any, int]] = []
        at_work: list[Any] = []  # those that have taken memory
        idle = 0
        controller = SimpleNamespace(get_live_trials=list, get_trials=list)
        while not stop.stop_all():
            suggested = searcher.suggest("x")
            if isinstance(suggested, dict):
                trial = SimpleNamespace(config=suggested)
                assignment = json.loads(suggested["assignment"])
                self.rounds[-1][1].append(assignment["number"])
                self.attempts.append((assignment["number"], assignment["worker_resources"]["GPU"]))
                running.append((trial, assignment["epochs_known"]))
                if len(self.attempts) >= self.stop_after:
                    raise KeyboardInterrupt
                continue
            if not running:
                if suggested == "FINISHED":
                    return
                idle += 1
                assert idle < 3  # or it would wait for ever
                continue
            trial, epochs = running.pop(0)
            at_work = [each for each in at_work if each is not trial]
            number = json.loads(trial.config["assignment"])["number"]
            others = sum(self.needs(json.loads(each.config["assignment"])["number"]) for each in at_work)
            assert share.gpus < 1 or self.gpus > 1 or not running  # a whole GPU has no other trial
            result: dict[str, Any] = dict(OUT_OF_MEMORY)
            if self.needs(number) + (others if is_part(share.gpus) else 0) <= 1:
                result = {"epoch": epochs + 1, "accuracy": 0.5, "train_seconds": 1.0, "parameters": 1, "bytes": 4}
                result |= of_gpu(self.needs(number) - AROUND, others if is_part(share.gpus) else 0)
            if scheduler.on_trial_result(controller, trial, result) == "CONTINUE":
                running.append((trial, epochs + 1))
                at_work.append(trial)


def run_on(machine: Machine, ledger: Ledger | Confirmation, spec: SearchSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def assign(proposal: Proposal) -> Assignment:
        return Assignment(
            number=proposal.number,
            config={},
            epochs_known=proposal.epochs,
            max_epochs=EPOCHS,
            seed=0,
            training_seed=0,
            metric="accuracy",
            maximize=True,
            folder="nowhere",
            run_folder="nowhere",
            cache="",
            working_directory="",
            threads=1,
            worker_resources={"GPU": 17.0},  # of the file; each run of Ray Tune has its own
        )

    monkeypatch.setattr(tuning, "_fit", machine.fit)
    stop: Any = SimpleNamespace(stop_all=lambda: False, request=lambda reason: None)
    memory: Any = SimpleNamespace(reason=lambda error: None)
    sharing = Sharing(check_request(spec, Capacity(64, machine.gpus)))
    run_trials(ledger, assign, lambda number: None, stop, sharing, object, memory)  # type: ignore[arg-type]


def states_of(ledger: Ledger) -> dict[int, TrialState]:
    return {trial.number: trial.state for trial in ledger.journal.study.get_trials(deepcopy=False)}


def test_the_measuring_trial_out_of_memory_does_not_conclude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_with()
    ledger = Ledger(open_journal(tmp_path / "j", mode="max"), spec)
    machine = Machine(lambda number: 1.5 if number < 2 else 0.2)
    run_on(machine, ledger, spec, monkeypatch)
    assert machine.rounds[0] == (1.0, [0, 1, 2])
    assert [gpus for gpus, _ in machine.rounds] == [1.0, 0.25]
    states = states_of(ledger)
    assert [number for number, state in states.items() if state == TrialState.FAIL] == [0, 1]
    assert ledger.journal.trial(0).user_attrs["reason"] == OUT_OF_MEMORY["error"]
    assert [number for number, _ in machine.attempts] == list(range(12))  # a whole GPU was too small: not again


def test_the_share_grows_with_the_largest_and_a_trial_is_tried_again_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve of the first would fit; one takes half a GPU, which the others left too little of."""
    spec = spec_with(trials=24)
    ledger = Ledger(open_journal(tmp_path / "j", mode="max"), spec)
    machine = Machine(lambda number: 0.45 if number == 9 else 1.5 if number == 20 else 0.07)
    run_on(machine, ledger, spec, monkeypatch)
    tries = [gpus for number, gpus in machine.attempts if number == 9]
    assert tries == [pytest.approx(1 / 12, abs=1e-3), 1.0]
    assert [gpus for number, gpus in machine.attempts if number == 20] == [0.5, 1.0]
    later = machine.attempts[machine.attempts.index((9, 1.0)) + 1 :]
    assert all(gpus >= 0.5 for _, gpus in later)
    states = states_of(ledger)
    assert [number for number, state in states.items() if state != TrialState.COMPLETE] == [20]
    assert ledger.journal.trial(20).user_attrs["reason"] == OUT_OF_MEMORY["error"]


@pytest.mark.parametrize(
    "stopping",
    ["none: {max_epochs: 2}", "asha: {max_epochs: 4, grace_period: 2, reduction_factor: 2, promotion: true}"],
)
def test_a_resumed_run_remembers_who_is_to_be_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopping: str
) -> None:
    spec = spec_with("0.25", trials=6, stopping=stopping)
    needs = {2: 0.97, 3: 1.5}
    whole = Machine(lambda number: needs.get(number, 0.05))
    run_on(whole, Ledger(open_journal(tmp_path / "whole", mode="max"), spec), spec, monkeypatch)
    assert {number for number, gpus in whole.attempts if gpus == 1.0} >= {2, 3}  # and whom they took it from
    for stop_after in range(1, len(whole.attempts) + 1, 2):
        path = tmp_path / f"{stop_after}"
        first = Machine(whole.needs, stop_after=stop_after)
        with pytest.raises(KeyboardInterrupt):
            run_on(first, Ledger(open_journal(path, mode="max"), spec), spec, monkeypatch)
        noted = [
            trial.number for trial in open_journal(path, mode="max").study.get_trials() if "alone" in trial.user_attrs
        ]
        ledger, second = Ledger(open_journal(path, mode="max"), spec), Machine(whole.needs)
        run_on(second, ledger, spec, monkeypatch)
        assert all(gpus == 1.0 for number, gpus in second.attempts if number in noted)
        assert [number for number, state in states_of(ledger).items() if state == TrialState.FAIL] == [3]
        assert ledger.remaining() == 0 and ledger.running() == 0


@given(needs=st.lists(st.floats(0.03, 1.3), min_size=16, max_size=16), gpus=st.sampled_from(["auto", "0.25", "1"]))
@settings(max_examples=20)
def test_only_what_fits_on_no_gpu_fails(
    tmp_path_factory: pytest.TempPathFactory, needs: list[float], gpus: str
) -> None:
    """Whatever trials take, the search ends; each that fits alone is completed, each other fails with its reason."""
    spec = spec_with(gpus, trials=16)
    ledger = Ledger(open_journal(tmp_path_factory.mktemp("study") / "j", mode="max"), spec)
    machine = Machine(needs.__getitem__)
    with pytest.MonkeyPatch.context() as patch:
        run_on(machine, ledger, spec, patch)
    for number, state in states_of(ledger).items():
        assert state == (TrialState.FAIL if needs[number] > 1 else TrialState.COMPLETE)
        tried = [held for each, held in machine.attempts if each == number]
        assert len(tried) <= 2 and (len(tried) == 1 or is_part(tried[0])) and not is_part(tried[-1] if tried[1:] else 1)
    assert ledger.remaining() == 0


def test_reruns_of_the_best_are_tried_alone_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_with("0.25")
    run = RunDirectory(tmp_path)
    reruns = Confirmation(run, spec, {7: {}, 8: {}}, seeds=3)
    machine = Machine(lambda number: {1: 0.97, 3: 1.5}.get(number, 0.1))
    run_on(machine, reruns, spec, monkeypatch)
    assert [held for number, held in machine.attempts if number in (1, 3)] == [0.25, 0.25, 1.0, 1.0]
    found = json.loads(run.confirmed.read_text())["trials"]
    assert [("error" in found[str(each.trial)][str(each.repetition)]) for each in reruns.reruns] == [
        number == 3 for number in range(6)
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RayTaskError("step", "traceback", RuntimeError("HIP error: out of memory")), True),
        (MemoryError(), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (None, False),
    ],
)
def test_what_is_out_of_gpu_memory(error: BaseException | None, expected: bool) -> None:
    assert out_of_gpu_memory(error) == expected
    if error is not None:
        assert ("out_of_gpu_memory" in result_of(error, "folder")) == expected


def test_a_worker_that_dies_of_it_is_tried_again_alone(tmp_path: Path) -> None:
    """As where a library, and not PyTorch, had asked for the memory: its process cannot be trusted any more."""
    from automl.search.tune_adapters import BookScheduler

    spec = spec_with("0.25")
    ledger = Ledger(open_journal(tmp_path / "j", mode="max"), spec)
    (proposal, other) = ledger.next(), ledger.next()
    assert proposal is not None and other is not None
    scheduler = BookScheduler(ledger, lambda reason: None, lambda number: None)
    for number, gpus in ((proposal.number, 0.25), (other.number, 1.0)):
        assignment = Assignment(
            number, {}, 0, 2, 0, 0, "accuracy", True, str(tmp_path / "t"), str(tmp_path), "", "", 1,
            worker_resources={"GPU": gpus},
        )  # fmt: skip
        failure = RayTaskError("step", "traceback", RuntimeError("CUDA error: out of memory"))
        trial = SimpleNamespace(
            config={"assignment": json.dumps(asdict(assignment))}, temporary_state=SimpleNamespace(failure=failure)
        )
        scheduler.on_trial_error(SimpleNamespace(), trial)
    assert ledger.waiting_alone() == 1 and ledger.running() == 0
    assert (again := ledger.next(alone=True)) is not None and again.number == proposal.number
    assert (third := ledger.next()) is not None and third.number == other.number  # had a GPU: run again as ever
