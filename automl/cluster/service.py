"""Submit searches to a Ray cluster, follow them, stop them and go on with them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from automl.cluster.address import Cluster
from automl.cluster.archive import unpack
from automl.cluster.client import ENDED, is_job_of, job_states, latest_state, refusals, start_job
from automl.cluster.job import write_request
from automl.cluster.names import new_run_name, run_name
from automl.cluster.package import SPACE, pack
from automl.cluster.reading import status, submitted_files
from automl.cluster.status import RunStatus
from automl.cluster.submission import Submission
from automl.data.private_folder import private_folder
from automl.runs import load_space
from automl.space import UserError
from automl.space.owners import labels_of, owner_name

LOOK_SECONDS = 1.0


def submit(
    cluster: Cluster,
    space: Path,
    *,
    name: str | None = None,
    owner: str | None = None,
    labels: Sequence[str] = (),
    overrides: Sequence[str] = (),
    arguments: Sequence[str] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> str:
    """Start a search as a job of the cluster; gives the run's name at once.

    `overrides` are `key.path=value`, `arguments` further ones of `automl run`. Raises UserError where the file or a
    name will not do, or the cluster does not take it; then nothing has been started.
    """
    name = run_name(name) if name is not None else None
    spec = load_space(space, overrides)
    name = name or new_run_name(spec.name)
    job = f"{name}.{secrets.token_hex(3)}"
    every = [argument for override in overrides for argument in ("--set", override)]
    submission = Submission(
        name=name,
        owner=owner_name(owner),
        labels=labels_of(labels),
        submitted=datetime.now(UTC).isoformat(timespec="seconds"),
        space=SPACE,
        arguments=[*every, *arguments],
        jobs=[job],
    )
    client = cluster.client()
    with private_folder() as folder, refusals(cluster.address):
        if latest_state(job_states(client.list_jobs()), name) is not None:
            raise UserError(f"the cluster has a run {name} already; give another --name")
        pack(space, spec, folder)
        tell(f"submitting  {name}")
        write_request(folder, submission, cluster.runs)
        metadata = {"automl_run": name, "owner": submission.owner, "submitted": submission.submitted}
        metadata |= {f"label_{key}": value for key, value in submission.labels.items()}
        start_job(client, ["automl.cluster.job", "run"], folder, job, metadata)
    return name


def resume(cluster: Cluster, name: str, arguments: Sequence[str] = ()) -> str:
    """Go on with a run, as a new job; raises UserError where it is being driven or was never submitted."""
    name, client = run_name(name), cluster.client()
    with refusals(cluster.address):
        jobs = job_states(client.list_jobs())
        if latest_state(jobs, name) not in (None, *ENDED):
            raise UserError(f"{name} is running; there is nothing to go on with")
    job = f"{name}.{secrets.token_hex(3)}"
    with private_folder() as folder, refusals(cluster.address):
        unpack(submitted_files(client, cluster, name), folder)
        asked = Submission(name, "", {}, "", SPACE, list(arguments), [job])
        write_request(folder, asked, cluster.runs)
        start_job(client, ["automl.cluster.job", "resume"], folder, job, {"automl_run": name})
    return name


def stop(cluster: Cluster, name: str, *, wait: bool = False) -> bool:
    """Ask a run's driver to end in good order: it ranks trials that have ended and packs the best model.

    With `wait` it comes back when the driver has ended. False where nothing ran. Raises UserError for an unknown run.
    """
    name, client = run_name(name), cluster.client()
    with refusals(cluster.address):
        mine = {job: state for job, state in job_states(client.list_jobs()).items() if is_job_of(job, name)}
        if not mine:
            status(cluster, name)  # raises where there is no such run
        running = [job for job, state in mine.items() if state not in ENDED]
        for job in running:
            client.stop_job(job)
        while wait and any(client.get_job_status(job).value not in ENDED for job in running):
            time.sleep(LOOK_SECONDS)
    return bool(running)


def logs(cluster: Cluster, name: str, *, follow: bool = False) -> Iterator[str]:
    """What a run's driver writes, in pieces; with `follow` until it ends. Raises UserError for an unknown run."""
    name, client = run_name(name), cluster.client()
    with refusals(cluster.address):
        mine = [job for job in job_states(client.list_jobs()) if is_job_of(job, name)]
        if not mine:
            raise UserError(f"the cluster has no log of {name}; its figures: automl status {name}")
        if not follow:
            for job in mine:
                yield client.get_job_logs(job)
            return
        seen = 0
        while True:
            ended = client.get_job_status(mine[-1]).value in ENDED
            text = client.get_job_logs(mine[-1])
            yield text[seen:]
            seen = len(text)
            if ended:
                return
            time.sleep(LOOK_SECONDS)


def wait(cluster: Cluster, name: str) -> RunStatus:
    """Come back when a run's driver has ended, with how it ended."""
    client = cluster.client()
    with refusals(cluster.address):
        while (
            latest := latest_state(job_states(client.list_jobs()), run_name(name))
        ) is not None and latest not in ENDED:
            time.sleep(LOOK_SECONDS)
    return status(cluster, name)
