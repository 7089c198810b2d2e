"""The part of the `automl` command that talks to a Ray cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from automl.cluster import reading, service
from automl.cluster.address import ADDRESS, Cluster
from automl.cluster.render import status_text
from automl.data.store import is_url
from automl.space import UserError
from automl.space.printable import console, printable, printable_json, printable_log, say
from automl.space.spinner import waiting
from automl.space.urls import redacted

FAILED = 1

Address = Annotated[
    str,
    typer.Option(
        metavar="URL",
        envvar=ADDRESS,
        help="The cluster's dashboard, e.g. http://127.0.0.1:8265; its token is Ray's (RAY_AUTH_TOKEN_PATH).",
    ),
]
AddressIfAny = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar=ADDRESS,
        help="The cluster's dashboard; none is asked where this machine reads the runs of --runs itself.",
    ),
]
Runs = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        envvar="AUTOML_RUNS",
        help="Where runs lie, as the cluster sees it: a path or a URL [what the cluster's head says].",
    ),
]
Name = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, as submit printed it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands `submit`, `status`, `logs`, `stop` and `fetch`."""
    for command in (submit, status, logs, stop, fetch):
        app.command()(command)


def submit(
    space: Annotated[Path, typer.Argument(metavar="SPACE", help="The search-space file (YAML).")],
    address: Address,
    runs: Runs = None,
    name: Annotated[str | None, typer.Option(help="The run's name [the file's name, the time and two bytes].")] = None,
    owner: Annotated[str | None, typer.Option(help="Whose run it is [your login name].")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label; repeatable.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="How many trials.")] = None,
    time_budget: Annotated[str | None, typer.Option(metavar="TIME", help="How long, e.g. 90s, 20m, 1h30m.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Replace a value of the file; repeatable."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Come back when the search has ended.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="The same, with what its driver writes.")] = False,
) -> None:
    """Start a search on a Ray cluster and print its name.

    The file and your own modules travel, data does not.
    """
    asked = {"search.trials": trials, "search.time_budget": time_budget, "search.seed": seed}
    replaced = [*(overrides or ()), *(f"{key}={value}" for key, value in asked.items() if value is not None)]
    cluster = Cluster(address, runs)
    with waiting(asking(cluster)):
        started = service.submit(
            cluster, space, name=name, owner=owner, labels=label or (), overrides=replaced, tell=say
        )
    print(printable(started), flush=True)
    if follow:
        _print_log(cluster, started)
    if wait or follow:
        _conclude(cluster, started)


def status(run: Name, address: AddressIfAny = None, runs: Runs = None, as_json: AsJson = False) -> None:
    """Show how far a submitted run is.

    Its trials, the best so far, the budget, and what of the cluster is in use.
    """
    cluster = Cluster(address, runs)
    with waiting(asking(cluster)):
        found, there = reading.status(cluster, run), reading.resources(cluster)
    if as_json:
        print(printable_json({**found.as_json(), "cluster": there}))
    else:
        console().print(status_text(found, there))


def logs(
    run: Name,
    address: Address,
    runs: Runs = None,
    follow: Annotated[bool, typer.Option("--follow", help="Until the search ends.")] = False,
) -> None:
    """Print what a run's driver writes."""
    _print_log(Cluster(address, runs), run, follow=follow)


def stop(
    run: Name,
    address: Address,
    runs: Runs = None,
    wait: Annotated[bool, typer.Option("--wait", help="Come back when the driver has ended.")] = False,
) -> None:
    """End a submitted search in good order.

    Trials that have ended are ranked, and the best model is packed; resume goes on, also with those that ran.
    """
    cluster = Cluster(address, runs)
    with waiting(f"waiting for {run} to end" if wait else asking(cluster)):
        was_running = service.stop(cluster, run, wait=wait)
    if not was_running:
        print(f"{printable(run)} was not running")
    elif wait:
        say(f"ended; go on with: automl resume {run}")
    else:
        say(f"it ends in a moment, best model packed: automl status {run}; go on with: automl resume {run}")


def fetch(
    run: Name,
    address: AddressIfAny = None,
    runs: Runs = None,
    output: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The folder to make [runs/RUN].")] = None,
) -> None:
    """Copy a submitted run here, or bring a copy up to date.

    Leaderboard, report, best model, journal and metrics, without its checkpoints.
    """
    cluster = Cluster(address, runs)
    with waiting(f"copying {run}"):
        place, partial = reading.fetch(cluster, run, output or Path("runs") / run)
    print(printable(place))
    if partial:
        say(partial)


def address_of(run: str) -> str | None:
    """The cluster that AUTOML_ADDRESS names, where `run` is the name of a submitted run and no place.

    Raises UserError where it is no place and no cluster is named.
    """
    if is_url(run) or "/" in run or Path(run).exists():
        return None
    if not (address := os.environ.get(ADDRESS)):
        raise UserError(
            f"there is no run directory {run}; where {run} is the name of a submitted run, name the cluster with "
            f"--address http://HOST:8265, or in {ADDRESS}"
        )
    return address


def say_what_is_next(run: str, *, model: bool) -> None:
    """Say at the end of a driver's log what whoever submitted the run can type; `model` says whether it has one."""
    say(f"\nhow far     automl status {run}")
    say(f"copy it     automl fetch {run}")
    say(f"read it     automl leaderboard runs/{run}")
    if model:
        say(f"best model  automl predict runs/{run} your.csv")


def resume_job(run: str, address: str, runs: str | None, arguments: list[str]) -> None:
    """Go on with a run as a new job and print its name."""
    cluster = Cluster(address, runs)
    with waiting(asking(cluster)):
        resumed = service.resume(cluster, run, arguments)
    print(printable(resumed))


def asking(cluster: Cluster) -> str:
    """What is being done while the runs of a cluster are asked for."""
    if cluster.address is None:
        return f"reading {redacted(cluster.runs or 'the runs')}"
    return f"asking the cluster at {redacted(cluster.address)}"


def _print_log(cluster: Cluster, run: str, *, follow: bool = True) -> None:
    for piece in service.logs(cluster, run, follow=follow):
        print(printable_log(piece), end="", flush=True)


def _conclude(cluster: Cluster, run: str) -> None:
    with waiting(f"waiting for {run} to end"):
        ended = service.wait(cluster, run)
    if ended.state != "finished":
        because = f": {ended.reason}" if ended.reason else ""
        say(f"{run} is {ended.state}{because}")
        raise typer.Exit(FAILED)
