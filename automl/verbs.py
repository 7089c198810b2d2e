"""What the command does, as functions: `automl.run("space.yaml")` in Python is `automl run space.yaml` in a shell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.places import model_folder, open_run, require_own_place, run_of_trials
from automl.runs import RunResult, load_space, resume, run
from automl.space import UserError, json_schema
from automl.space.families import FAMILIES
from automl.space.printable import console, print_table
from automl.space.reading import located
from automl.space.spinner import waiting
from automl.training.run_directory import Allowed, RunDirectory

if TYPE_CHECKING:
    from automl.checking import Checked
    from automl.profiling import DataProfile, Preparation
    from automl.results.comparison import Comparison
    from automl.results.compress import Variant
    from automl.results.export import Exported
    from automl.results.package import Model


__all__ = [
    "Example",
    "RunResult",
    "check",
    "compare",
    "compress",
    "dashboard",
    "evaluate",
    "examples",
    "export",
    "format_leaderboard",
    "leaderboard",
    "load_model",
    "load_space",
    "open_run",
    "pack",
    "predict",
    "prepare",
    "print_leaderboard",
    "profile",
    "report",
    "resume",
    "run",
    "schema",
    "serve",
]


READING = "reading the run"


class Example(StrEnum):
    """Data sets that `examples` writes."""

    tweets = "tweets"
    digits = "digits"
    mnist1d = "mnist1d"


def check(space: str | Path, *, overrides: Sequence[str] = (), samples: int = 5) -> Checked:
    """Validate a search-space file, and the files and columns that it names; draw `samples` configurations.

    Whatever `run`, `profile` and `prepare` would refuse of them is refused here, too: UserError (SpaceError with all
    problems and their places). The data is prepared and kept in the cache, where a search finds it.
    """
    spec = load_space(space, overrides)
    with waiting("loading PyTorch"):
        from automl.checking import check_space  # a mistake in the file is said sooner

    with located(Path(space), overrides), waiting("preparing the data"):
        return check_space(spec, samples)


def profile(space: str | Path, *, overrides: Sequence[str] = ()) -> DataProfile:
    """Profile the data that a search-space file names: rows, classes, lengths, repeats, leakage, bad rows.

    Raises UserError where the file is wrong or the data cannot be learned from. The data is kept in the cache.
    """
    spec = load_space(space, overrides)
    with located(Path(space), overrides), waiting("preparing the data"):
        from automl.profiling import profile_data

        return profile_data(spec)


def prepare(
    space: str | Path,
    *,
    overrides: Sequence[str] = (),
    most: int = 20,
    tell: Callable[[Preparation], None] = lambda each: None,
) -> list[Preparation]:
    """Prepare the data of a search-space file with each combination of its searched preparation settings.

    At most `most` of them; `tell` hears of each when it is ready. Raises UserError as `profile` does.
    """
    found = []
    spec = load_space(space, overrides)
    with located(Path(space), overrides), waiting("preparing the data"):
        from automl.profiling import prepare_data

        for each in prepare_data(spec, most):
            tell(each)
            found.append(each)
    return found


def schema() -> dict[str, Any]:
    """The JSON Schema of search-space files."""
    return json_schema(FAMILIES)


def leaderboard(
    run: str | Path, *, where: str | None = None, sort: str | None = None, study: str | None = None
) -> list[dict[str, Any]]:
    """The rows of a run's leaderboard, best first, then what is no trial; `pandas.DataFrame(rows)` is a table.

    `where` is a condition that trials have to meet, as `family == "rnn" and parameters < 50000`, `sort` a column or
    setting to sort them by (`-` before it: turned round). `study` is the URL of the database with the run's study,
    where it lies in one: none is connected to that neither it nor AUTOML_STUDY names. Raises UserError where they name
    what there is not.
    """
    with waiting(READING):
        from automl.results.leaderboard import beside, rows
        from automl.results.selection import Selection, select
        from automl.results.study import read_run

        record = read_run(open_run(run, allowed=Allowed(study)))
    return select(rows(record), Selection(where, sort), maximize=record.maximize) + beside(record)


def format_leaderboard(
    run: str | Path,
    kind: str,
    *,
    top: int | None = None,
    where: str | None = None,
    sort: str | None = None,
    columns: str | None = None,
    study: str | None = None,
) -> str:
    """The leaderboard as `csv`, `json` or `md`, of the first `top` trials that meet `where`, by `sort`.

    `columns` are names with commas between them: columns, and settings by their path or its end.
    """
    with waiting(READING):
        from automl.results.columns import asked_columns
        from automl.results.formats import format_leaderboard as formatted
        from automl.results.selection import Selection
        from automl.results.study import read_run

        asked = Selection(where, sort, top, asked_columns(columns))
        return formatted(read_run(open_run(run, allowed=Allowed(study))), kind, asked)


def print_leaderboard(
    run: str | Path,
    *,
    top: int,
    where: str | None = None,
    sort: str | None = None,
    columns: str | None = None,
    wide: bool = False,
    hint: bool = False,
    study: str | None = None,
) -> None:
    """Print the first `top` trials of the leaderboard that meet `where`, by `sort`, for people.

    `columns` are those of `format_leaderboard`; with `wide` a line is as long as all columns need, with `hint` it is
    said how to see settings that have no room.
    """
    with waiting(READING):
        from automl.results.columns import asked_columns
        from automl.results.selection import Selection
        from automl.results.study import read_run
        from automl.results.table import render_table

        asked, here = Selection(where, sort, top, asked_columns(columns), wide), console()
        record = read_run(open_run(run, allowed=Allowed(study)))
        shown = render_table(record, asked, here.width, hint=hint)
    print_table(shown, here, wide=wide)


def compare(run: str | Path, *others: str | Path, study: str | None = None) -> Comparison:
    """Runs side by side: their best models on the same rows, and the settings that their files ask for differently.

    Raises UserError where there is one only, one of them is no run, or where they looked for different metrics.
    """
    with waiting("reading the runs"):
        return _compared((run, *others), study)


def _compared(runs: Sequence[str | Path], study: str | None) -> Comparison:
    from automl.results.comparison import compare as compared
    from automl.results.study import read_run
    from automl.space.describe import settings
    from automl.space.reading import load_alone

    if len(runs) < 2:
        raise UserError("--compare takes two runs or more")
    records = [read_run(open_run(each, allowed=Allowed(study))) for each in runs]
    files = [load_alone(each.directory.space, FAMILIES, each.manifest["overrides"]) for each in records]
    return compared(records, [settings(file) for file in files])


def report(
    run: str | Path, *, fetch_data: bool = False, study: str | None = None, families: Sequence[str] = ()
) -> Path:
    """Write a run's leaderboard, best model and report again; gives the report's path.

    Where that takes the run's data, it is that of this machine's cache, or local files that still hold what they held
    when the run began; with `fetch_data` whatever lies where the run says, at URLs too. Of families of a user's own
    (`my_module:my_net`) only those of `families` are imported, to measure their models.

    While another process drives the run, the leaderboard and the report show how far it is, and no model is measured.
    """
    with waiting("writing the report"):
        from automl.results import finish, summarise
        from automl.search.lease import BeingDrivenError
        from automl.search.publishing import driving

        directory = open_run(run, models=True, allowed=Allowed(study, fetch_data))
        try:
            with driving(directory):
                return finish(directory, families).directory.report
        except BeingDrivenError:
            return summarise(directory).directory.report


def load_model(path: str | Path, families: Sequence[str] = (), *, trial: int | None = None) -> Model:
    """The model of a run directory or of a best_model directory; `.predict(texts)` labels raw texts.

    Of a run it is the best model, or that of `trial`, where its weights are kept: those of finalists always are.
    A model of a family of a user's own (`my_module:my_net`) is loaded only where `families` names it: its module is
    imported then. Raises UserError where there is no model, or none that can be loaded.
    """
    with waiting("loading the model"):
        from automl.results.package import load_model as loaded

        if trial is None:
            return loaded(model_folder(path), families)
        from automl.results.packing import packed_trial
        from automl.results.study import read_run

        with packed_trial(read_run(run_of_trials(path), families), trial) as package:
            return loaded(package, families)


def pack(
    run: str | Path,
    trial: int,
    *,
    output: str | Path | None = None,
    families: Sequence[str] = (),
    fetch_data: bool = False,
    study: str | None = None,
) -> Path:
    """Write a trial of a run, whose weights are kept, as a model directory like `best_model/`; gives its path.

    `output` is the folder to write, `RUN/trials/N/packed` by default; of a run in a store it has to be named. Data is
    needed only for a trial that is no finalist, or whose inputs are prepared in a way of its own, and is found as for
    `report`. Raises UserError where there is no such trial, or where its weights are not kept.
    """
    from automl.data.files import require_no_links_out
    from automl.results.packing import require_output, write_trial
    from automl.results.study import read_run

    directory = run_of_trials(run, Allowed(study, fetch_data))
    if output is None:
        require_own_place(directory)
        require_no_links_out(directory.path)
    folder = directory.trial(trial).path / "packed" if output is None else Path(output)
    require_output(directory, folder)
    with waiting(f"packing trial {trial}"):
        return write_trial(read_run(directory, families), trial, folder)


def predict(
    model: str | Path,
    input: str | Path,
    *,
    output: str | Path | None = None,
    text: str | None = None,
    families: Sequence[str] = (),
    trial: int | None = None,
    excel: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> int:
    """Label the rows of a CSV, Parquet or JSON Lines file, or images; writes the same format to `output` or stdout.

    `input` `-` is stdin; of a folder or files of images CSV with their names is written, and `tell` hears what is
    skipped.

    `families` and `trial` are those of `load_model`, here and below.
    With `excel` CSV is written so that a spreadsheet runs no cell of it. Gives the number of rows that have no text and
    therefore no label. Raises UserError for wrong input.
    """
    from automl.results.predict import predict_file

    return predict_file(
        load_model(model, families, trial=trial),
        input,
        None if output is None else Path(output),
        text=text,
        excel=excel,
        tell=tell,
    )


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    text: str | None = None,
    label: str | None = None,
    families: Sequence[str] = (),
    trial: int | None = None,
) -> dict[str, Any]:
    """Measure a model on labelled rows: rows, metrics, figures of each class, confusion matrix."""
    from automl.results.predict import evaluate_file

    return evaluate_file(load_model(model, families, trial=trial), str(data), text=text, label=label)


def compress(
    run: str | Path,
    *,
    trial: int | None = None,
    output: str | Path | None = None,
    tolerance: float = 0.005,
    epochs: int = 5,
    families: Sequence[str] = (),
    fetch_data: bool = False,
    study: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Variant]:
    """Make a run's best model smaller and faster, in several ways; gives what each costs and loses, the original first.

    With `trial` that one is made smaller. The models are written into folders of `output` (default `RUN/compressed`,
    which the leaderboard then shows; of a trial that was asked for `RUN/trials/N/compressed`), whole or not at all.
    The recommended one loses at most `tolerance` of the metric on validation. The data is found as for `report`.
    `tell` hears of the progress.
    """
    from automl.data.files import require_no_links_out
    from automl.results import summarise
    from automl.results.compress import compress as compressed
    from automl.results.study import read_run

    allowed = Allowed(study, fetch_data)
    directory = open_run(run, models=True, allowed=allowed) if trial is None else run_of_trials(run, allowed)
    require_no_links_out(directory.path)
    own = directory.compressed if trial is None else directory.trial(trial).path / "compressed"
    if trial is not None and output is None:
        require_own_place(directory)
    folder = own if output is None else Path(output)
    asked: dict[str, Any] = {"tolerance": tolerance, "epochs": epochs, "families": families}
    with waiting("making the model smaller"):
        variants = compressed(read_run(directory, families), folder, trial=trial, tell=tell, **asked)
        summarise(directory)
    return variants


def export(
    model: str | Path,
    *,
    format: str = "onnx",
    output: str | Path | None = None,
    data: str | Path | None = None,
    families: Sequence[str] = (),
    trial: int | None = None,
    fetch_data: bool = False,
    study: str | None = None,
) -> Exported:
    """Write a model as `onnx` or `torch` (torch.export) into a folder, default `MODEL/exported/FORMAT`.

    With `trial`, that of a run, the default is `RUN/trials/N/exported/FORMAT`.
    It is compared with the original on the rows of `data`, or else on the test rows of the run (validation rows where
    it has no test set). Raises UserError for wrong input, ExportError where it cannot be exported or does not agree.
    """
    from automl.data.files import require_no_links_out
    from automl.results.export import export as exported
    from automl.results.predict import read_usable

    allowed = Allowed(study, fetch_data)
    run = None if trial is None else run_of_trials(model, allowed)
    if run is not None and output is None:
        require_own_place(run)
    folder = model_folder(model) if run is None else run.path
    loaded = load_model(model, families, trial=trial)
    if output is None:
        require_no_links_out(folder)
    rows = _own_rows(folder, allowed, trial) if data is None else read_usable(loaded, data)
    own = folder if run is None or trial is None else run.trial(trial).path
    with waiting("exporting the model"):
        return exported(loaded, format, own / "exported" / format if output is None else Path(output), rows)


def _own_rows(folder: Path, allowed: Allowed, trial: int | None) -> list[Any]:
    """The test rows of the run, or else its validation rows; raises UserError where it is a model without its run."""
    from automl.results.finalists import prepared_data
    from automl.results.study import read_run

    if not RunDirectory(folder).manifest.is_file():
        raise UserError(f"{folder} has no rows to compare the export with; name some with --data")
    record = read_run(RunDirectory(folder, allowed=allowed))
    if not record.ranked:
        raise UserError(f"{folder} has no trial that has ended; name rows with --data")
    of = next((each for each in record.ranked if each.number == trial), record.best_trial)
    prepared = prepared_data(record, of.config)
    return prepared.inputs("test") or prepared.inputs("validation") or []


def serve(
    model: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    allow_hosts: Sequence[str] = (),
    token: str | None = None,
    families: Sequence[str] = (),
    trial: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Answer requests over HTTP until interrupted; `tell` hears where.

    Requests have to name a loopback address, `host` or one of `allow_hosts` as their Host, and `token` where there is
    one (`Authorization: Bearer TOKEN`). Raises UserError for wrong input, OSError where the port is taken.
    """
    _require("serve", "starlette", "uvicorn", "prometheus_client")
    from automl.results.serve import serve as served
    from automl.results.serving.access import access

    who = access(host, allow_hosts, token)
    served(load_model(model, families, trial=trial), host, port, who, tell)


def dashboard(
    run: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    study: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve optuna-dashboard on a run's study until interrupted; `tell` hears where."""
    _require("dashboard", "optuna_dashboard")
    from automl.results.dashboard import serve_dashboard

    serve_dashboard(open_run(run, allowed=Allowed(study)), host, port, tell)


def _require(extra: str, *packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise UserError(f"this needs the package {package}: pip install 'automl[{extra}]'")


def examples(name: str, *, output: str | Path | None = None) -> Path:
    """Write an example data set as Parquet into `output` (default `data/<name>`); gives the folder."""
    from automl.data.examples import write_digits, write_mnist1d, write_tweets

    folder = Path(output) if output else Path("data") / Example(name)
    writers = {Example.tweets: write_tweets, Example.digits: write_digits, Example.mnist1d: write_mnist1d}
    with waiting("writing the data"):
        writers[Example(name)](folder)
    return folder
