"""A run of a cluster as people read it, at 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Group
from rich.table import Table

from automl.cluster.choosing import ended_trials
from automl.cluster.run_table import state_text
from automl.cluster.status import UNDER_WAY, RunStatus
from automl.space.durations import duration_text
from automl.space.printable import cell


def status_text(status: RunStatus, cluster: Mapping[str, Any]) -> Group:
    """What one wants to know of a run, most important first."""
    lines = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column(overflow="fold")
    lines.add_row("run", cell(status.name))
    state = state_text(status)
    lines.add_row("state", state.append(_reason(status)))
    if status.best:
        best = status.best
        floor = "" if status.floor is None else f"; linear floor {status.floor:.4f}"
        words = f"{best['metric']} {best['score']:.4f}, trial {best['trial']}, {best['family']}{floor}"
        lines.add_row("best", cell(words))
    if status.trials:
        counts = [f"{count} {name}" for name, count in status.trials.items() if name != "budget" and count]
        lines.add_row("trials", cell(f"{_trials(status)}: {', '.join(counts) or 'none yet'}"))
    if status.used and status.budget:
        lines.add_row("time", _used(status.used["seconds"], status.budget.get("time_budget_seconds")))
        if status.used["gpu_hours"]:
            asked = status.budget.get("gpu_hours")
            lines.add_row("GPU time", _used(3600 * status.used["gpu_hours"], 3600 * asked if asked else None))
    lines.add_row("owner", cell(status.owner + "".join(f"  {key}={each}" for key, each in status.labels.items())))
    lines.add_row("submitted", cell(f"{status.submitted}, {_age(status.submitted)} ago"))
    lines.add_row("place", cell(status.place))
    if status.state in ("interrupted", "lost"):
        lines.add_row("go on", cell(f"automl resume {status.name}"))
    if cluster:
        lines.add_row(
            "cluster",
            f"{cluster['nodes']} nodes; CPUs {cluster['cpus_used']:g} of {cluster['cpus']:g} in use, "
            f"GPUs {cluster['gpus_used']:g} of {cluster['gpus']:g}",
        )
    elif status.state in UNDER_WAY:
        lines.add_row("cluster", "not asked, so whether the driver still lives is not known")
    return Group(lines)


def _reason(status: RunStatus) -> str:
    if not status.reason:
        return ""
    return f" for {status.reason}" if status.state == "waiting" else f": {status.reason}"


def _trials(status: RunStatus) -> str:
    ended = ended_trials(status)
    return "-" if ended is None or not status.trials else f"{ended} of {status.trials['budget']}"


def _used(seconds: float, budget: float | None) -> str:
    return duration_text(seconds) + (f" of {duration_text(budget)}" if budget else "")


def _age(submitted: str) -> str:
    try:
        return duration_text((datetime.now(UTC) - datetime.fromisoformat(submitted)).total_seconds())
    except (TypeError, ValueError):  # not known, or no time with its zone
        return "-"
