"""Answers from the cluster to machines that do not see its files: `python -m automl.cluster.agent status|list|archive`.

It runs as a Ray job; its answer is in the job's log, in lines that begin with a mark of their own.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from automl.cluster.job import cluster_runs
from automl.cluster.names import run_name
from automl.cluster.status import list_status, read_status
from automl.cluster.submission import Runs
from automl.space import UserError

MARK = "@automl:"
LINE = 60_000  # characters
CHECKPOINTS = ("checkpoint.pt",)  # of no use but to go on with the run


def answer_in(log: str) -> str | None:
    """The answer in the log of an agent's job; None where it is not whole."""
    lines = [line.removeprefix(MARK) for line in log.splitlines() if line.startswith(MARK)]
    return "".join(lines[:-1]) if lines and lines[-1] == "end" else None


def archive(place: Path) -> bytes:
    """The files of a run as a tar, gzipped, without checkpoints and what is hidden."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=3) as tar:
        for path in wanted(place):
            tar.add(path, arcname=path.relative_to(place).as_posix(), recursive=False)
    return buffer.getvalue()


def wanted(place: Path) -> Iterator[Path]:
    """The files of a run that whoever reads it wants."""
    for path in sorted(place.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(place).parts)
        if path.is_file() and not path.is_symlink() and not hidden and is_wanted(path.name):
            yield path


def is_wanted(name: str) -> bool:
    """Whether a file of this name is more than a checkpoint or a lock."""
    return name not in CHECKPOINTS and not name.endswith(".lock")


def unpack(content: bytes, folder: Path) -> None:
    """Write an archive's files into `folder`; raises tarfile.FilterError where one would lie outside of it."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        tar.extractall(folder, filter="data")


def main(action: str, runs: Runs, name: str) -> None:
    """Print the answer."""
    try:
        if action == "list":
            _answer(json.dumps({"runs": [each.as_json() for each in list_status(runs)]}))
        elif action == "status":
            _answer(json.dumps({"run": read_status(runs, run_name(name)).as_json()}))
        else:
            _answer(_archived(runs, run_name(name)))
    except UserError as error:
        _answer(json.dumps({"error": str(error)}))


def _archived(runs: Runs, name: str) -> str:
    from automl.places import open_run

    runs.record(name)
    directory = open_run(runs.run(name), models=True)
    return json.dumps({"archive": base64.b64encode(archive(directory.path)).decode()})


def _answer(text: str) -> None:
    for start in range(0, len(text), LINE):
        print(f"{MARK}{text[start : start + LINE]}")
    print(f"{MARK}end", flush=True)


if __name__ == "__main__":
    what, place, of, *_ = [*sys.argv[1:], "", ""]
    main(what, cluster_runs(place or None), of)
