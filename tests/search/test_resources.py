"""What a trial gets of the machines: nothing that does not fit, and no GPU left idle that could hold another trial."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from hypothesis import given
from hypothesis import strategies as st

from automl.models import FAMILIES
from automl.results.study import RunRecord
from automl.search import ray_session
from automl.search.resources import HEADROOM, Capacity, check_request, packed
from automl.search.trial import Assignment
from automl.space import SearchSpec, UserError, parse
from automl.training.inference import cpu_only, default_device
from automl.verbs import load_space

SPACES = Path(__file__).parents[2] / "search_spaces"


def at_work(gpus: float) -> Assignment:
    held = {"CPU": 1.0, "GPU": gpus}
    return Assignment(0, {}, 0, 1, 0, 0, "accuracy", True, "", "", "", "", 1, worker_resources=held)


def spec_with(resources: str) -> SearchSpec:
    return parse(f"name: x\ndata: {{train: t.csv}}\nmodel: {{cnn: {{}}}}\nresources: {resources}", FAMILIES)


@pytest.mark.parametrize(
    ("resources", "capacity", "concurrent"),
    [
        ("{per_trial: {cpus: 1}}", Capacity(2, 0), 2),
        ("{per_trial: {cpus: 0.5}}", Capacity(2, 0), 4),
        ("{per_trial: {cpus: 1}, max_concurrent: 1}", Capacity(8, 0), 1),
        ("{per_trial: {cpus: 1, gpus: 0.25}}", Capacity(16, 2), 8),
        ("{per_trial: {cpus: 1, gpus: 0.3}}", Capacity(16, 2), 6),
        ("{per_trial: {cpus: 1, gpus: 2}}", Capacity(16, 5), 2),
        ("{per_trial: {cpus: 1, custom: {licence: 1}}}", Capacity(16, 0, {"licence": 3}), 3),
        ("{per_trial: {cpus: 2, gpus: 1}}", Capacity(4, 8), 2),
    ],
)
def test_as_many_run_at_once_as_fit(resources: str, capacity: Capacity, concurrent: int) -> None:
    assert check_request(spec_with(resources), capacity).concurrent == concurrent


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ("{per_trial: {cpus: 3}}", r"per_trial\.cpus asks for 3, but there are 2; lower it"),
        ("{per_trial: {gpus: 0.5}}", r"per_trial\.gpus asks for 0\.5, but there are 0"),
        (
            "{per_trial: {custom: {a100: 1}}}",
            r"custom\.a100 asks for 1, but there are 0 \(named resources there: licence\)",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_there_is(resources: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_request(spec_with(resources), Capacity(2, 0, {"licence": 1}))


def test_auto_is_no_gpu_where_there_is_none_and_a_whole_one_to_measure_with() -> None:
    spec = spec_with("{per_trial: {cpus: 1, gpus: auto}}")
    without, with_two = check_request(spec, Capacity(2, 0)), check_request(spec, Capacity(32, 2))
    assert (without.gpus, without.measure_first, without.concurrent) == (0.0, False, 2)
    assert (with_two.gpus, with_two.measure_first, with_two.concurrent) == (1.0, True, 2)


@given(
    gpu_memory=st.floats(0, 1.5),
    gpus=st.integers(1, 8),
    cpus=st.integers(1, 64),
    limit=st.one_of(st.just("auto"), st.integers(1, 40)),
)
def test_packed_trials_fit_in_memory_with_headroom_and_fill_what_they_can(
    gpu_memory: float, gpus: int, cpus: int, limit: str | int
) -> None:
    spec = spec_with(f"{{per_trial: {{cpus: 1, gpus: auto}}, max_concurrent: {limit}}}")
    share = packed(check_request(spec, Capacity(cpus, gpus)), gpu_memory)
    each = round(1 / share.gpus)
    assert 1 <= share.concurrent <= gpus * each and share.concurrent <= max(cpus, 1)
    assert not share.measure_first and each * share.gpus <= 1
    if each > 1:
        assert each * gpu_memory <= HEADROOM + 1e-9
    room = HEADROOM - (each + 1) * gpu_memory
    if limit == "auto" and room > 1e-9 and (each + 1) * gpus <= cpus:
        assert each == 16


@pytest.mark.parametrize(
    ("resources", "capacity", "gpus", "measures"),
    [
        ("{}", Capacity(8, 0), 0.0, False),
        ("{}", Capacity(8, 2), 1.0, True),
        ("{per_trial: {cpus: 1, gpus: 0}}", Capacity(8, 2), 0.0, False),
        ("{per_trial: {workers: 2}}", Capacity(8, 0), 0.0, False),
        ("{per_trial: {workers: 2}}", Capacity(8, 1), 0.0, False),
        ("{per_trial: {workers: 2, gpus: auto}}", Capacity(8, 3), 1.0, False),
    ],
)
def test_auto_is_the_default(resources: str, capacity: Capacity, gpus: float, measures: bool) -> None:
    share = check_request(spec_with(resources), capacity)
    assert (share.gpus, share.measure_first) == (gpus, measures)


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_spaces_use_the_gpus_that_there_are(path: Path) -> None:
    spec = load_space(path)
    assert check_request(spec, Capacity(8, 0)).gpus == 0
    assert check_request(spec, Capacity(8, 2)).gpus == 1


@pytest.mark.parametrize(
    ("resources", "capacity", "words"),
    [
        ("{}", Capacity(2, 0), "2 trials run at once; each has 1 CPU and no GPU"),
        (
            "{}",
            Capacity(2, 1),
            "1 trial runs at once; each has 1 CPU and 1 GPU, until one has told how many fit on a GPU",
        ),
        ("{per_trial: {gpus: 0.25}}", Capacity(8, 2), "8 trials run at once; each has 1 CPU and 0.25 GPU"),
        (
            "{per_trial: {workers: 2}}",
            Capacity(4, 0),
            "2 trials run at once; each of its 2 workers has 1 CPU and no GPU",
        ),
    ],
)
def test_check_says_what_runs_at_once(resources: str, capacity: Capacity, words: str) -> None:
    assert check_request(spec_with(resources), capacity).described() == words


@pytest.mark.parametrize(("gpus", "device"), [(0.0, "cpu"), (0.25, "cuda"), (1.0, "cuda")])
def test_a_worker_without_a_gpu_computes_on_the_cpu(monkeypatch: pytest.MonkeyPatch, gpus: float, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert at_work(gpus).device().type == device


@pytest.mark.parametrize("gpus", [0.0, 1.0])
def test_so_does_one_of_several(monkeypatch: pytest.MonkeyPatch, gpus: float) -> None:
    from automl.search import data_parallel

    monkeypatch.setattr(data_parallel.ray.train.torch, "get_device", lambda: torch.device("cuda:0"))
    assert data_parallel.worker_device(at_work(gpus)).type == ("cuda" if gpus else "cpu")


@pytest.mark.parametrize("gpus", [0, 0.25, "auto", None])
def test_what_is_measured_at_the_end_has_no_gpu_either(
    monkeypatch: pytest.MonkeyPatch, gpus: float | str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    manifest: dict[str, Any] = {} if gpus is None else {"gpus_per_trial": gpus}  # an earlier version did not write it
    record: Any = SimpleNamespace(manifest=manifest)
    with cpu_only(RunRecord.cpu_only.fget(record)):  # type: ignore[attr-defined]
        assert default_device().type == ("cpu" if gpus == 0 else "cuda")
    assert default_device().type == "cuda"


@pytest.mark.ray
def test_processes_see_the_gpus_that_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four in name only, as Ray counts them."""
    monkeypatch.setattr(ray_session, "local_capacity", lambda: Capacity(2, 4))
    with ray_session.ray_session(None):
        seen = ray.remote(num_cpus=0)(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
        none, part, whole = ray.get([seen.options(num_gpus=gpus).remote() for gpus in (0, 0.25, 1)])
    assert none == "" and len(part) == len(whole) == 1
