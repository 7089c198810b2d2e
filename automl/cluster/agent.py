"""Answers from the cluster to machines that do not see its files: `python -m automl.cluster.agent ACTION PLACE NAME`.

ACTION is status, list, files or archive. It runs as a Ray job; its answer is in the job's log, in lines that begin with
a mark of their own.
"""

from __future__ import annotations

import base64
import json
import sys

from automl.cluster.archive import archive, wanted
from automl.cluster.job import cluster_runs
from automl.cluster.names import run_name
from automl.cluster.status import list_status, read_status
from automl.cluster.submission import Runs
from automl.space import UserError

MARK = "@automl:"
LINE = 60_000  # characters


def answer_in(log: str) -> str | None:
    """The answer in the log of an agent's job; None where it is not whole."""
    lines = [line.removeprefix(MARK) for line in log.splitlines() if line.startswith(MARK)]
    return "".join(lines[:-1]) if lines and lines[-1] == "end" else None


def main(action: str, runs: Runs, name: str) -> None:
    """Print the answer."""
    try:
        if action == "list":
            _answer(json.dumps({"runs": [each.as_json() for each in list_status(runs)]}))
        elif action == "status":
            _answer(json.dumps({"run": read_status(runs, run_name(name)).as_json()}))
        elif action == "files":
            _answer(json.dumps({"files": base64.b64encode(runs.files(run_name(name))).decode()}))
        else:
            _answer(_archived(runs, run_name(name)))
    except UserError as error:
        _answer(json.dumps({"error": str(error)}))


def _archived(runs: Runs, name: str) -> str:
    from automl.places import open_run

    runs.record(name)
    directory = open_run(runs.run(name), models=True)
    return json.dumps({"archive": base64.b64encode(archive(directory.path, wanted(directory.path))).decode()})


def _answer(text: str) -> None:
    for start in range(0, len(text), LINE):
        print(f"{MARK}{text[start : start + LINE]}")
    print(f"{MARK}end", flush=True)


if __name__ == "__main__":
    what, place, of, *_ = [*sys.argv[1:], "", ""]
    main(what, cluster_runs(place or None), of)
