"""What a search begins with: configurations of the file, trials of earlier runs, their best configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from automl.models import FAMILIES
from automl.search.journal import open_journal
from automl.search.ledger import Ledger
from automl.search.proposals import Beginning
from automl.search.sampler import make_sampler
from automl.search.warm_start import gather, read_beginning
from automl.space import SearchSpec, SpaceError, UserError, parse
from automl.training.beforehand import check_files
from automl.training.run_directory import INFEASIBLE, RunDirectory, write_json
from automl.training.study_file import load_study

SPACE = """\
name: x
data: {train: t.csv}
model:
  cnn: {channels: {int: [8, 64]}}
  rnn: {layers: {int: [1, 3]}, hidden: {per: layers, int: [8, 64]}, cell: {choice: [lstm, gru]}}
training: {batch_size: {choice: [32, 64]}, optimizer: {adamw: {learning_rate: {float: [1e-4, 1e-2], log: true}}}}
search:
  trials: 6
  sampler: tpe
  early_stopping: {none: {max_epochs: 1}}
  constraints: [model.cnn.channels <= 60]
  start_with:
  - {model: {rnn: {hidden: [8, 16], cell: gru}}, training: {batch_size: 64}}
  - model: {cnn: {channels: 9}}
"""


def spec_of(**changes: str) -> SearchSpec:
    text = SPACE
    for old, new in changes.items():
        text = text.replace(old, new)
    return parse(text, FAMILIES)


def play(ledger: Ledger) -> list[dict[str, Any]]:
    configs = []
    while proposal := ledger.next():
        configs.append(proposal.config)
        score = 0.9 - abs(proposal.config["training"]["optimizer"]["adamw"]["learning_rate"] - 0.003) * 10
        ledger.record(
            proposal.number,
            {"epoch": 1, "accuracy": score, "loss": 1.0, "train_seconds": 1.0, "parameters": 1, "bytes": 4},
        )
    return configs


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsga2"])
def test_configurations_of_the_file_run_first(sampler: str, tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "study.journal", mode="max")
    first, second, *rest = play(Ledger(journal, spec_of(**{"sampler: tpe": f"sampler: {sampler}"})))
    assert first["model"]["rnn"]["hidden"] == [8, 16] and first["model"]["rnn"]["layers"] == 2
    assert first["model"]["rnn"]["cell"] == "gru" and first["training"]["batch_size"] == 64
    assert first["training"]["optimizer"]["adamw"]["learning_rate"] == pytest.approx(1e-3)  # the middle
    assert second["model"]["cnn"]["channels"] == 9
    assert len(rest) == 4
    families = [next(iter(config["model"])) for config in rest]
    assert families[:2] == ["cnn", "rnn"] or sampler != "tpe"


@pytest.mark.parametrize(
    ("written", "place", "words"),
    [
        ("model: {cnn: {channels: 99}}", (14, 29), "model.cnn.channels: 99 is not in the range"),
        ("model: {cnn: {chanels: 9}}", (14, 19), "unknown key 'chanels'; did you mean 'channels'?"),
        ("model: {cnn: {channels: 62}}", (14, 5), "does not meet the constraint model.cnn.channels <= 60"),
        ("model: {rmn: {}}", (14, 12), "model: expected one of cnn or rnn"),
        ("modl: {}", (14, 5), "unknown section 'modl'; did you mean 'model'?"),
        ("model: {rnn: {hidden: [8, 16], layers: 3}}", (14, 27), "model.rnn.hidden: expected 3 entries; got 2"),
        ("model: {rnn: {hidden: [8, 99]}}", (14, 31), "model.rnn.hidden[1]: 99 is not in the range"),
        ("model: {rnn: {head: 7}}", (14, 25), "model.rnn.head: is fixed to 0; got 7"),
        ("training: {batch_size: '32'}", (14, 28), 'training.batch_size: "32" is not one of 32, 64'),
    ],
)
def test_a_configuration_outside_the_space_is_explained(written: str, place: tuple[int, int], words: str) -> None:
    with pytest.raises(SpaceError) as caught:
        parse(SPACE.replace("model: {cnn: {channels: 9}}", written), FAMILIES)
    problem = caught.value.problems[0]
    assert words in problem.message
    assert (problem.line, problem.column) == place


@pytest.fixture
def earlier(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "earlier")
    run.path.mkdir()
    play(Ledger(open_journal(run.journal, mode="max"), spec_of(**{"trials: 6": "trials: 12", "tpe": "random"})))
    manifest = {"metric": "accuracy", "mode": "max", "data": {"fingerprint": "same"}}
    write_json(run.manifest, {**manifest, "schema_version": 1})
    return run


def begin(earlier: RunDirectory, tmp_path: Path, fingerprint: str = "same", **changes: str) -> tuple[SearchSpec, str]:
    spec = spec_of(**{"start_with:": f"warm_start: [{earlier.path}]\n  start_with:", **changes})
    (note,) = gather(spec, fingerprint, tmp_path / "warm.json")
    return spec, note


def test_a_sampler_begins_with_the_trials_of_an_earlier_run(earlier: RunDirectory, tmp_path: Path) -> None:
    spec, note = begin(earlier, tmp_path)
    assert "12 trials for the sampler" in note and "outside" not in note
    beginning = read_beginning(spec, tmp_path / "warm.json")
    assert len(beginning.trials) == 12 and not beginning.points
    rates = {}
    for name, warm in (("warm", beginning), ("cold", None)):
        journal = open_journal(tmp_path / f"{name}.journal", mode="max")
        rates[name] = [config["training"] for config in play(Ledger(journal, spec, warm=warm))]
    assert rates["warm"][:2] == rates["cold"][:2], "what the file says comes first"
    assert rates["warm"][2:] != rates["cold"][2:]
    again = open_journal(tmp_path / "again.journal", mode="max")
    assert [each["training"] for each in play(Ledger(again, spec, warm=beginning))] == rates["warm"]


def test_trials_outside_the_space_are_dropped_and_counted(earlier: RunDirectory, tmp_path: Path) -> None:
    spec, note = begin(earlier, tmp_path, **{"channels: {int: [8, 64]}": "channels: {int: [8, 30]}"})
    beginning = read_beginning(spec, tmp_path / "warm.json")
    assert 0 < len(beginning.trials) < 12
    assert f"{12 - len(beginning.trials)} trials lie outside this space" in note
    assert all(trial.params.get("model.cnn.channels", 8) <= 30 for trial in beginning.trials)
    spec, note = begin(earlier, tmp_path, **{"cell: {choice: [lstm, gru]}": "cell: gru"})
    assert "outside this space" in note


@pytest.mark.parametrize("why", ["data", "metric", "sampler"])
def test_else_the_best_of_an_earlier_run_are_tried_first(earlier: RunDirectory, tmp_path: Path, why: str) -> None:
    changes = {"metric": {"trials: 6": "trials: 6\n  metric: loss"}, "sampler": {"sampler: tpe": "sampler: nsga2"}}
    spec, note = begin(earlier, tmp_path, "other" if why == "data" else "same", **changes.get(why, {}))
    assert "its best 3 configurations first" in note
    beginning = read_beginning(spec, tmp_path / "warm.json")
    assert len(beginning.points) == 3 and not beginning.trials
    journal = open_journal(tmp_path / "new.journal", mode=spec.search.mode)
    play(Ledger(journal, spec, warm=beginning))
    assert [trial.params for trial in journal.study.trials[2:5]] == beginning.points


def test_a_setting_that_an_earlier_version_did_not_have_counts_as_its_default(
    earlier: RunDirectory, tmp_path: Path
) -> None:
    text = earlier.journal.read_text(encoding="utf-8")
    assert '"accumulation":1,' in text
    earlier.journal.write_text(text.replace('"accumulation":1,', ""), encoding="utf-8")
    assert "12 trials for the sampler" in begin(earlier, tmp_path)[1]
    changed = {"training: {": "training: {accumulation: 2, "}
    assert "12 trials lie outside this space" in begin(earlier, tmp_path, **changed)[1]


def test_earlier_trials_keep_their_order_and_none_is_discounted_by_age(earlier: RunDirectory, tmp_path: Path) -> None:
    spec, _ = begin(earlier, tmp_path)
    trials = read_beginning(spec, tmp_path / "warm.json").trials
    own = [trial.params for trial in load_study(earlier).trials if INFEASIBLE not in trial.user_attrs]
    assert [trial.params for trial in trials] == own
    assert [trial.number for trial in trials] == list(range(-12, 0))
    for objectives in ("[accuracy]", "[accuracy, latency_ms]"):
        search = spec_of(**{"trials: 6": f"trials: 6\n  objectives: {objectives}"}).search
        assert make_sampler(search, 40, known=12)._parzen_estimator_parameters.weights(40).tolist() == [1] * 40
        assert make_sampler(search, 40)._parzen_estimator_parameters.weights(40)[0] < 0.1


def test_a_family_without_earlier_trials_is_tried_first(earlier: RunDirectory, tmp_path: Path) -> None:
    changes = {"  cnn: {channels": "  tcn: {}\n  cnn: {channels"}
    spec, note = begin(earlier, tmp_path, **changes)
    assert "12 trials for the sampler" in note
    beginning = read_beginning(spec, tmp_path / "warm.json")
    journal = open_journal(tmp_path / "new.journal", mode="max")
    families = [next(iter(config["model"])) for config in play(Ledger(journal, spec, warm=beginning))]
    assert families[2] == "tcn"  # after the two configurations of the file


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("channels: {int: [8, 64]}", "channels: {int: [8, 30]}", "model.cnn.channels is outside its range here ("),
        ("cell: {choice: [lstm, gru]}", "cell: gru", "model.rnn.cell is another ("),
        ("layers: {int: [1, 3]}", "layers: {int: [1, 3]}, bidirectional: true", "model.rnn.bidirectional is another ("),
        (
            "training: {batch_size: {choice",
            "training: {ema: {float: [0.9, 0.99]}, batch_size: {choice",
            "training.ema is outside its range here (12)",
        ),
        ("  cnn: {channels: {int: [8, 64]}}\n", "", "the family cnn is not searched here ("),
        ("training: {", "training: {accumulation: 2, ", "training.accumulation is another (12)"),
        ("data: {", "data: {max_length: 9, ", "data.max_length is another (12)"),
        ("  trials: 6", "  trials: 6", ""),
    ],
)
def test_why_earlier_trials_are_left_out_is_said(
    earlier: RunDirectory, tmp_path: Path, old: str, new: str, why: str
) -> None:
    without = ("  - model: {cnn: {channels: 9}}\n", "  constraints: [model.cnn.channels <= 60]\n")
    _, note = begin(earlier, tmp_path, **dict.fromkeys(without, ""), **{old: new})
    assert why in note and ("outside this space" in note) == bool(why)
    assert ("nothing is taken; 12 trials lie outside this space" in note) == ("(12)" in why)
    assert "1 trial without a score" in note


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("training: {batch_size: {", "training: {accumulation: {choice: [1, 2]}, batch_size: {"),
        ("training: {batch_size: {", "training: {loss: {cross_entropy: {}, focal: {}}, batch_size: {"),
        (
            "hidden: {per: layers, int: [8, 64]}",
            "hidden: {per: layers, int: [8, 64]}, bidirectional: {choice: [true, false]}",
        ),
        ("  cnn: {channels", "  dpcnn: {}\n  cnn: {channels"),
    ],
)
def test_a_space_that_has_grown_takes_all_earlier_trials(
    earlier: RunDirectory, tmp_path: Path, old: str, new: str
) -> None:
    spec, note = begin(earlier, tmp_path, **{old: new})
    assert "12 trials for the sampler" in note
    trials = read_beginning(spec, tmp_path / "warm.json").trials
    journal = open_journal(tmp_path / "new.journal", mode="max")
    assert len(trials) == 12 and len(play(Ledger(journal, spec, warm=Beginning(trials=trials)))) == 6


def test_a_search_of_one_family_feeds_one_of_several(earlier: RunDirectory, tmp_path: Path) -> None:
    without = ("  - model: {cnn: {channels: 9}}\n", "  constraints: [model.cnn.channels <= 60]\n")
    narrow = {**dict.fromkeys(without, ""), "  cnn: {channels: {int: [8, 64]}}\n": "", "trials: 6": "trials: 8"}
    run = RunDirectory(tmp_path / "narrow")
    run.path.mkdir()
    play(Ledger(open_journal(run.journal, mode="max"), spec_of(**narrow, tpe="random")))
    write_json(run.manifest, json.loads(earlier.manifest.read_text()))
    assert "8 trials for the sampler" in begin(run, tmp_path)[1]
    assert "6 trials for the sampler" in begin(earlier, tmp_path, **{**narrow, "trials: 6": "trials: 6"})[1]


def test_what_is_no_run_is_refused() -> None:
    spec = spec_of(**{"start_with:": "warm_start: [runs/nowhere]\n  start_with:"})
    with pytest.raises(UserError, match=r"search\.warm_start: runs/nowhere is no run directory"):
        check_files(spec)
