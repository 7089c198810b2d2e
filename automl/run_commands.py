"""The part of the `automl` command that lists runs: those of a folder of this machine, and those of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from automl import verbs
from automl.cluster import reading
from automl.cluster.address import Cluster
from automl.cluster.choosing import Choice, choose
from automl.cluster.commands import AddressIfAny, AsJson, Runs, asking
from automl.cluster.run_table import format_runs, run_table
from automl.cluster.status import RunStatus, list_folder
from automl.data.store import is_url
from automl.space import UserError
from automl.space.printable import console, print_table
from automl.space.spinner import waiting
from automl.training.run_directory import Allowed

RUNS = "runs"  # where runs are made that were given no place


class Format(StrEnum):
    """How a list is printed."""

    table = "table"
    csv = "csv"
    json = "json"
    md = "md"


Owner = Annotated[str | None, typer.Option(help="Only runs of this owner.")]
Label = Annotated[
    list[str] | None, typer.Option(metavar="KEY[=VALUE]", help="Only runs with this label; repeatable, then all.")
]
State = Annotated[
    list[str] | None, typer.Option(metavar="STATE", help="Only runs in this state; repeatable, then any of them.")
]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only runs begun in the last 12h, 2d or 1w, or since 2026-01-31.")
]
Sort = Annotated[
    str, typer.Option(metavar="COLUMN", help="age, best, label, owner, run, state, time or trials; -COLUMN turns it.")
]
AsFormat = Annotated[Format, typer.Option("--format", help="Output format.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands `runs` and `jobs`."""
    for command in (runs, jobs):
        app.command()(command)


def runs(
    folder: Annotated[
        str | None, typer.Argument(metavar="FOLDER", help="The folder whose runs are listed [runs].")
    ] = None,
    owner: Owner = None,
    label: Label = None,
    state: State = None,
    since: Since = None,
    sort: Sort = "age",
    format: AsFormat = Format.table,
) -> None:
    """List the runs of this machine, the latest first.

    Their state, trials, best validation score, the time used of the budget, and age.
    """
    if folder is not None and is_url(folder):
        raise UserError("runs lists a folder of this machine; runs submitted to a store: automl jobs --runs URL")
    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"there is no folder {folder}")
    place = Path(folder or RUNS)
    with waiting(f"reading {place}"):
        found = list_folder(place) if place.is_dir() else []
    _print(found, Choice(owner, label or (), state or (), since, sort), format, f"there is no run in {place}")


def jobs(
    address: AddressIfAny = None,
    runs: Runs = None,
    owner: Owner = None,
    label: Label = None,
    state: State = None,
    since: Since = None,
    sort: Sort = "age",
    format: AsFormat = Format.table,
    as_json: AsJson = False,
) -> None:
    """List the runs that were submitted, the latest first.

    Whose they are, their state, trials, best validation score, the time used of the budget, age and labels.
    """
    asked = Choice(owner, label or (), state or (), since, sort)
    choose([], asked)  # refuses what it cannot do before the cluster is asked
    cluster = Cluster(address, runs)
    with waiting(asking(cluster)):
        found = reading.jobs(cluster)
    _print(found, asked, Format.json if as_json else format, "no run was submitted yet")


def print_comparison(places: Sequence[str], kind: str, study: str | None) -> None:
    """Print runs side by side, as `table`, `csv`, `json` or `md`."""
    from automl.results.comparison_text import format_comparison, render_comparison

    found = verbs.compare(*places, study=study)
    if kind == "table":
        console().print(render_comparison(found))
    else:
        print(format_comparison(found, kind), end="")


def print_several(
    places: Sequence[str],
    kind: str,
    top: int | None,
    where: str | None,
    sort: str | None,
    columns: str | None,
    *,
    wide: bool,
    study: str | None,
) -> None:
    """Print the trials of several runs in one table, as `table`, `csv`, `json` or `md`."""
    from automl.results.columns import asked_columns
    from automl.results.selection import Selection
    from automl.results.several import format_several, render_several
    from automl.results.study import read_run

    asked, here = Selection(where, sort, top, asked_columns(columns), wide), console()
    with waiting("reading the runs"):
        records = [read_run(verbs.open_run(each, allowed=Allowed(study))) for each in dict.fromkeys(places)]
    if kind != "table":
        print(format_several(records, kind, asked), end="")
        return
    print_table(render_several(records, asked, here.width), here, wide=wide)


def _print(found: Sequence[RunStatus], asked: Choice, format: Format, nothing: str) -> None:
    chosen = choose(found, asked)
    if format is Format.table:
        terminal = console()
        terminal.print(run_table(chosen, f"none of {len(found)} runs meets that" if found else nothing, terminal.width))
    else:
        print(format_runs(chosen, format.value), end="")
