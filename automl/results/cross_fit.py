"""How much the best of several models flatters itself on the rows that chose it: the choice, cross-fitted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from automl.results.predictions import average
from automl.results.resampling import Labels, Said, measured

FOLDS = 5
REPETITIONS = 20  # with other folds, of few rows; of many, fewer tell as much
ENOUGH_ROWS = 100_000  # in all repetitions

Choose = Callable[[Sequence[Said], Labels], tuple[Sequence[int], bool]]


def folds(rows: int, seed: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """The rows in five parts at random: of each its rows, and all others. Fewer parts where there are fewer rows."""
    order = np.random.default_rng(seed).permutation(rows)
    for held in np.array_split(order, min(FOLDS, rows)):
        yield np.sort(held), np.setdiff1d(order, held)


def cross_fitted(metric: str, said: Sequence[Said], linear: Said | None, labels: Labels, choose: Choose) -> float:
    """`metric` of what `choose` makes of the models on four fifths of the rows, measured on the others.

    `said` has the probabilities float32 [rows, classes] of each network, `linear` those of the linear model, where it
    takes part; `labels` is int64 [rows]. `choose` gets those of some rows, the linear model's last, and names the
    places of the networks whose mean is taken and whether the linear model is heard. The mean over up to 20 divisions
    of the rows; the figure on the rows that chose is the higher, the more models there were.
    """
    models = [*said] if linear is None else [*said, linear]
    found = []
    for seed in range(max(1, min(REPETITIONS, ENOUGH_ROWS // len(labels)))):
        together = np.empty_like(models[0])
        for held, others in folds(len(labels), seed):
            members, heard = choose([each[others] for each in models], labels[others])
            alone = linear[held] if heard and linear is not None else None
            together[held] = average([said[place][held] for place in members], alone)
        found.append(measured(metric, together, labels))
    return float(np.mean(found))


def chooser(
    metric: str,
    families: Sequence[str],
    *,
    maximize: bool,
    top: int,
    joining: Sequence[bool],
    averaged_with_linear: bool,
    linear_alone: bool,
) -> Choose:
    """How the best model is made of the finalists, whose `families` these are, best first: by the order on some rows.

    With `top` the first so many are averaged, and of each other family the best that is `joining`; else the first is
    taken. `averaged_with_linear` and `linear_alone` say what the linear model may be.
    """

    def choose(said: Sequence[Said], labels: Labels) -> tuple[Sequence[int], bool]:
        figures = [_figure(metric, each, labels, maximize) for each in said]
        networks = range(len(families))
        order = sorted(networks, key=lambda place: -figures[place])  # stable: the search's order where they are equal
        members = order[: top or 1]
        for place in order[top:] if top else ():
            if joining[place] and families[place] not in {families[member] for member in members}:
                members.append(place)
        heard = bool(top) and averaged_with_linear
        if linear_alone:
            together = average([said[place] for place in members], said[-1] if heard else None)
            if figures[-1] > max(figures[order[0]], _figure(metric, together, labels, maximize)):
                return [], True
        return members, heard

    return choose


def _figure(metric: str, said: Said, labels: Labels, maximize: bool) -> float:
    value = measured(metric, said, labels)
    return -math.inf if math.isnan(value) else value if maximize else -value
