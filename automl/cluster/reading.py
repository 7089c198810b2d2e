"""What is known of submitted runs: from their files where this machine sees them, else from an agent on the head."""

from __future__ import annotations

import base64
import json
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.cluster.address import Cluster
from automl.cluster.agent import answer_in
from automl.cluster.archive import unpack
from automl.cluster.client import ENDED, job_states, latest_state, nodes_and_resources, refusals, start_job
from automl.cluster.names import run_name
from automl.cluster.status import ALIVE, RunStatus, list_status, read_status, with_job
from automl.data.private_folder import private_folder
from automl.space import UserError
from automl.space.urls import redacted

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

AGENT = "automl-agent"  # what ids of the jobs begin with that only answer
AGENT_SECONDS = 300.0


class RefusedError(UserError):
    """What an agent says where it cannot answer what it was asked."""


def status(cluster: Cluster, name: str) -> RunStatus:
    """How far a run is; from its files alone where the cluster does not answer and this machine sees them."""
    name = run_name(name)
    client = cluster.client_if_up()
    if (runs := cluster.sees(name) if client is not None else cluster.seen()) is not None:
        found = read_status(runs, name)
    else:
        assert client is not None  # else `client_if_up` has raised
        with refusals(cluster.address):
            waiting = client.list_jobs()
            try:
                found = RunStatus(**_ask(client, cluster, "status", name)["run"])
            except RefusedError as error:
                return _not_begun(waiting, name, error, cluster)
    if client is None:
        return found
    return with_job(found, _latest(client, cluster, name))


def jobs(cluster: Cluster) -> list[RunStatus]:
    """All runs that were submitted, the latest first."""
    client = cluster.client_if_up()
    if (runs := cluster.seen()) is not None:
        found = list_status(runs)
    else:
        assert client is not None
        with refusals(cluster.address):
            found = [RunStatus(**each) for each in _ask(client, cluster, "list")["runs"]]
    if client is not None:
        with refusals(cluster.address):
            details = client.list_jobs()
        states = job_states(details)
        found = [with_job(each, latest_state(states, each.name)) for each in found]
        known = {each.name for each in found}
        waiting = [_pending(each, cluster) for each in details if _run_of(each) not in (None, *known)]
        found += [each for each in waiting if each.state != "lost"]
    return sorted(found, key=lambda each: each.submitted, reverse=True)


def fetch(cluster: Cluster, name: str, output: Path) -> tuple[Path, str]:
    """Copy a run, without its checkpoints, into the folder `output`; also gives a sentence where the copy is partial.

    An earlier copy of the run is brought up to date. Raises UserError where `output` is something else, or was changed
    on this machine.
    """
    from automl.cluster.copies import copy_files, put_in_place, require_replaceable_copy
    from automl.training.run_directory import RunDirectory
    from automl.training.run_files import read_manifest

    name = run_name(name)
    require_replaceable_copy(output, name)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".fetch-") as scratch:
        folder = Path(scratch) / name
        folder.mkdir()
        client = None
        if (runs := cluster.sees(name)) is not None:
            copy_files(runs.run(name), folder)
            with suppress(UserError):
                client = cluster.client()
        elif (client := cluster.client_if_up()) is None:
            raise UserError(f"no run {name} was submitted to {redacted(cluster.runs or '')}")
        else:
            with refusals(cluster.address):
                unpack(base64.b64decode(_ask(client, cluster, "archive", name)["archive"]), folder)
        if not RunDirectory(folder).manifest.is_file():
            raise UserError(f"{name} has not begun; there is nothing to fetch yet")
        driven = None
        with suppress(UserError):  # the files are here, whatever the cluster answers
            driven = None if client is None else _latest(client, cluster, name) in ALIVE
        partial = _partial(name, str(read_manifest(RunDirectory(folder))["status"]), driven=driven)
        put_in_place(folder, output, name)
    return output, partial


def _partial(name: str, status: str, *, driven: bool | None) -> str:
    """Why a copy of a run of this status does not hold all of it, in a sentence; empty where it does.

    `driven` is whether the run has a driver, where that is known.
    """
    if driven or (driven is None and status == "running"):
        return f"this copy is partial, as {name} has not ended; automl fetch {name} again brings it up to date"
    if status == "running":
        return f"this copy is partial: the driver of {name} is gone; automl resume {name} goes on with it"
    return ""


def _latest(client: JobSubmissionClient, cluster: Cluster, name: str) -> str | None:
    """The state of a run's latest job."""
    with refusals(cluster.address):
        return latest_state(job_states(client.list_jobs()), name)


def submitted_files(client: JobSubmissionClient, cluster: Cluster, name: str) -> bytes:
    """The files that a run was submitted with, as an archive."""
    if (runs := cluster.sees(name)) is not None:
        return runs.files(name)
    return base64.b64decode(_ask(client, cluster, "files", name)["files"])


def resources(cluster: Cluster) -> Mapping[str, Any]:
    """Nodes, CPUs and GPUs of the cluster and how many are in use."""
    client = cluster.client_if_up()
    if client is None:
        return {}
    with refusals(cluster.address):
        return nodes_and_resources(client)


def _ask(client: JobSubmissionClient, cluster: Cluster, action: str, name: str = "") -> dict[str, Any]:
    """What an agent on the cluster's head answers; raises RefusedError where it cannot."""
    job = f"{AGENT}-{secrets.token_hex(6)}"
    with private_folder() as empty:
        start_job(client, ["automl.cluster.agent", action, cluster.runs or "", name], empty, job, {})
    give_up = time.monotonic() + AGENT_SECONDS
    while (state := client.get_job_status(job).value) not in ENDED:
        if time.monotonic() > give_up:
            client.stop_job(job)
            raise UserError(f"the cluster at {cluster.address} took longer than {AGENT_SECONDS:.0f} s to answer")
        time.sleep(0.2)
    text = client.get_job_logs(job)
    client.delete_job(job)
    answer = answer_in(text)
    if answer is None:
        last = next((line for line in reversed(text.splitlines()) if line.strip()), state)
        raise UserError(f"the cluster at {cluster.address} cannot answer: {last}")
    found: dict[str, Any] = json.loads(answer)
    if "error" in found:
        raise RefusedError(found["error"])
    return found


def _run_of(details: Any) -> str | None:
    return (details.metadata or {}).get("automl_run")


def _pending(details: Any, cluster: Cluster) -> RunStatus:
    """A run of which the cluster knows no more than its job."""
    metadata = details.metadata or {}
    labels = {key.removeprefix("label_"): value for key, value in metadata.items() if key.startswith("label_")}
    found = RunStatus(
        name=metadata["automl_run"],
        owner=metadata.get("owner", ""),
        labels=labels,
        submitted=metadata.get("submitted", ""),
        place=cluster.runs or "",
        state="pending",
    )
    return with_job(found, details.status.value)


def _not_begun(details: Sequence[Any], name: str, error: UserError, cluster: Cluster) -> RunStatus:
    """The state of a run that has no record yet; raises `error` where it has no job either."""
    mine = [each for each in details if _run_of(each) == name]
    if not mine:
        raise error
    return _pending(mine[-1], cluster)
