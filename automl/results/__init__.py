"""Results: the leaderboard, the best model as a package, predictions, and the report of a run."""

from collections.abc import Sequence

from automl.results.study import RunRecord, read_run
from automl.training.run_directory import RunDirectory
from automl.training.run_files import read_manifest

__all__ = ["RunRecord", "finish", "read_manifest", "read_run", "summarise"]


def finish(run: RunDirectory, families: Sequence[str] = ()) -> RunRecord:
    """Measure the leaders on the test set; write best_model/, leaderboard.* and report.html. May be called again.

    Leaderboard and report are written even where the best model cannot be, because its data has gone, or because it is
    of a user's own family that `families` does not name: then UserError.
    """
    from automl.results.examination import examine
    from automl.results.finalists import measure_finalists
    from automl.results.packing import write_best_model
    from automl.training.inference import cpu_only

    try:
        with cpu_only(read_run(run).cpu_only):
            measure_finalists(read_run(run, families))
            examine(read_run(run))
            write_best_model(read_run(run))
    finally:
        record = summarise(run)
    return record


def summarise(run: RunDirectory) -> RunRecord:
    """Write leaderboard.* and report.html of what is known: at any stage of a run, without touching the test set."""
    from automl.results.formats import write_leaderboard
    from automl.results.report import write_report

    record = read_run(run)
    write_leaderboard(record)
    write_report(record)
    return record
