"""The part of the `automl` command that takes the best model elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from automl import verbs
from automl.space.printable import console, printable, printable_json, say

if TYPE_CHECKING:
    from automl.results.compress import Variant

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run directory.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A run directory or a model directory.")]
Families = Annotated[
    list[str] | None,
    typer.Option(
        "--family",
        metavar="MODULE:FUNCTION",
        help="A family of your own that the model needs; its module is imported, so name what you trust; repeatable.",
    ),
]
OfTrial = Annotated[
    int | None,
    typer.Option(
        "--trial",
        metavar="N",
        min=0,
        help="Of a run: this trial instead of the best model; its weights have to be kept.",
    ),
]
FAILED = 1
Study = Annotated[
    str | None,
    typer.Option(metavar="URL", envvar="AUTOML_STUDY", help="The database that the run's study lies in, if it does."),
]
FetchData = Annotated[
    bool, typer.Option("--fetch-data", help="Take the run's data from wherever the run says that it lies, also a URL.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class ExportFormat(StrEnum):
    """What to export to."""

    onnx = "onnx"
    torch = "torch"


def add_to(app: typer.Typer) -> None:
    """Add the commands `pack`, `compress`, `export`, `serve` and `dashboard`."""
    for command in (pack, compress, export, serve, dashboard):
        app.command()(command)


def pack(
    run: Run,
    trial: Annotated[int, typer.Option("--trial", metavar="N", min=0, help="The trial; its weights have to be kept.")],
    output: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where to write [RUN/trials/N/packed].")] = None,
    families: Families = None,
    fetch_data: FetchData = False,
    study: Study = None,
) -> None:
    """Write a trial as a model directory like best_model.

    Prints where; every command that takes a MODEL takes it.
    """
    print(printable(verbs.pack(run, trial, output=output, families=families or (), fetch_data=fetch_data, study=study)))


def compress(
    run: Run,
    trial: OfTrial = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write the models [RUN/compressed].")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="How much of the metric the recommended model may lose on validation.")
    ] = 0.005,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs that pruned models are trained on.")] = 5,
    families: Families = None,
    fetch_data: FetchData = False,
    study: Study = None,
    as_json: AsJson = False,
) -> None:
    """Make the best model smaller and faster.

    In several ways; shows what each costs and loses.
    """
    variants = verbs.compress(
        run,
        trial=trial,
        output=output,
        tolerance=tolerance,
        epochs=epochs,
        fetch_data=fetch_data,
        study=study,
        families=families or (),
        tell=say,
    )
    if as_json:
        print(printable_json([asdict(variant) for variant in variants]))
    else:
        console().print(_compressed(variants))
    best = next(variant for variant in variants if variant.recommended)
    if best.path is None and any(variant.lost <= tolerance for variant in variants[1:]):
        say("none is recommended: the validation rows do not tell the best trial from guessing")
    elif best.path is None:
        say(f"none loses {tolerance:g} or less on validation")
    else:
        say(f"recommended: {best.path}")


def export(
    model: Model,
    trial: OfTrial = None,
    format: Annotated[ExportFormat, typer.Option(help="ONNX, or a program of torch.export.")] = ExportFormat.onnx,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write [MODEL/exported/FORMAT].")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Rows to compare with: CSV, Parquet or JSON Lines [the run's test or validation rows]."),
    ] = None,
    families: Families = None,
    fetch_data: FetchData = False,
    study: Study = None,
    as_json: AsJson = False,
) -> None:
    """Write the model as ONNX or a torch.export program.

    It is compared with the original on real rows first.
    """
    from automl.results.export import ExportError

    try:
        exported = verbs.export(
            model,
            format=format.value,
            output=output,
            data=data,
            trial=trial,
            fetch_data=fetch_data,
            study=study,
            families=families or (),
        )
    except ExportError as error:
        say(f"automl: {error}")
        raise typer.Exit(FAILED) from error
    if as_json:
        print(printable_json(asdict(exported)))
    else:
        print(printable(exported.path))
        say(
            f"agrees with the model on {exported.rows:,} rows; "
            f"probabilities differ by {exported.largest_difference:.1g} at most"
        )


def serve(
    model: Model,
    host: Annotated[str, typer.Option(help="The address to listen on, IPv4 or IPv6; whoever reaches it may ask.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Answer to this Host, too, as behind a proxy; repeatable."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="AUTOML_TOKEN",
            help="Answer only requests with this bearer token; given here, others on this machine see it.",
        ),
    ] = None,
    families: Families = None,
    trial: OfTrial = None,
) -> None:
    """Serve the model over HTTP.

    POST /predict with {"texts": ["..."]}, {"images": ["BASE64"]} or {"series": [[0.5]]}, as the model is; /health;
    /metrics for Prometheus.
    """
    verbs.serve(
        model,
        host=host,
        port=port,
        allow_hosts=allow_host or (),
        token=token,
        families=families or (),
        trial=trial,
        tell=say,
    )


def dashboard(
    run: Run,
    host: Annotated[str, typer.Option(help="The address to listen on; whoever reaches it may look.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8080,
    study: Study = None,
) -> None:
    """Show a run's study in optuna-dashboard."""
    verbs.dashboard(run, host=host, port=port, study=study, tell=say)


def _compressed(variants: Sequence[Variant]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("model")
    for name in ("validation", "test", "KB", "smaller", "ms, 1 row", "faster", "32 rows", "faster"):
        table.add_column(name, justify="right")
    for variant in variants:
        test = "" if variant.test is None else f"{variant.test:.4f}"
        costs = [f"{variant.bytes / 1000:,.0f}", f"{variant.smaller:.1f}x"]
        for size, took in variant.latency_ms.items():
            costs += [f"{took:.2f}", f"{variant.faster[size]:.1f}x"]
        style = "bold" if variant.recommended else ""
        table.add_row(variant.name, f"{variant.validation:.4f}", test, *costs, style=style)
    return table
