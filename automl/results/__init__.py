"""Results: the leaderboard, the best model as a package, predictions, and the report of a run."""

from automl.results.study import RunRecord, read_run
from automl.training.run_directory import RunDirectory

__all__ = ["RunRecord", "finish", "read_run"]


def finish(run: RunDirectory) -> RunRecord:
    """Measure the leaders on the test set; write best_model/, leaderboard.* and report.html. May be called again."""
    from automl.results.finalists import measure_finalists
    from automl.results.leaderboard import write_leaderboard
    from automl.results.package import write_best_model
    from automl.results.report import write_report

    measure_finalists(read_run(run))
    record = read_run(run)
    write_best_model(record)
    write_leaderboard(record)
    write_report(record)
    return record
