"""The `automl` command: progress on stderr, results on stdout; exit code 0 done, 1 failed, 2 wrong use."""

from __future__ import annotations

import gc
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from automl import data_commands, model_commands, run_commands, verbs
from automl.cluster import commands as cluster_commands
from automl.cluster.job import SUBMITTED
from automl.model_commands import Families, FetchData, OfTrial, Study
from automl.run_commands import Format
from automl.space import UserError
from automl.space.printable import cell, console, printable, printable_json, printable_streams, say
from automl.space.spinner import spinning
from automl.space.urls import redacted_urls

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

FAILED, WRONG_USE = 1, 2
SHOWN_TRIALS = 20
# Allocations between Python's collections of garbage, 700 by default: imports allocate much and free little, so a tenth
# of the time of `automl check` went into collections that found nothing.
COLLECTED_AFTER = 50_000


class TextFormat(StrEnum):
    """For people or for programs."""

    text = "text"
    json = "json"


Space = Annotated[Path, typer.Argument(metavar="SPACE", help="The search-space file (YAML).")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run directory: a path, or a URL such as s3://bucket/run.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Replace a value of the file; repeatable."),
]
Trials = Annotated[int | None, typer.Option(min=1, help="How many trials.")]
TimeBudget = Annotated[str | None, typer.Option(metavar="TIME", help="How long, e.g. 90s, 20m, 1h30m.")]
Address = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="A Ray cluster; without it a local Ray is started and stopped."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Top = Annotated[int | None, typer.Option(min=1, help="How many trials to list [20 in the table, else all].")]


def _print_version(asked: bool) -> None:
    if asked:
        print(f"automl {version('automl')}")
        raise typer.Exit


@app.callback()
def common(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Search architectures and hyperparameters of CNNs and RNNs; read the leaderboard; use the best model."""


@app.command()
def check(
    space: Space,
    overrides: Overrides = None,
    format: Annotated[TextFormat, typer.Option(help="Output format.")] = TextFormat.text,
) -> None:
    """Validate a search-space file and its data.

    Shows the parameters, sample configurations, and what to mend.
    """
    checked = verbs.check(space, overrides=overrides or ())
    if format is TextFormat.json:
        _print_json(checked.as_json())
    else:
        console().print(checked.as_text(), soft_wrap=False)


@app.command()
def schema() -> None:
    """Print the JSON Schema of search-space files, for editors."""
    _print_json(verbs.schema())


@app.command()
def run(
    space: Space,
    output: Annotated[
        str | None, typer.Option(metavar="PLACE", help="The run directory to make, a path or URL [runs/NAME-TIME].")
    ] = None,
    trials: Trials = None,
    time_budget: TimeBudget = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    overrides: Overrides = None,
    address: Address = None,
    study: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar="AUTOML_STUDY", help="A database for the study, e.g. postgresql://host/db."),
    ] = None,
    owner: Annotated[str | None, typer.Option(help="Whose run it is [your login name].")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label; repeatable.")] = None,
    quiet: Quiet = False,
) -> None:
    """Search: prepare the data, run trials, print the leaderboard."""
    result = verbs.run(
        space,
        output=output,
        trials=trials,
        time_budget=time_budget,
        seed=seed,
        overrides=overrides or (),
        address=address,
        study=study,
        owner=owner,
        labels=label or (),
        quiet=quiet,
    )
    _conclude(result, study)


@app.command()
def resume(
    run: Run,
    trials: Trials = None,
    time_budget: TimeBudget = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="A Ray cluster (HOST:PORT), or, for a run that was submitted, its dashboard (http://HOST:PORT) "
            "[for the name of one: AUTOML_ADDRESS].",
        ),
    ] = None,
    runs: Annotated[
        str | None, typer.Option(metavar="PLACE", envvar="AUTOML_RUNS", help="Where submitted runs lie.")
    ] = None,
    study: Study = None,
    quiet: Quiet = False,
) -> None:
    """Go on with a run that was interrupted.

    --trials or --time-budget give a finished one more budget.
    """
    address = address or cluster_commands.address_of(run)
    if address is not None and address.startswith(("http://", "https://")):
        asked = {"--trials": trials, "--time-budget": time_budget}
        cluster_commands.resume_job(
            run, address, runs, [str(each) for pair in asked.items() if pair[1] is not None for each in pair]
        )
        return
    result = verbs.resume(run, trials=trials, time_budget=time_budget, address=address, study=study, quiet=quiet)
    _conclude(result, study)


@app.command()
def leaderboard(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run directories: paths or URLs.")],
    top: Top = None,
    sort: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="A column or setting; -COLUMN turns the order round [rank].")
    ] = None,
    where: Annotated[
        str | None, typer.Option(metavar="EXPR", help="Only trials for which it holds, as in parameters < 50000.")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Their best models side by side, two or more.")] = False,
    columns: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="What to show of each: columns and settings, as in rank,batch_size,time."),
    ] = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="Show all columns, and the settings that differ, wider than the terminal.")
    ] = False,
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.table,
    study: Study = None,
) -> None:
    """Print the trials of runs, best first, or compare runs.

    Columns go by the names in JSON or over the table, settings by their path or its end.
    """
    if wide and (format is not Format.table or compare):
        raise UserError("--wide is for the table of trials; the other formats are as wide as they are")
    if compare:
        named = {"--top": top, "--sort": sort, "--where": where, "--columns": columns}
        if asked := next((name for name, value in named.items() if value is not None), None):
            raise UserError(f"{asked} is for trials; leave out --compare")
        run_commands.print_comparison(runs, format.value, study)
    elif len(runs) > 1:
        asked_top = top or (SHOWN_TRIALS if format is Format.table else None)
        run_commands.print_several(runs, format.value, asked_top, where, sort, columns, wide=wide, study=study)
    elif format is Format.table:
        verbs.print_leaderboard(
            runs[0], top=top or SHOWN_TRIALS, where=where, sort=sort, columns=columns, wide=wide, hint=True, study=study
        )
    else:
        found = verbs.format_leaderboard(
            runs[0], format.value, top=top, where=where, sort=sort, columns=columns, study=study
        )
        print(found, end="")


@app.command()
def report(run: Run, fetch_data: FetchData = False, study: Study = None, families: Families = None) -> None:
    """Write report.html of a run again and print where it is."""
    print(printable(verbs.report(run, fetch_data=fetch_data, study=study, families=families or ())))


@app.command()
def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run directory or a best_model directory.")],
    input: Annotated[
        str, typer.Argument(metavar="INPUT", help="Rows to label: CSV, Parquet, JSON Lines, images; - is stdin.")
    ],
    output: Annotated[Path | None, typer.Option(help="Where to write, in the input's format [stdout].")] = None,
    text: Annotated[str | None, typer.Option(metavar="COLUMN", help="The text column [as in training].")] = None,
    excel: Annotated[
        bool, typer.Option("--excel", help="Mark cells of CSV as text that a spreadsheet would run as formulas.")
    ] = False,
    families: Families = None,
    trial: OfTrial = None,
) -> None:
    """Label the rows of a file.

    The same rows come out in the same order and format, with a label and probabilities, or why there is none.
    """
    skipped = verbs.predict(
        model, input, output=output, text=text, excel=excel, families=families or (), trial=trial, tell=say
    )
    if skipped:
        rows = "1 row" if skipped == 1 else f"{skipped:,} rows"
        say(f"automl: {rows} got no label; prediction_error says why")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run directory or a best_model directory.")],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Labelled rows: CSV, Parquet, JSON Lines, images; - is stdin.")
    ],
    text: Annotated[str | None, typer.Option(metavar="COLUMN", help="The text column [as in training].")] = None,
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="The label column [as in training].")] = None,
    families: Families = None,
    trial: OfTrial = None,
    format: Annotated[TextFormat, typer.Option(help="Output format.")] = TextFormat.text,
) -> None:
    """Measure a model on labelled rows."""
    evaluation = verbs.evaluate(model, data, text=text, label=label, families=families or (), trial=trial)
    if format is TextFormat.json:
        _print_json(evaluation)
    else:
        _print_evaluation(evaluation)


@app.command()
def examples(
    name: Annotated[verbs.Example, typer.Argument(metavar="NAME", help="tweets")],
    output: Annotated[Path | None, typer.Option(help="The folder to write [data/NAME].")] = None,
) -> None:
    """Write an example data set as Parquet files."""
    print(printable(verbs.examples(name, output=output)))


def _conclude(result: verbs.RunResult, study: str | None) -> None:
    """Print the leaderboard, say where everything is and what to do next; exit 1 unless the run finished."""
    try:
        verbs.print_leaderboard(result.path, top=10, study=study)
    except UserError as error:
        if result.status == "finished":
            raise
        say(f"automl: {error}")
    submitted = os.environ.get(SUBMITTED)
    if submitted is None:
        _say_where(result)
    else:
        cluster_commands.say_what_is_next(submitted, model=(result.path / "best_model").exists())
    if result.note:
        say(f"note        {result.note}")
    if result.status == "interrupted":
        why = "" if result.reason == "interrupted" else f": {result.reason}"
        say(f"stopped{why}; go on with: automl resume {shlex.quote(submitted or result.place)}")
    if result.status == "failed":
        say(f"the search failed: {result.reason}")
    if result.status != "finished":
        raise typer.Exit(FAILED)


def _say_where(result: verbs.RunResult) -> None:
    if (result.path / "report.html").exists():
        say(f"\nreport      {result.place}/report.html")
    if (result.path / "best_model").exists():
        say(f"best model  {result.place}/best_model")
        say(f"try it      automl predict {shlex.quote(result.place)} your.csv")
    if (result.path / "compressed").exists():
        say(f"smaller     {result.place}/compressed")


def _print_evaluation(evaluation: dict[str, Any]) -> None:
    for name, value in evaluation["metrics"].items():
        print(f"{printable(name):<18} {value:.4f}")
    skipped = f", {evaluation['skipped']:,} without text or label left out" if evaluation["skipped"] else ""
    print(f"{'rows':<18} {evaluation['rows']:,}{skipped}")
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("class")
    for name in ("precision", "recall", "f1", "rows"):
        table.add_column(name, justify="right")
    for name, figures in evaluation["per_class"].items():
        shares = [f"{figures[key]:.3f}" for key in ("precision", "recall", "f1")]
        table.add_row(cell(name), *shares, f"{figures['rows']:,}")
    console().print(table)


def _print_json(content: object) -> None:
    print(printable_json(content))


data_commands.add_to(app)
model_commands.add_to(app)
run_commands.add_to(app)
cluster_commands.add_to(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with `arguments`, those of the process by default.

    A mistake of the user is one clear message and exit code 2, a fault of the machine 1. Nothing that is printed holds
    a control character but the ends of lines.
    """
    gc.set_threshold(COLLECTED_AFTER)
    with printable_streams(), spinning(sys.argv[1:] if arguments is None else arguments):
        _run(arguments)


def _run(arguments: Sequence[str] | None) -> None:
    try:
        app(arguments, prog_name="automl")
    except UserError as error:
        say(f"automl: {error}")
        sys.exit(WRONG_USE)
    except OSError as error:  # a full disk, a folder that may not be written
        if error.strerror is None:
            _print_traceback()
        else:
            place = f": {printable(redacted_urls(str(error.filename)))}" if error.filename else ""
            say(f"automl: {redacted_urls(error.strerror)}{place}")
        sys.exit(FAILED)
    except Exception:  # said here, while what is printed is still made printable
        _print_traceback()
        sys.exit(FAILED)


def _print_traceback() -> None:
    say(redacted_urls(traceback.format_exc().rstrip()))
