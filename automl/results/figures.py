"""The report's plots as plain Plotly figures; colours come from the page, so that they follow its dark mode."""

from __future__ import annotations

import html
import textwrap
from typing import Any

from automl.results.importance import Importance
from automl.results.study import RunRecord, TrialRecord
from automl.space.objectives import METRICS

MOST_CURVES = 300
MARKS = {"completed": "circle", "stopped": "x", "failed": "triangle-down", "running": "circle-open"}


def learning_curves(record: RunRecord) -> dict[str, Any]:
    """The metric after each epoch of each trial, a mark where it ended, rungs as dotted lines, the floor dashed."""
    families = sorted({trial.family for trial in record.trials})
    traces: list[dict[str, Any]] = []
    curves = [trial for trial in record.trials if trial.values][:MOST_CURVES]
    best = {trial.family: trial.number for trial in reversed(curves)}
    for trial in reversed(curves):  # the best on top, and in the legend
        traces.append(_curve(trial, families.index(trial.family), named=trial.number == best[trial.family]))
    ends = {status: [trial for trial in curves if trial.status == status] for status in MARKS}
    for status, trials in ends.items():
        if trials:
            traces.append(_ends(status, trials))
    shapes = [
        {"type": "line", "x0": rung, "x1": rung, "y0": 0, "y1": 1, "yref": "paper", "line": {"dash": "dot", "width": 1}}
        for rung in record.manifest["rungs"]
    ]
    notes = [
        {"x": rung, "y": 1, "yref": "paper", "yanchor": "bottom", "text": f"rung {rung}", "showarrow": False}
        for rung in record.manifest["rungs"]
    ]
    if record.floor:
        level = record.floor["validation"][record.metric]
        shapes.append(
            {
                "type": "line",
                "x0": 0,
                "x1": 1,
                "xref": "paper",
                "y0": level,
                "y1": level,
                "line": {"dash": "dash", "width": 1},
            }
        )
        notes.append(
            {
                "x": 0,
                "xref": "paper",
                "xanchor": "left",
                "y": level,
                "yanchor": "bottom",
                "text": "linear floor",
                "showarrow": False,
            }
        )
    layout = {
        "xaxis": {"title": {"text": "epoch"}, "dtick": 1 if record.manifest["max_epochs"] <= 20 else None},
        "yaxis": {"title": {"text": f"validation {record.metric}"}},
        "shapes": shapes,
        "annotations": notes,
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": -0.2},
        "height": 440,
    }
    return {"data": traces, "layout": layout}


def optimisation_history(record: RunRecord) -> dict[str, Any]:
    """The score of each trial in the order of their numbers, and the best so far."""
    trials = sorted((trial for trial in record.trials if trial.score is not None), key=lambda trial: trial.number)
    best: list[float] = []
    for trial in trials:
        assert trial.score is not None
        best.append(trial.score if not best else (max if record.maximize else min)(best[-1], trial.score))
    numbers = [trial.number for trial in trials]
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "markers",
                "name": "trial",
                "x": numbers,
                "y": [trial.score for trial in trials],
                "text": [f"{trial.family}, {trial.status}" for trial in trials],
                "marker": {"symbol": [MARKS[trial.status] for trial in trials], "size": 8},
            },
            {
                "type": "scatter",
                "mode": "lines",
                "name": "best so far",
                "x": numbers,
                "y": best,
                "line": {"shape": "hv"},
            },
        ],
        "layout": {
            "xaxis": {"title": {"text": "trial"}},
            "yaxis": {"title": {"text": f"validation {record.metric}"}},
            "legend": {"orientation": "h", "y": -0.25},
            "height": 340,
        },
    }


def pareto(record: RunRecord, other: str) -> dict[str, Any]:
    """The metric of each trial against another objective; the Pareto front of all objectives as large marks.

    With two objectives a line joins the front.
    """
    place = record.objectives.index(other)
    ended = [trial for trial in record.ranked if len(trial.reached) > place]
    front = sorted((trial for trial in ended if trial.number in record.front), key=lambda trial: trial.reached[place])
    traces = []
    for name, trials, size in (("other trials", ended, 7), ("the front", front, 11)):
        shown = [trial for trial in trials if name == "the front" or trial.number not in record.front]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if name == "the front" and len(record.objectives) == 2 else "markers",
                "name": name,
                "x": [trial.reached[place] for trial in shown],
                "y": [trial.reached[0] for trial in shown],
                "text": [_hover(trial) for trial in shown],
                "hovertemplate": f"%{{text}}<br>{other} %{{x}}<br>{record.metric} %{{y:.4f}}<extra></extra>",
                "marker": {"size": size},
                "line": {"shape": "hv", "width": 1},
            }
        )
    return {
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": other}, "type": "linear" if other in METRICS else "log"},
            "yaxis": {"title": {"text": f"validation {record.metric}"}},
            "hovermode": "closest",
            "legend": {"orientation": "h", "y": -0.2},
            "height": 400,
        },
    }


def importance_bars(importance: Importance) -> dict[str, Any]:
    """Bars of one group's shares, the largest on top."""
    names = list(importance.shares)[:12][::-1]
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "x": [importance.shares[name] for name in names],
                "y": [_short(name) for name in names],
                "hovertext": names,
                "hovertemplate": "%{hovertext}: %{x:.0%}<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {"tickformat": ".0%", "rangemode": "tozero"},
            "yaxis": {"automargin": True},
            "height": 90 + 30 * len(names),
            "showlegend": False,
        },
    }


def _curve(trial: TrialRecord, family: int, *, named: bool) -> dict[str, Any]:
    epochs = sorted(trial.values)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": trial.family,
        "legendgroup": trial.family,
        "showlegend": named,
        "x": epochs,
        "y": [trial.values[epoch] for epoch in epochs],
        "opacity": 1.0 if trial.status == "completed" else 0.55,
        "line": {"width": 2 if trial.status == "completed" else 1},
        "meta": {"colour": family},
        "hoverinfo": "skip",
    }


def _ends(status: str, trials: list[TrialRecord]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": status,
        "x": [trial.epochs for trial in trials],
        "y": [trial.values[trial.epochs] for trial in trials],
        "text": [_hover(trial) for trial in trials],
        "hovertemplate": "%{text}<br>epoch %{x}: %{y:.4f}<extra></extra>",
        "marker": {"symbol": MARKS[status], "size": 8},
        "meta": {"colour": "text"},
    }


def _hover(trial: TrialRecord) -> str:
    """Words for one trial; Plotly reads tags in them, so a reason's own are escaped."""
    reason = textwrap.shorten(trial.reason or trial.status, 120, placeholder=" ...")
    return f"trial {trial.number}, {trial.family}:<br>" + "<br>".join(map(html.escape, textwrap.wrap(reason, 60)))


def _short(name: str) -> str:
    """The last two parts of a parameter's path."""
    return ".".join(name.split(".")[-2:])
