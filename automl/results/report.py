"""report.html: one file that needs no network, with what was asked, what was found and how sure that is."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from automl.data.files import replace_atomically
from automl.results.figures import importance_bars, learning_curves, optimisation_history, pareto
from automl.results.importance import FEWEST_TRIALS, importances
from automl.results.leaderboard import ensemble_row, floor_row, rows
from automl.results.predict import per_class
from automl.results.study import RunRecord
from automl.results.table import averaged, duration, objective_text, status_text
from automl.results.verdict import best_figures, verdict


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
    environment.filters["numeric"] = lambda name: (name, "number")
    page = environment.get_template("report.html").render(
        **_content(record),
        plotly=Markup(get_plotlyjs()),
        style=Markup((templates / "report.css").read_text(encoding="utf-8")),
        script=Markup((templates / "report.js").read_text(encoding="utf-8")),
    )
    with replace_atomically(record.directory.report) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _content(record: RunRecord) -> dict[str, Any]:
    manifest = record.manifest
    trials = rows(record)
    best = record.ranked[0] if record.ranked else None
    confusion = (record.finalists or {}).get("confusion")
    classes = manifest["data"]["classes"]
    found = importances(record)
    figures = {"curves": learning_curves(record), "history": optimisation_history(record)}
    figures |= {f"pareto-{name}": pareto(record, name) for name in record.objectives[1:]}
    figures |= {f"importance{number}": importance_bars(importance) for number, importance in enumerate(found)}
    judged = [trial for trial in record.trials if trial.status in ("completed", "stopped")]
    epochs = sum(trial.epochs for trial in judged)
    full = manifest["max_epochs"] * len(judged)
    return {
        "run": record.directory.name,
        "created": f"{datetime.fromisoformat(manifest['created']):%Y-%m-%d %H:%M} UTC",
        "status": "unfinished" if manifest["status"] == "running" else manifest["status"],
        "manifest": manifest,
        "metric": record.metric,
        "objectives": record.objectives,
        "objective_text": objective_text,
        "front": sorted(record.front),
        "verdict": verdict(record),
        "best": best,
        "best_figures": best_figures(record) if best else None,
        "averaged": averaged(record.ensemble) if record.ensemble else "",
        "made_of": averaged,
        "ensemble": ensemble_row(record),
        "has_test": "test" in manifest["data"]["profile"]["rows"],
        "best_config": list(_flatten({name: best.config[name] for name in ("model", "training", "data")}))
        if best
        else [],
        "floor": floor_row(record),
        "trials": [{**trial, "status_text": textwrap.shorten(status_text(trial), 90)} for trial in trials],
        "confirmed": any(trial["confirmed_seeds"] for trial in trials),
        "statuses": Counter(trial.status for trial in record.trials),
        "failures": Counter(trial.reason for trial in record.trials if trial.status == "failed").most_common(),
        "infeasible": sorted(record.infeasible.items(), key=lambda counted: -counted[1]),
        "epochs": epochs,
        "full_epochs": full,
        "importances": found,
        "fewest": FEWEST_TRIALS,
        "confusion": confusion,
        "confusion_split": (record.finalists or {}).get("split"),
        "per_class": per_class(confusion, classes) if confusion else {},
        "classes": classes,
        "figures": {name: _embedded(figure) for name, figure in figures.items()},
    }


def _embedded(figure: Mapping[str, Any]) -> Markup:
    """JSON that is safe inside a script element."""
    text = json.dumps(figure, allow_nan=False, ensure_ascii=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


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
