"""The driver of a submitted search on the cluster's head: `python -m automl.cluster.job run|resume`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from automl.cluster.submission import Runs, Submission
from automl.data.private_folder import private_folder
from automl.space import UserError
from automl.space.printable import say
from automl.training.run_directory import read_json, write_json

REQUEST = "submission.json"  # in the job's working directory
RUNS = "AUTOML_RUNS"
SUBMITTED = "AUTOML_SUBMITTED"  # the name of the run that the command drives for whoever submitted it


def write_request(folder: Path, submission: Submission, runs: str | None) -> None:
    """Say in the files of a job what it is to do; `runs` is where its run lies, None for where the cluster has them."""
    write_json(folder / REQUEST, {"submission": submission.as_json(), "runs": runs})


def main(action: str) -> None:
    """Run the search that the file submission.json asks for, or go on with it; exits as the command does."""
    try:
        content = read_json(Path(REQUEST))
        runs, asked = cluster_runs(content["runs"]), Submission(**content["submission"])
        if action == "run":
            if asked.name in runs.names():
                raise UserError(f"a run {asked.name} was submitted before")
            runs.keep_files(asked.name, Path.cwd())
            runs.write(asked)
            command = _run(asked, runs)
        else:
            known = runs.record(asked.name)
            runs.write(replace(known, jobs=[*known.jobs, *asked.jobs]))
            command = _resume(asked, known, runs)
    except UserError as error:
        say(f"automl: {error}")
        sys.exit(2)
    # Ray may replace a job's files while it runs, where several nodes share a machine; so it works on a copy. A stop
    # comes to both processes, and the command answers it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with private_folder() as scratch:
        folder = shutil.copytree(Path.cwd(), scratch / "files")
        told = {**os.environ, SUBMITTED: asked.name}
        ended = subprocess.run([sys.executable, "-m", "automl", *command], cwd=folder, env=told, check=False)
    sys.exit(ended.returncode)


def _run(asked: Submission, runs: Runs) -> list[str]:
    if runs.run(asked.name).startswith("/"):
        Path(runs.place).mkdir(parents=True, exist_ok=True)
    belongs = [f"--owner={asked.owner}", *(f"--label={key}={value}" for key, value in asked.labels.items())]
    return ["run", asked.space, "--output", runs.run(asked.name), "--address", "auto", *belongs, *asked.arguments]


def _resume(asked: Submission, known: Submission, runs: Runs) -> list[str]:
    """Where the run had not begun when its job was lost, it begins."""
    from automl.data.store import Store, is_url

    place = runs.run(asked.name)
    begun = Store(place).has("manifest.json") if is_url(place) else (Path(place) / "manifest.json").exists()
    if not begun:
        return [*_run(known, runs), *asked.arguments]
    return ["resume", place, "--address", "auto", *asked.arguments]


def cluster_runs(asked: str | None) -> Runs:
    """Where runs lie: as asked, else as this machine's AUTOML_RUNS says; raises UserError where neither does."""
    place = asked or os.environ.get(RUNS, "")
    if not place:
        raise UserError(f"the cluster does not say where runs lie; set {RUNS} on its head, or submit with --runs")
    return Runs(place)


if __name__ == "__main__":
    (what,) = sys.argv[1:]
    main(what)
