"""The report's plots as plain Plotly figures; colours come from the page, so that they follow its dark mode."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from automl.results.study import RunRecord, TrialRecord
from automl.results.table import duration
from automl.results.timeline import Span, Timeline
from automl.space.objectives import METRICS

MOST_CURVES = 300
MOST_EPOCHS = 200  # of a curve
MOST_POINTS = 2000
MARKS = {"completed": "circle", "stopped": "x", "failed": "triangle-down", "running": "circle-open"}
STATUS_COLOURS: dict[str, int | str] = {"completed": 0, "stopped": "rest", "failed": "warn", "running": 2}
UNITS = (("hours", 3600), ("minutes", 60), ("seconds", 1))


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
    level = record.floor["validation"].get(record.metric) if record.floor else None
    if level is not None:
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
        "height": 360,
    }
    return {"data": traces, "layout": layout}


def optimisation_history(record: RunRecord) -> dict[str, Any]:
    """The score of each trial in the order of their numbers, and the best so far."""
    trials = sorted((trial for trial in record.trials if trial.score is not None), key=lambda trial: trial.number)
    best: list[float] = []
    for trial in trials:
        assert trial.score is not None
        best.append(trial.score if not best else (max if record.maximize else min)(best[-1], trial.score))
    steps = [place for place in range(len(best)) if place in (0, len(best) - 1) or best[place] != best[place - 1]]
    every = max(1, -(-len(trials) // MOST_POINTS))
    kept = {*range(0, len(trials), every), *steps}
    shown = [trial for place, trial in enumerate(trials) if place in kept]
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "markers",
                "name": "trial",
                "x": [trial.number for trial in shown],
                "y": [trial.score for trial in shown],
                "text": [_hover(trial) for trial in shown],
                "hovertemplate": "%{text}<br>%{y:.4f}<extra></extra>",
                "marker": {"symbol": [MARKS[trial.status] for trial in shown], "size": 7},
                "meta": {"colour": "quiet"},
            },
            {
                "type": "scatter",
                "mode": "lines",
                "name": "best so far",
                "x": [trials[place].number for place in steps],
                "y": [best[place] for place in steps],
                "hovertemplate": "best after trial %{x}: %{y:.4f}<extra></extra>",
                "line": {"shape": "hv", "width": 2},
                "meta": {"colour": 0},
            },
        ],
        "layout": {
            "xaxis": {"title": {"text": "trial"}},
            "yaxis": {"title": {"text": f"validation {record.metric}"}},
            "hovermode": "closest",
            "height": 340,
        },
    }


def timeline_bars(times: Timeline) -> dict[str, Any]:
    """A bar for each time that a trial was trained, in the lane of its worker; colours say how it ended."""
    unit, seconds = next((name, size) for name, size in UNITS if times.end - times.start >= 3 * size or size == 1)
    spans = [(lane, span) for lane, held in enumerate(times.lanes.values()) for span in held]
    data = []
    for status, colour in STATUS_COLOURS.items():
        those = [(lane, span) for lane, span in spans if span.trial.status == status]
        if those:
            data.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": status,
                    "base": [round((span.start - times.start) / seconds, 4) for _, span in those],
                    "x": [round((span.end - span.start) / seconds, 4) for _, span in those],
                    "y": [lane for lane, _ in those],
                    "text": [str(span.trial.number) for _, span in those],
                    "textposition": "inside",
                    "insidetextanchor": "middle",
                    "textangle": 0,
                    "hovertext": [_span_text(span) for _, span in those],
                    "hovertemplate": "%{hovertext}<extra></extra>",
                    "width": 0.8,
                    "marker": {"line": {"width": 0.5}},
                    "meta": {"colour": colour, "edge": "paper"},
                }
            )
    return {
        "data": data,
        "layout": {
            "barmode": "overlay",
            "uniformtext": {"mode": "hide", "minsize": 11},
            "xaxis": {"title": {"text": f"{unit} since the first trial began"}, "rangemode": "tozero"},
            "yaxis": {
                "title": {"text": "worker"},
                "tickvals": list(range(len(times.lanes))),
                "ticktext": [str(lane + 1) for lane in range(len(times.lanes))],
                "showgrid": False,
                "autorange": "reversed",
                "nticks": 20,
            },
            "hovermode": "closest",
            "height": min(640, 150 + 30 * len(times.lanes)),
        },
    }


def _span_text(span: Span) -> str:
    epochs = f"{span.epochs} epoch{'s' if span.epochs != 1 else ''} in {duration(span.end - span.start)}"
    worker = f"<br>worker {html.escape(span.worker)}" if span.worker else ""
    return f"{_hover(span.trial)}<br>{epochs}{worker}"


def reliability_curve(bins: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The share of rows that are predicted right, by how sure the model is: on the dashed line both are the same."""
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": [each["confidence"] for each in bins],
                "y": [each["right"] for each in bins],
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [round(each["high"] - each["right"], 4) for each in bins],
                    "arrayminus": [round(each["right"] - each["low"], 4) for each in bins],
                    "thickness": 1,
                },
                "text": [f"{each['rows']:,} rows" for each in bins],
                "hovertemplate": "%{text}<br>%{x:.1%} sure, %{y:.1%} right<extra></extra>",
                "marker": {"size": 8},
                "line": {"width": 1},
                "meta": {"colour": 0},
            }
        ],
        "layout": {
            "xaxis": {"title": {"text": "how sure"}, "range": [0, 1.02], "tickformat": ".0%", "nticks": 6},
            "yaxis": {"title": {"text": "how often right"}, "range": [0, 1.02], "tickformat": ".0%", "nticks": 6},
            "shapes": [{"type": "line", "x0": 0, "y0": 0, "x1": 1, "y1": 1, "line": {"dash": "dash", "width": 1}}],
            "hovermode": "closest",
            "showlegend": False,
            "height": 360,
        },
    }


def pareto(record: RunRecord, other: str) -> dict[str, Any]:
    """The metric of each trial against another objective; the Pareto front of all objectives as large marks.

    With two objectives a line joins the front.
    """
    place = record.objectives.index(other)
    ended = [trial for trial in record.ranked if len(trial.reached) > place]
    every = max(1, -(-len(ended) // MOST_POINTS))
    front = sorted((trial for trial in ended if trial.number in record.front), key=lambda trial: trial.reached[place])
    traces = []
    others = [trial for trial in ended[::every] if trial.number not in record.front]
    for name, shown, size, colour in (("other trials", others, 7, "quiet"), ("the front", front, 11, 0)):
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
                "meta": {"colour": colour},
            }
        )
    return {
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": other}, "type": "linear" if other in METRICS else "log"},
            "yaxis": {"title": {"text": f"validation {record.metric}"}},
            "hovermode": "closest",
            "height": 400,
        },
    }


def _curve(trial: TrialRecord, family: int, *, named: bool) -> dict[str, Any]:
    every = -(-len(trial.values) // MOST_EPOCHS)
    epochs = [
        epoch for epoch in sorted(trial.values) if epoch % every == 0 or epoch in (trial.best_epoch, trial.epochs)
    ]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": html.escape(trial.family),
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
    return f"trial {trial.number}, {html.escape(trial.family)}:<br>" + "<br>".join(
        map(html.escape, textwrap.wrap(reason, 60))
    )
