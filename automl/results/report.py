"""report.html: one file that needs no network, with what was asked, what was found and how sure that is."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from automl.data.files import replace_atomically
from automl.results.early_stopping import rungs, savings, savings_text
from automl.results.examination import calibration_text, confused, read_examination
from automl.results.figures import (
    MOST_CURVES,
    learning_curves,
    optimisation_history,
    pareto,
    reliability_curve,
    timeline_bars,
)
from automl.results.importance import ALL_TRIALS, FEWEST_TRIALS, importances
from automl.results.leaderboard import floor_row
from automl.results.parameter_figures import contour, importance_bars, parallel_coordinates, slices
from automl.results.parameter_names import value_text
from automl.results.predict import per_class
from automl.results.report_data import data_profile
from automl.results.report_table import leaderboard_table
from automl.results.study import RunRecord
from automl.results.table import averaged, duration
from automl.results.timeline import timeline
from automl.results.verdict import best_figures, choice_text, verdict
from automl.space.urls import redacted_values

MOST_CLASSES = 20  # that a confusion matrix has room for
FEW_CLASSES, MANY_CLASSES = 6, 12  # that it has room for on a phone, on a tablet
MOST_PAIRS = 15
# Plotly's bundle adds the style sheet of its maps, which the page has none of, unless an element has this identifier.
_OWN_STYLES = re.compile(r'getElementById\("([0-9a-f]{64})"\)')


def write_report(record: RunRecord) -> None:
    """Write report.html of a run, whole or not at all; it works at any stage of a run."""
    templates = resources.files("automl.results") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (templates / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value, form: "" if value is None else format(value, form)
    environment.filters["duration"] = duration
    environment.filters["percent"] = lambda share: f"{share:.0%}" if 0.01 <= share <= 0.99 else f"{share:.2%}"
    plotly = get_plotlyjs()
    style, script = ((templates / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    page = environment.get_template("report.html").render(
        **_content(record),
        policy=_policy(scripts=(plotly, script), styles=(style, "")),
        plotly=Markup(plotly),
        not_styled=_OWN_STYLES.findall(plotly),
        style=Markup(style),
        script=Markup(script),
    )
    with replace_atomically(record.directory.report) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _policy(*, scripts: Sequence[str], styles: Sequence[str]) -> str:
    """A Content-Security-Policy (level 2) that runs these scripts and styles, by their SHA-256, and nothing else.

    Plotly fills an empty style element by script, so that of the empty text is one of the styles; it also clears style
    attributes, which `unsafe-hashes` allows for the empty text alone.
    """

    def sources(texts: Sequence[str]) -> str:
        digests = (hashlib.sha256(text.encode()).digest() for text in texts)
        return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {sources(scripts)}; style-src {sources(styles)}; "
        f"style-src-attr 'unsafe-hashes' {sources([''])}; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _content(record: RunRecord) -> dict[str, Any]:
    manifest = record.manifest
    best = record.best_trial if record.ranked else None
    confusion = (record.finalists or {}).get("confusion")
    classes = manifest["data"]["classes"]
    table = leaderboard_table(record)
    times = timeline(record)
    figures = {"curves": learning_curves(record), "history": optimisation_history(record)}
    figures |= {f"pareto-{name}": pareto(record, name) for name in record.objectives[1:]}
    figures |= {"timeline": timeline_bars(times)} if times else {}
    examination = read_examination(record) if confusion else None
    figures |= {"calibration": reliability_curve(examination["reliability"])} if examination else {}
    parameters = _parameters(record)
    figures |= parameters.pop("figures")
    return {
        "run": record.directory.name,
        "created": f"{datetime.fromisoformat(manifest['created']):%Y-%m-%d %H:%M} UTC",
        "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "status": "unfinished" if manifest["status"] == "running" else manifest["status"],
        "manifest": manifest,
        "metric": record.metric,
        "objectives": record.objectives,
        "front": sorted(record.front),
        "verdict": verdict(record),
        "saved": savings(record),
        "savings_text": savings_text(record),
        "best": best,
        "best_figures": best_figures(record) if best else None,
        "best_named": _best_named(record) if best else "",
        "choice_text": choice_text(record),
        "has_test": "test" in manifest["data"]["profile"]["rows"],
        "best_choices": _choices(record, best.number) if best else [],
        "best_config": list(
            _flatten({name: redacted_values(best.config[name]) for name in ("model", "training", "data")})
        )
        if best
        else [],
        "floor": floor_row(record),
        "table": table,
        "families": sorted({line.family for line in table.lines if line.family}),
        "statuses_shown": sorted({line.status for line in table.lines if line.family}),
        "confirmed": bool(record.confirmed),
        "decided": record.first_by_score is not None,
        "grouped": any(column.title == "group" for column in table.columns),
        "statuses": Counter(trial.status for trial in record.trials),
        "failures": Counter(trial.reason for trial in record.trials if trial.status == "failed").most_common(),
        "infeasible": sorted(record.infeasible.items(), key=lambda counted: -counted[1]),
        "curves_left_out": sum(bool(trial.values) for trial in record.trials) > MOST_CURVES,
        "curves_shown": MOST_CURVES,
        "rungs": rungs(record),
        "times": times,
        **parameters,
        "confusion": confusion,
        "confusion_split": (record.finalists or {}).get("split"),
        "per_class": _of_classes(confusion, classes) if confusion else {},
        "classes": classes,
        "most_classes": MOST_CLASSES,
        "few_classes": FEW_CLASSES,
        "many_classes": MANY_CLASSES,
        "confused": confused(confusion, classes, MOST_PAIRS) if confusion else [],
        "examination": examination,
        "calibration_text": calibration_text(record),
        "data": data_profile(manifest["data"]["profile"]),
        "figures": {name: _embedded(figure) for name, figure in figures.items()},
    }


def _best_named(record: RunRecord) -> str:
    """What the best model is: a trial, an average or the linear floor."""
    if record.linear:
        return "the linear floor"
    if record.ensemble:
        return f"average of trials {averaged(record.ensemble)}"
    return f"trial {record.best_trial.number}, {record.best_trial.family}"


def _of_classes(confusion: list[list[int]], classes: list[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and rows of each class, or of many those with the least F1."""
    found = per_class(confusion, classes)
    if len(found) <= MOST_CLASSES:
        return found
    return dict(sorted(found.items(), key=lambda named: named[1]["f1"])[:MOST_CLASSES])


def _parameters(record: RunRecord) -> dict[str, Any]:
    """What the page says of the parameters that matter, with the figures by name."""
    found = importances(record)
    figures: dict[str, Any] = {}
    slice_names: list[list[str]] = []
    contours: dict[str, str] = {}
    parallels: dict[str, str] = {}
    for number, importance in enumerate(found):
        figures[f"importance{number}"] = importance_bars(importance)
        drawn = slices(importance, record.metric, record.maximize)
        slice_names.append([f"slice{number}-{place}" for place in range(len(drawn))])
        figures |= dict(zip(slice_names[-1], drawn, strict=True))
        if shades := contour(importance, record.metric, record.maximize):
            figures[f"contour{number}"] = shades
            contours[f"contour{number}"] = importance.among
        if importance.among in (ALL_TRIALS, record.best_trial.family):
            figures[f"parallel{number}"] = parallel_coordinates(importance, record.metric, record.maximize)
            parallels[f"parallel{number}"] = importance.among
    return {
        "importances": found,
        "fewest": FEWEST_TRIALS,
        "slice_names": slice_names,
        "contours": contours,
        "parallels": parallels,
        "figures": figures,
    }


def _embedded(figure: Mapping[str, Any]) -> Markup:
    """JSON that is safe inside a script element."""
    text = json.dumps(figure, allow_nan=False, ensure_ascii=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _choices(record: RunRecord, number: int) -> list[tuple[str, str]]:
    """What was chosen for a trial, by the parameters' whole names."""
    params = record.study.get_trials(deepcopy=False)[number].params
    return [(name, value_text(value)) for name, value in params.items()]


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.5g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
