"""Warnings from experience: each is given where it applies, and a good file gets none."""

from __future__ import annotations

import pytest

from automl.models import FAMILIES
from automl.space import parse
from automl.space.advice import advice

GOOD = """\
name: x
data: {train: t.csv}
model: {cnn: {kernel_sizes: {choice: [[2], [3, 4]]}}}
training: {optimizer: {adamw: {learning_rate: {float: [1e-4, 1e-2], log: true}}}}
search: {trials: 30, early_stopping: {asha: {max_epochs: 9}}}
"""
FIXED = """\
name: x
data: {train: t.csv}
model:
  cnn: {embedding: 8, channels: 8, kernel_sizes: [2], pooling: max, activation: relu, dropout: 0, token_dropout: 0}
training: {optimizer: {adamw: {learning_rate: 0.01}}, batch_size: {choice: [32, 64]}}
search: {trials: 30}
"""


def said(text: str, longest: int | None = 40, feasible: float = 1.0) -> list[str]:
    return list(advice(parse(text, FAMILIES), longest=longest, feasible=feasible))


def test_a_good_file_gets_no_advice() -> None:
    assert said(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("1e-2], log: true", "1e-2]", "learning_rate goes from 0.0001 to 0.01 on a linear scale"),
        ("train: t.csv", "train: t.csv, max_length: 1", "kernel_sizes has 4, and of the texts 99 % have at most 1 tok"),
        ("trials: 30", "trials: 10", "tpe draws its first 10 trials at random, and there are 10 in all"),
        ("{choice: [[2], [3, 4]]}", "{per: 2, int: [1, 31]}", ""),
        ("max_epochs: 9", "max_epochs: 3, grace_period: 3", "grace_period 3 is max_epochs"),
        (
            "model: {cnn: {kernel_sizes: {choice: [[2], [3, 4]]}}}",
            "model: {dpcnn: {kernel_size: {int: [3, 9], step: 2}}}\ndata: {train: t.csv, max_length: 8}",
            "dpcnn.kernel_size has 9, and of the texts 99 % have at most 8 tokens",
        ),
        ("train: t.csv", "train: t.csv, max_length: 3", "kernel_sizes has 4, and of the texts 99 % have at most 3"),
    ],
)
def test_what_experience_objects_to(old: str, new: str, words: str) -> None:
    assert old in GOOD
    found = said((GOOD.replace("data: {train: t.csv}\n", "") if "data:" in new else GOOD).replace(old, new))
    assert [sentence for sentence in found if words in sentence] == found
    assert len(found) == (1 if words else 0)


def test_small_spaces_and_grids_and_constraints() -> None:
    assert said(FIXED) == ["the space has 2 configurations in all, fewer than 30 trials"]
    assert said(FIXED.replace("trials: 30", "trials: 1, sampler: grid")) == [
        "the grid has 2 configurations, of which 1 are tried"
    ]
    assert "nothing is searched" in said(FIXED.replace("{choice: [32, 64]}", "32"))[-1]
    assert said(GOOD, feasible=0.02) == [
        "only 2% of random configurations meet the constraints; narrow the ranges instead"
    ]
    assert "no random configuration met" in said(GOOD, feasible=0.0)[0]
    assert said(GOOD, longest=None) == []
    assert said(GOOD, longest=3) == ["model.cnn.kernel_sizes has 4, and of the texts 99 % have at most 3 tokens"]


def test_a_generation_of_cmaes_is_drawn_before_it_learns() -> None:
    space = """\
name: x
data: {train: t.csv}
model:
  cnn: {embedding: {int: [8, 64]}, channels: {int: [8, 64]}, kernel_sizes: [2], pooling: max, activation: relu}
training: {optimizer: {adamw: {learning_rate: {float: [1e-4, 1e-2], log: true}}}}
search: {trials: 8, sampler: cmaes}
"""
    assert said(space) == ["cmaes draws its first 8 trials at random, and there are 8 in all"]
    assert said(space.replace("trials: 8", "trials: 9")) == []
    assert said(space.replace("trials: 8", "trials: 8, warm_start: [runs/x]")) == []
