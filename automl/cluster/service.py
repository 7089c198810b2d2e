"""Submit searches to a Ray cluster, follow them, stop them, go on with them and collect them."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.cluster.agent import answer_in
from automl.cluster.archive import is_wanted, unpack, wanted
from automl.cluster.client import ENDED, connect, nodes_and_resources, refusals, start_job
from automl.cluster.job import write_request
from automl.cluster.names import labels_of, new_run_name, owner_name, run_name
from automl.cluster.package import SPACE, pack
from automl.cluster.status import RunStatus, list_status, read_status, with_job
from automl.cluster.submission import Runs, Submission
from automl.data.store import Store, is_url
from automl.runs import load_space
from automl.space import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

AGENT = "automl-agent"  # what ids of the jobs begin with that only answer
AGENT_SECONDS = 300.0
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster by its dashboard's address, and where its runs lie where this machine is told so.

    `runs` is needed only where the cluster itself does not say so (AUTOML_RUNS on its head), or is down.
    """

    address: str
    runs: str | None = None

    def client(self) -> JobSubmissionClient:
        """The Job API; raises UserError where it does not answer or refuses the token."""
        return connect(self.address)

    def seen(self) -> Runs | None:
        """The runs where this machine can read them itself."""
        if self.runs and (is_url(self.runs) or (Path(self.runs) / ".submissions").is_dir()):
            return Runs(self.runs)
        return None


def submit(
    cluster: Cluster,
    space: Path,
    *,
    name: str | None = None,
    owner: str | None = None,
    labels: Sequence[str] = (),
    overrides: Sequence[str] = (),
    arguments: Sequence[str] = (),
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
    with tempfile.TemporaryDirectory(prefix="automl-submit-") as folder, refusals(cluster.address):
        if _latest(_jobs(client), name) is not None:
            raise UserError(f"the cluster has a run {name} already; give another --name")
        pack(space, spec, Path(folder))
        write_request(Path(folder), submission, cluster.runs)
        metadata = {"automl_run": name, "owner": submission.owner, "submitted": submission.submitted}
        metadata |= {f"label_{key}": value for key, value in submission.labels.items()}
        start_job(client, ["automl.cluster.job", "run"], Path(folder), job, metadata)
    return name


def resume(cluster: Cluster, name: str, arguments: Sequence[str] = ()) -> str:
    """Go on with a run, as a new job; raises UserError where it is being driven or was never submitted."""
    name, client = run_name(name), cluster.client()
    with refusals(cluster.address):
        jobs = _jobs(client)
        if _latest(jobs, name) not in (None, *ENDED):
            raise UserError(f"{name} is running; there is nothing to go on with")
    job = f"{name}.{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory(prefix="automl-resume-") as folder, refusals(cluster.address):
        _unpack_files(client, cluster, name, Path(folder))
        asked = Submission(name, "", {}, "", SPACE, list(arguments), [job])
        write_request(Path(folder), asked, cluster.runs)
        start_job(client, ["automl.cluster.job", "resume"], Path(folder), job, {"automl_run": name})
    return name


def stop(cluster: Cluster, name: str, *, wait: bool = False) -> bool:
    """Ask a run's driver to end in good order: it ranks running trials at what they reached and packs the best model.

    With `wait` it comes back when the driver has ended. False where nothing ran. Raises UserError for an unknown run.
    """
    name, client = run_name(name), cluster.client()
    with refusals(cluster.address):
        mine = {job: state for job, state in _jobs(client).items() if _is_of(job, name)}
        if not mine:
            status(cluster, name)  # raises where there is no such run
        running = [job for job, state in mine.items() if state not in ENDED]
        for job in running:
            client.stop_job(job)
        while wait and any(client.get_job_status(job).value not in ENDED for job in running):
            time.sleep(LOOK_SECONDS)
    return bool(running)


def status(cluster: Cluster, name: str) -> RunStatus:
    """How far a run is; from its files alone where the cluster does not answer and this machine sees them."""
    name = run_name(name)
    client = _client_if_up(cluster)
    if (runs := cluster.seen()) is not None and name in runs.names():
        found = read_status(runs, name)
    else:
        assert client is not None  # else `_client_if_up` has raised
        with refusals(cluster.address):
            waiting = client.list_jobs()
            answer = _ask(client, cluster, "status", name)
        if "error" in answer:
            return _not_begun(waiting, name, answer["error"], cluster)
        found = RunStatus(**answer["run"])
    if client is None:
        return found
    with refusals(cluster.address):
        return with_job(found, _latest(_jobs(client), name))


def jobs(cluster: Cluster) -> list[RunStatus]:
    """All runs that were submitted, the latest first."""
    client = _client_if_up(cluster)
    runs = cluster.seen()
    if runs is not None:
        found = list_status(runs)
    else:
        assert client is not None
        with refusals(cluster.address):
            answer = _ask(client, cluster, "list", "")
        if "error" in answer:
            raise UserError(answer["error"])
        found = [RunStatus(**each) for each in answer["runs"]]
    if client is not None:
        with refusals(cluster.address):
            details = client.list_jobs()
        states = {str(each.submission_id): each.status.value for each in details}
        found = [with_job(each, _latest(states, each.name)) for each in found]
        known = {each.name for each in found}
        waiting = [_pending(each, cluster) for each in details if _run_of(each) not in (None, *known)]
        found += [each for each in waiting if each.state != "lost"]
    return sorted(found, key=lambda each: each.submitted, reverse=True)


def logs(cluster: Cluster, name: str, *, follow: bool = False) -> Iterator[str]:
    """What a run's driver writes, in pieces; with `follow` until it ends. Raises UserError for an unknown run."""
    name, client = run_name(name), cluster.client()
    with refusals(cluster.address):
        mine = [job for job in _jobs(client) if _is_of(job, name)]
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
        while (latest := _latest(_jobs(client), run_name(name))) is not None and latest not in ENDED:
            time.sleep(LOOK_SECONDS)
    return status(cluster, name)


def fetch(cluster: Cluster, name: str, output: Path) -> Path:
    """Copy a run, without its checkpoints, into the new folder `output`; raises UserError where that exists."""
    name = run_name(name)
    if output.exists():
        raise UserError(f"{output} exists already; name another --output")
    runs = cluster.seen()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".fetch-") as scratch:
        folder = Path(scratch) / name
        if runs is not None and name in runs.names():
            _copy(runs.run(name), folder)
        else:
            client = cluster.client()
            with refusals(cluster.address):
                answer = _ask(client, cluster, "archive", name)
            if "error" in answer:
                raise UserError(answer["error"])
            folder.mkdir()
            unpack(base64.b64decode(answer["archive"]), folder)
        folder.rename(output)
    return output


def resources(cluster: Cluster) -> Mapping[str, Any]:
    """Nodes, CPUs and GPUs of the cluster and how many are in use."""
    client = _client_if_up(cluster)
    if client is None:
        return {}
    with refusals(cluster.address):
        return nodes_and_resources(client)


def _unpack_files(client: JobSubmissionClient, cluster: Cluster, name: str, folder: Path) -> None:
    """Write the files that a run was submitted with into `folder`."""
    runs = cluster.seen()
    if runs is not None and name in runs.names():
        content = runs.files(name)
    else:
        answer = _ask(client, cluster, "files", name)
        if "error" in answer:
            raise UserError(answer["error"])
        content = base64.b64decode(answer["files"])
    unpack(content, folder)


def _copy(place: str, folder: Path) -> None:
    folder.mkdir()
    if is_url(place):
        store = Store(place)
        for name in store.names():
            if is_wanted(name.rpartition("/")[2]):
                store.get(name, folder / name)
        return
    for path in wanted(Path(place)):
        target = folder / path.relative_to(place)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _client_if_up(cluster: Cluster) -> JobSubmissionClient | None:
    """The Job API; None where the cluster does not answer and this machine reads the runs itself."""
    try:
        return cluster.client()
    except UserError as error:
        if cluster.seen() is not None and "answer" in str(error):
            return None
        raise


def _ask(client: JobSubmissionClient, cluster: Cluster, action: str, name: str) -> dict[str, Any]:
    """What an agent on the cluster's head answers."""
    job = f"{AGENT}-{secrets.token_hex(6)}"
    with tempfile.TemporaryDirectory(prefix="automl-agent-") as empty:
        start_job(client, ["automl.cluster.agent", action, cluster.runs or "", name], Path(empty), job, {})
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
    return found


def _jobs(client: JobSubmissionClient) -> dict[str, str]:
    """The state of every job that was submitted, by id, oldest first."""
    found = sorted(client.list_jobs(), key=lambda each: each.start_time or 0)
    return {str(each.submission_id): each.status.value for each in found if each.submission_id}


def _is_of(job: str, name: str) -> bool:
    """Whether a job is one of this run's: their ids are the name, a dot and something of their own."""
    return job.rpartition(".")[0] == name


def _latest(states: Mapping[str, str], name: str) -> str | None:
    """The state of a run's latest job; the one that is alive, where one is."""
    mine = [state for job, state in states.items() if _is_of(job, name)]
    return next((state for state in mine if state not in ENDED), mine[-1] if mine else None)


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


def _not_begun(details: Sequence[Any], name: str, error: str, cluster: Cluster) -> RunStatus:
    """The state of a run that has no record yet; raises UserError with `error` where it has no job either."""
    mine = [each for each in details if _run_of(each) == name]
    if not mine:
        raise UserError(error)
    return _pending(mine[-1], cluster)
