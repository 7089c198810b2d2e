"""What the command does, as functions: `automl.run("space.yaml")` in Python is `automl run space.yaml` in a shell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from automl.places import model_folder, open_run
from automl.runs import RunResult, load_space, resume, run
from automl.space import json_schema

if TYPE_CHECKING:
    from automl.checking import Checked
    from automl.results.compress import Variant
    from automl.results.package import Model


__all__ = [
    "Example",
    "RunResult",
    "check",
    "compress",
    "evaluate",
    "examples",
    "format_leaderboard",
    "leaderboard",
    "load_model",
    "load_space",
    "open_run",
    "predict",
    "print_leaderboard",
    "report",
    "resume",
    "run",
    "schema",
]


class Example(StrEnum):
    """Data sets that `examples` writes."""

    tweets = "tweets"
    digits = "digits"
    mnist1d = "mnist1d"


def check(space: str | Path, *, overrides: Sequence[str] = (), samples: int = 5) -> Checked:
    """Validate a search-space file, and the files and columns that it names; draw `samples` configurations.

    Raises UserError (SpaceError with all problems and their places) where anything is wrong. Nothing is written.
    """
    from automl.checking import check_space

    return check_space(load_space(space, overrides), samples)


def schema() -> dict[str, Any]:
    """The JSON Schema of search-space files."""
    from automl.models import FAMILIES

    return json_schema(FAMILIES)


def leaderboard(run: str | Path) -> list[dict[str, Any]]:
    """The rows of a run's leaderboard, best first, then ensemble and floor; `pandas.DataFrame(rows)` is a table."""
    from automl.results.leaderboard import beside, rows
    from automl.results.study import read_run

    record = read_run(open_run(run))
    return rows(record) + beside(record)


def format_leaderboard(run: str | Path, kind: str, *, top: int | None = None) -> str:
    """The leaderboard as `csv`, `json` or `md`, of the best `top` trials."""
    from automl.results.formats import format_leaderboard as formatted
    from automl.results.study import read_run

    return formatted(read_run(open_run(run)), kind, top)


def print_leaderboard(run: str | Path, *, top: int) -> None:
    """Print the best `top` trials of the leaderboard for people."""
    from automl.results.study import read_run
    from automl.results.table import render_table

    Console(highlight=False).print(render_table(read_run(open_run(run)), top))


def report(run: str | Path) -> Path:
    """Write a run's leaderboard, best model and report again; gives the report's path.

    While another process drives the run, the leaderboard and the report show how far it is, and no model is measured.
    """
    from automl.results import finish, summarise
    from automl.search.publishing import BeingDrivenError, driving

    directory = open_run(run, models=True)
    try:
        with driving(directory):
            return finish(directory).directory.report
    except BeingDrivenError:
        return summarise(directory).directory.report


def load_model(path: str | Path) -> Model:
    """The model of a run directory or of a best_model directory; `.predict(texts)` labels raw texts."""
    from automl.results.package import load_model as loaded

    return loaded(model_folder(path))


def predict(model: str | Path, input: str | Path, *, output: str | Path | None = None, text: str | None = None) -> int:
    """Label the rows of a CSV, Parquet or JSON Lines file; writes the same format to `output` or stdout.

    Gives the number of rows that have no text and therefore no label. Raises UserError for wrong input.
    """
    from automl.results.predict import predict_file

    return predict_file(load_model(model), Path(input), None if output is None else Path(output), text=text)


def evaluate(
    model: str | Path, data: str | Path, *, text: str | None = None, label: str | None = None
) -> dict[str, Any]:
    """Measure a model on labelled rows: rows, metrics, figures of each class, confusion matrix."""
    from automl.results.predict import evaluate_file

    return evaluate_file(load_model(model), str(data), text=text, label=label)


def compress(
    run: str | Path,
    *,
    output: str | Path | None = None,
    tolerance: float = 0.005,
    epochs: int = 5,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Variant]:
    """Make a run's best model smaller and faster, in several ways; gives what each costs and loses, the original first.

    The models are written into folders of `output` (default `RUN/compressed`), whole or not at all. The recommended one
    loses at most `tolerance` of the metric on validation. `tell` hears of the progress.
    """
    from automl.results.compress import compress as compressed
    from automl.results.study import read_run

    directory = open_run(run, models=True)
    folder = directory.path / "compressed" if output is None else Path(output)
    return compressed(read_run(directory), folder, tolerance=tolerance, epochs=epochs, tell=tell)


def examples(name: str, *, output: str | Path | None = None) -> Path:
    """Write an example data set as Parquet into `output` (default `data/<name>`); gives the folder."""
    from automl.data.examples import write_digits, write_mnist1d, write_tweets

    folder = Path(output) if output else Path("data") / Example(name)
    writers = {Example.tweets: write_tweets, Example.digits: write_digits, Example.mnist1d: write_mnist1d}
    writers[Example(name)](folder)
    return folder
