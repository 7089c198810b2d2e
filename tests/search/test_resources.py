"""What a trial gets of the machines: nothing that does not fit, and no GPU left idle that could hold another trial."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.models import FAMILIES
from automl.search.resources import HEADROOM, Capacity, check_request, packed
from automl.space import SearchSpec, UserError, parse


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
