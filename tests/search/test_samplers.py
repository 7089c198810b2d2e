"""Every sampler on every space: what it proposes is in it, meets its constraints, and is read back as it was made."""

from __future__ import annotations

import json
import math
import random
import re
import statistics
import tempfile
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from automl.models import FAMILIES
from automl.search.journal import open_journal
from automl.search.ledger import Ledger
from automl.search.sampler import STARTUP_TRIALS
from automl.search.standing import MAX_INFEASIBLE
from automl.space import Choice, SearchSpec, SpaceError, parameters, parse, suggest
from automl.space.constraints import constraints_of
from automl.space.grid import continuous, grid_point, grid_size, shuffled
from automl.space.spec import searched_sections
from tests.space.test_generated_spaces import Made, check_inside, every_kind, families, is_active, made_spec

SAMPLERS = ["tpe", "gp", "cmaes", "nsga2", "qmc", "random", "grid"]
TRIALS = 14


def half_open(spec: SearchSpec) -> list[str]:
    """A constraint that leaves out the upper half of one parameter."""
    for parameter in parameters(spec):
        if not isinstance(parameter.range, Choice) and not re.search("[.](per|choice)", parameter.name):
            low, high = parameter.range.ends
            return [f"{parameter.name} <= {(low + high) / 2:.6f}"]
    return []


def fit_for(sampler: str, made: Made) -> Made:
    """The same with what the sampler can search: no continuous ranges for grid, no choices for cmaes."""
    return Made(made.annotation, rewritten(sampler, made.written))


def rewritten(sampler: str, written: Any) -> Any:
    if not isinstance(written, dict):
        return written
    if sampler == "grid" and "float" in written and "step" not in written:
        kept = {name: value for name, value in written.items() if name == "per"}
        return {"choice": written["float"], **kept}
    if sampler == "cmaes" and "choice" in written:
        per = written.get("per")
        return written["choice"][0] if per is None else [written["choice"][0]] * 2
    if "choice" in written:  # ranges among its options
        options = [rewritten(sampler, option) for option in written["choice"]]
        options = [
            option["choice"][0] if isinstance(option, dict) and "choice" in option and "per" not in option else option
            for option in options
        ]
        return written | {"choice": options}
    names = list(written)
    if sampler == "cmaes" and names and set(names) <= set("ABCfgh"):  # alternatives
        names = names[:1]
    return {name: rewritten(sampler, written[name]) for name in names}


def check_proposals(
    sampler: str, made: dict[str, Made], seed: int, constrained: bool, objectives: list[str], trials: int = TRIALS
) -> None:
    """Play a search of made-up scores: all that it proposes lies inside, and is read back from the journal."""
    made = {name: fit_for(sampler, each) for name, each in made.items()}
    if sampler == "cmaes":
        made = dict(list(made.items())[:1])
        objectives = objectives[:1]
    search: dict[str, Any] = {"sampler": sampler, "trials": trials, "seed": seed, "objectives": objectives}
    if constrained:
        search["constraints"] = half_open(made_spec(made))
    try:
        spec = made_spec(made, search)
    except SpaceError as error:
        assert sampler == "cmaes"
        assert "there are fewer than two" in str(error)
        return
    constraints = constraints_of(spec.search.constraints, searched_sections(spec))
    scores = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.journal"
        ledger = Ledger(open_journal(path, mode=spec.search.mode, further=spec.search.modes[1:]), spec)
        configs = {}
        while ledger.remaining():
            proposal = ledger.next()
            if proposal is None:  # many in a row that do not meet the constraints
                continue
            configs[proposal.number] = proposal.config
            for epoch in range(1, spec.search.max_epochs + 1):
                result: dict[str, Any] = {"epoch": epoch, "train_seconds": 1.0, "parameters": 1, "bytes": 4}
                result |= {name: scores.random() for name in objectives}
                if not ledger.record(proposal.number, result):
                    break
        again = Ledger(open_journal(path, mode=spec.search.mode, further=spec.search.modes[1:]), spec)
        assert again.progress == ledger.progress
        assert again.finalists() == ledger.finalists()
        whole = len(configs) == trials
        assert whole or ledger.exhausted() or (sampler == "grid" and ledger.progress.infeasible < grid_size(spec))
        for number, config in configs.items():
            assert not any(constraints.violations(config).values())
            assert json.dumps(again.config(number)) == json.dumps(config)
            trial = again.journal.trial(number)
            active = [parameter for parameter in parameters(spec) if is_active(parameter, config, trial.params)]
            assert list(trial.params) == [parameter.name for parameter in active]
            for parameter in active:
                check_inside(parameter, config, trial.params)
            assert all(amount <= 0 for amount in trial.constraints.values())
        for trial in again.journal.study.trials:
            if trial.number not in configs:
                assert trial.state == TrialState.PRUNED
                assert any(amount > 0 for amount in trial.constraints.values())


EACH_SAMPLER = pytest.mark.parametrize(
    "sampler", [pytest.param(name, marks=pytest.mark.slow if name == "gp" else ()) for name in SAMPLERS]
)


@EACH_SAMPLER
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    made=families,
    seed=st.integers(0, 1000),
    constrained=st.booleans(),
    objectives=st.sampled_from([["accuracy"], ["accuracy", "latency_ms"], ["loss", "parameters", "auroc"]]),
)
def test_proposals_lie_inside_and_survive_the_journal(
    sampler: str, made: dict[str, Made], seed: int, constrained: bool, objectives: list[str]
) -> None:
    trials = TRIALS
    if sampler == "gp":  # seconds for each proposal from its model where parameters are many
        assume(len(parameters(made_spec(made))) <= 8)
        trials = STARTUP_TRIALS + 2
    check_proposals(sampler, made, seed, constrained, objectives, trials)


@EACH_SAMPLER
def test_every_kind_of_range_at_once(sampler: str) -> None:
    trials = 11 if sampler == "gp" else TRIALS  # of so many parameters one from its model takes it half a minute
    check_proposals(sampler, every_kind(), 1, sampler != "gp", ["accuracy"], trials)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(families, st.integers(0, 100))
def test_a_grid_has_every_configuration_once(made: dict[str, Made], seed: int) -> None:
    spec = made_spec({name: fit_for("grid", each) for name, each in made.items()})
    size = grid_size(spec)
    assert not continuous(spec)
    assume(size <= 400)
    order = [shuffled(index, size, seed) for index in range(size)]
    assert sorted(order) == list(range(size))
    configs = set()
    for index in order:
        point = grid_point(spec, index)
        config = suggest(spec, Fixed(point))
        active = [parameter for parameter in parameters(spec) if is_active(parameter, config, point)]
        assert point.keys() == {parameter.name for parameter in active}
        for parameter in active:
            check_inside(parameter, config, point)
        configs.add(json.dumps(config))
    assert len(configs) == size


class Fixed:
    """A trial with the given parameters, that takes 1, 1.0 and true for different values."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params

    def suggest_float(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self.params[name]

    suggest_int = suggest_categorical = suggest_float


FILE = """\
name: x
data: {train: t.csv}
model:
  rnn: {embedding: 8, hidden: {per: layers, int: [8, 256], log: true}, layers: {int: [1, 3]}, token_dropout: 0.1,
    dropout: {float: [0, 0.9]}, cell: lstm, bidirectional: true, pooling: max}
training:
  optimizer: {adamw: {learning_rate: {float: [1e-5, 1], log: true}}}
search: {trials: %d, sampler: %s, early_stopping: {none: {max_epochs: 1}}, constraints: %s}
"""
MORE = (
    "  cnn: {embedding: 8, channels: {int: [8, 64]}, kernel_sizes: [2], token_dropout: 0, dropout: 0, pooling: max}\n"
)


def score(config: dict[str, Any]) -> float:
    """Best at one layer of 64, a learning rate of 0.01 and a dropout of 0.3; the other family is bad."""
    rate = math.log10(config["training"]["optimizer"]["adamw"]["learning_rate"])
    if "cnn" in config["model"]:
        return -3 - (rate + 2) ** 2 / 6
    rnn = config["model"]["rnn"]
    size = math.log2(rnn["hidden"][0] / 64)
    return -((rate + 2) ** 2) / 6 - (rnn["dropout"] - 0.3) ** 2 * 3 - size**2 / 4 - (len(rnn["hidden"]) - 1) / 4


def play(text: str, folder: Path, sampler: str = "") -> Ledger:
    ledger = Ledger(open_journal(folder / f"{sampler}.journal", mode="max"), parse(text, FAMILIES))
    while ledger.remaining():
        proposal = ledger.next()
        if proposal is None:
            continue
        result = {"epoch": 1, "accuracy": score(proposal.config), "train_seconds": 1.0, "parameters": 1, "bytes": 4}
        ledger.record(proposal.number, result)
    return ledger


def later_scores(ledger: Ledger) -> float:
    values = [trial.value for trial in ledger.journal.study.trials if trial.value is not None]
    return statistics.mean(values[len(values) // 2 :])


@pytest.mark.parametrize(
    ("sampler", "trials"), [("tpe", 60), pytest.param("gp", 20, marks=pytest.mark.slow), ("cmaes", 100), ("nsga2", 100)]
)
@pytest.mark.parametrize("constraints", ["[]", "[model.rnn.hidden[0] * len(model.rnn.hidden) <= 160]"])
def test_what_learns_beats_chance_on_a_conditional_space(
    sampler: str, trials: int, constraints: str, tmp_path: Path
) -> None:
    text = FILE if sampler == "cmaes" else FILE.replace("training:", f"{MORE}training:")
    quoted = f'["{constraints[1:-1]}"]' if constraints != "[]" else "[]"
    found = {name: play(text % (trials, name, quoted), tmp_path, name) for name in (sampler, "random")}
    assert later_scores(found[sampler]) > later_scores(found["random"]) + 0.5
    for ledger in found.values():
        assert ledger.progress.finished == trials
        assert (ledger.progress.infeasible > 0) == (constraints != "[]")
    if constraints != "[]":
        assert found[sampler].progress.infeasible < trials * 3


def test_qmc_covers_a_space_more_evenly_than_chance_and_a_resumed_run_goes_on_with_it(tmp_path: Path) -> None:
    rates = {}
    for sampler in ("qmc", "random"):
        ledger = play(FILE % (64, sampler, "[]"), tmp_path, sampler)
        trials = ledger.journal.study.trials
        rates[sampler] = sorted(
            (math.log10(trial.params["training.optimizer.adamw.learning_rate"]) + 5) / 5 for trial in trials
        )
    gap = {name: max(b - a for a, b in pairwise(found)) for name, found in rates.items()}
    assert gap["qmc"] < 3 / 64 < gap["random"]
    text = FILE % (64, "qmc", "[]")
    half = play(text.replace("trials: 64", "trials: 30"), tmp_path, "half")
    assert half.progress.finished == 30
    whole = play(text, tmp_path, "half")
    qmc = open_journal(tmp_path / "qmc.journal", mode="max").study.trials
    assert [trial.params for trial in whole.journal.study.trials] == [trial.params for trial in qmc]


def test_a_grid_ends_when_all_is_tried(tmp_path: Path) -> None:
    text = """\
name: x
data: {train: t.csv}
model: {cnn: {embedding: {choice: [8, 16]}, channels: {int: [8, 10]}, kernel_sizes: [2], token_dropout: 0, dropout: 0,
  pooling: max, activation: relu}}
training: {optimizer: {adamw: {learning_rate: {float: [0.1, 0.3], step: 0.1}}}}
search: {trials: 99, sampler: grid, early_stopping: {none: {max_epochs: 1}}}
"""
    ledger = play(text, tmp_path)
    assert ledger.progress.finished == ledger.progress.budget == 18
    seen = {tuple(round(value, 3) for value in trial.params.values()) for trial in ledger.journal.study.trials}
    assert seen == set(product([8, 16], [8, 9, 10], [0.1, 0.2, 0.3]))


def test_a_space_without_a_feasible_configuration_ends_with_the_reason(tmp_path: Path) -> None:
    ledger = play(FILE % (5, "random", '["model.rnn.layers >= 4"]'), tmp_path)
    assert ledger.progress.finished == 0
    assert ledger.progress.infeasible == MAX_INFEASIBLE
    assert ledger.exhausted() == "none of the last 1,000 proposals met the constraints"
    assert ledger.remaining() == 0
