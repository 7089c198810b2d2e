"""Plots of what was searched: importances, one parameter at a time, two together, and all of them side by side.

Optuna's own plots of these use completed trials only, which early stopping leaves few of, at their last values, which
cannot be compared. Here every trial counts with what it reached at the first rung.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from automl.results.importance import ALL_TRIALS, Importance
from automl.results.parameter_names import short_name, value_text

MOST_BARS = 12
MOST_SLICES = 6  # of all trials
MOST_SLICES_OF_A_FAMILY = 3
MOST_AXES = 8
MOST_TRIALS = 500  # in a plot: every so many, in the order of what they reached
FEWEST_FOR_A_MAP = 20
GRID = 24  # points along a side of a map
BACKGROUND = 60  # trials over which the other parameters are averaged
BEST_SHARE = 0.1
ANCHORS = {0.0: "top", 1.0: "bottom"}  # of words at the ends of an axis


def importance_bars(importance: Importance) -> dict[str, Any]:
    """Bars of one group's shares, the largest on top."""
    names = list(importance.shares)[:MOST_BARS][::-1]
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "x": [importance.shares[name] for name in names],
                "y": [html.escape(short_name(name)) for name in names],
                "hovertext": [html.escape(name) for name in names],
                "hovertemplate": "%{hovertext}: %{x:.0%}<extra></extra>",
                "meta": {"colour": 0},
            }
        ],
        "layout": {
            "xaxis": {"tickformat": ".0%", "rangemode": "tozero"},
            "yaxis": {"ticksuffix": " "},
            "height": 90 + 26 * len(names),
            "showlegend": False,
        },
    }


@dataclass(frozen=True)
class Axis:
    """One parameter of a group as an axis: where its values lie, and how the axis is labelled."""

    name: str
    distribution: BaseDistribution
    values: tuple[Any, ...]

    @cached_property
    def choices(self) -> list[Any]:
        """The values of a parameter that is no range of numbers."""
        return list(self.distribution.choices) if isinstance(self.distribution, CategoricalDistribution) else []

    @property
    def log(self) -> bool:
        """Whether its numbers are drawn on a logarithmic scale."""
        return isinstance(self.distribution, FloatDistribution | IntDistribution) and self.distribution.log

    @cached_property
    def places(self) -> npt.NDArray[np.float64]:
        """Where each value lies, float64 [trials]: its logarithm on such a scale, its number among choices."""
        if self.choices:
            numbers = {repr(choice): number for number, choice in enumerate(self.choices)}
            return np.array([numbers[repr(value)] for value in self.values], dtype=float)
        values = np.array(self.values, dtype=float)
        return np.log10(values) if self.log else values

    def shown(self) -> list[float]:
        """Where points are drawn: choices are spread a little, so that points do not cover each other."""
        if not self.choices:
            return [float(value) for value in self.values]
        spread = np.random.default_rng(0).uniform(-0.18, 0.18, len(self.values))
        return [round(float(place), 3) for place in self.places + spread]

    def layout(self) -> dict[str, Any]:
        """Plotly's settings of the axis."""
        title = {"title": {"text": html.escape(short_name(self.name))}}
        if self.choices:
            labels = [html.escape(value_text(choice)[:16]) for choice in self.choices]
            ends = [-0.5, len(labels) - 0.5]
            return {**title, "tickvals": list(range(len(labels))), "ticktext": labels, "range": ends}
        if not self.log:
            return {**title, "nticks": 5}
        ticks = _log_ticks(min(self.values), max(self.values))
        return {**title, "type": "log", "tickvals": ticks, "ticktext": [value_text(tick) for tick in ticks]}


def _log_ticks(least: float, most: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between the ends of an axis, or of wide ones the powers alone."""
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    leading = (1,) if math.log10(most / least) > 3 else (1, 2, 5)
    ticks = [digit * 10.0**power for power in powers for digit in leading]
    return [tick for tick in ticks if least <= tick <= most] or [least, most]


def axes_of(importance: Importance, trials: Sequence[FrozenTrial]) -> list[Axis]:
    """The parameters that were judged, the most important first, with the values that `trials` have."""
    return [
        Axis(name, trials[0].distributions[name], tuple(trial.params[name] for trial in trials))
        for name in importance.shares
    ]


def slices(importance: Importance, metric: str, maximize: bool) -> list[dict[str, Any]]:
    """What trials reached at the first rung by the value of one parameter, for those that matter most."""
    trials = _thinned(importance, maximize)
    most = MOST_SLICES if importance.among == ALL_TRIALS else MOST_SLICES_OF_A_FAMILY
    return [_slice(axis, trials, metric) for axis in axes_of(importance, trials)[:most]]


def _slice(axis: Axis, trials: Sequence[FrozenTrial], metric: str) -> dict[str, Any]:
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "markers",
                "x": axis.shown(),
                "y": [trial.value for trial in trials],
                "text": [html.escape(value_text(value)) for value in axis.values],
                "hovertemplate": f"{html.escape(short_name(axis.name))} %{{text}}<br>%{{y:.4f}}<extra></extra>",
                "marker": {"size": 6, "opacity": 0.7},
                "meta": {"colour": 0},
            }
        ],
        "layout": {
            "xaxis": axis.layout(),
            "yaxis": {"title": {"text": metric}, "nticks": 6},
            "hovermode": "closest",
            "showlegend": False,
            "height": 240,
        },
    }


def contour(importance: Importance, metric: str, maximize: bool) -> dict[str, Any] | None:
    """The two ranges of numbers that matter most: what a random forest expects, and the trials as dots.

    The forest is fitted to all parameters of the group; those that are not shown are averaged over trials (partial
    dependence, Friedman 2001, section 8.2). None where there are too few trials or ranges.
    """
    trials = _thinned(importance, maximize)
    axes = axes_of(importance, trials)
    ranges = [place for place, axis in enumerate(axes) if not axis.choices]
    if len(trials) < FEWEST_FOR_A_MAP or len(ranges) < 2:
        return None
    across, up = ranges[:2]
    columns = np.stack([axis.places for axis in axes], axis=1)
    reached = np.array([trial.value for trial in trials])
    x, y = (np.linspace(columns[:, place].min(), columns[:, place].max(), GRID) for place in (across, up))
    expected = _partial_dependence(columns, reached, (across, up), (x, y))
    ends = [np.where(axes[place].log, 10**side, side).tolist() for place, side in ((across, x), (up, y))]
    names = [html.escape(short_name(axes[place].name)) for place in (across, up)]
    hover = f"{names[0]} %{{x:.3g}}, {names[1]} %{{y:.3g}}<br>"
    return {
        "data": [
            {
                "type": "contour",
                "x": ends[0],
                "y": ends[1],
                "z": np.round(expected, 5).tolist(),
                "contours": {"coloring": "heatmap"},
                "line": {"width": 0},
                "colorbar": {"title": {"text": metric}, "thickness": 12},
                "reversescale": not maximize,
                "hovertemplate": f"{hover}expected %{{z:.4f}}<extra></extra>",
                "meta": {"scale": True},
            },
            {
                "type": "scatter",
                "mode": "markers",
                "x": axes[across].shown(),
                "y": axes[up].shown(),
                "text": [f"{trial.value:.4f}" for trial in trials],
                "hovertemplate": f"{hover}reached %{{text}}<extra></extra>",
                "marker": {"size": 5, "line": {"width": 1}},
                "meta": {"colour": "text", "edge": "paper"},
            },
        ],
        "layout": {
            "xaxis": axes[across].layout(),
            "yaxis": axes[up].layout(),
            "hovermode": "closest",
            "showlegend": False,
            "height": 340,
        },
    }


def _partial_dependence(
    columns: npt.NDArray[np.float64],
    reached: npt.NDArray[np.float64],
    places: tuple[int, int],
    sides: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
) -> npt.NDArray[np.float64]:
    """What a forest expects at each point of a grid, float64 [len(sides[1]), len(sides[0])]."""
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(n_estimators=64, min_samples_leaf=2, random_state=0).fit(columns, reached)
    background = columns[:: max(1, len(columns) // BACKGROUND)]
    points = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    asked = np.repeat(background[None], len(points), axis=0)
    asked[:, :, places[0]] = points[:, :1]
    asked[:, :, places[1]] = points[:, 1:]
    said = forest.predict(asked.reshape(-1, columns.shape[1])).reshape(len(points), len(background))
    expected: npt.NDArray[np.float64] = said.mean(axis=1).reshape(len(sides[1]), len(sides[0]))
    return expected


def parallel_coordinates(importance: Importance, metric: str, maximize: bool) -> dict[str, Any]:
    """A line for each trial across the parameters that matter most and what it reached; the best tenth stands out."""
    trials = _thinned(importance, maximize)
    axes = axes_of(importance, trials)[:MOST_AXES]
    reached = np.array([trial.value for trial in trials])
    heights = np.stack([_scaled(axis.places) for axis in axes] + [_scaled(reached)])
    leading = math.ceil(BEST_SHARE * len(trials))
    groups = {"the others": slice(leading, None), f"the best {leading}": slice(0, leading)}
    marks = [*map(_marks, axes), [(0.0, f"{reached.min():.4f}"), (1.0, f"{reached.max():.4f}")]]
    names = [html.escape(short_name(axis.name)) for axis in axes] + [metric]
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": [place for _ in range(heights[:, those].shape[1]) for place in (*range(len(names)), None)],
                "y": [y for line in heights[:, those].T.round(3).tolist() for y in (*line, None)],
                "line": {"width": 2 if those.start == 0 else 1},
                "opacity": 0.9 if those.start == 0 else 0.45,
                "hoverinfo": "skip",
                "meta": {"colour": 1 if those.start == 0 else "quiet"},
            }
            for name, those in groups.items()
        ],
        "layout": {
            "xaxis": {"tickvals": list(range(len(names))), "ticktext": names, "showgrid": True, "zeroline": False},
            "yaxis": {"visible": False, "range": [-0.14, 1.12]},
            "annotations": [
                {"x": place, "y": y, "yanchor": ANCHORS.get(y, "middle"), "text": text, "showarrow": False}
                for place, found in enumerate(marks)
                for y, text in found
            ],
            "height": 400,
        },
    }


def _marks(axis: Axis) -> list[tuple[float, str]]:
    """The heights at which an axis is labelled, from 0 to 1, and what stands there."""
    if axis.choices:
        used = np.unique(axis.places)
        return [
            (y, html.escape(value_text(axis.choices[int(n)])[:16])) for y, n in zip(_scaled(used), used, strict=True)
        ]
    return [(0.0, value_text(min(axis.values))), (1.0, value_text(max(axis.values)))]


def _scaled(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """From 0, the least, to 1, the most."""
    width = np.ptp(places)
    return (places - places.min()) / width if width else np.full(len(places), 0.5)


def _thinned(importance: Importance, maximize: bool) -> list[FrozenTrial]:
    """Trials from the best to the worst; of more than `MOST_TRIALS` every so many, so that good and bad ones stay."""
    ordered = sorted(importance.trials, key=lambda trial: (trial.value or 0.0) * (-1 if maximize else 1))
    return ordered[:: -(-len(ordered) // MOST_TRIALS)]
