"""Ray's Job API at an address, with the cluster's token."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import socket
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.space import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

STOP_SECONDS = 600  # that a stopped driver has for writing the leaderboard and packing the best model
_LOOPBACK = re.compile(r"localhost|127(\.\d+){3}|\[::1\]")  # also the near end of a tunnel
ENDED = ("STOPPED", "SUCCEEDED", "FAILED")


def connect(address: str) -> JobSubmissionClient:
    """The Job API at `address`, http(s)://HOST:PORT; raises UserError where nobody answers or the token is refused.

    The token is Ray's own: RAY_AUTH_TOKEN, the file that RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token.
    """
    found = re.fullmatch(
        r"(?P<scheme>https?)://(?P<host>[^\s:/@]+|\[[0-9a-fA-F:.]+\])(?::(?P<port>\d{1,5}))?/?", address
    )
    if found is None:
        raise UserError(f"--address {address}: expected the cluster's dashboard, as in http://127.0.0.1:8265")
    port = int(found["port"] or (443 if found["scheme"] == "https" else 80))
    try:  # Ray's client would wait for minutes
        socket.create_connection((found["host"].strip("[]"), port), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster answers at {address}: {getattr(error, 'strerror', None) or error}") from error
    if not _LOOPBACK.fullmatch(found["host"]) and _lets_anybody_in(address):
        raise UserError(f"the cluster at {address} lets anybody in: start it with RAY_AUTH_MODE=token on all nodes")
    try:
        from ray.job_submission import JobSubmissionClient

        for name in ("dashboard.modules.dashboard_sdk", "_private.runtime_env.packaging"):  # they tell of every upload
            logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
        with refusals(address):
            return JobSubmissionClient(address, headers=_authorization())
    except RuntimeError as error:
        if "ray[default]" not in str(error):
            raise
        raise UserError("the Job API of Ray needs: pip install 'automl[cluster]'") from error


def _lets_anybody_in(address: str) -> bool:
    """Whether a cluster says that it wants no token."""
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/api/authentication_mode", timeout=10) as answer:
            return bool(json.load(answer)["authentication_mode"] != "token")
    except (OSError, ValueError, KeyError, TypeError):
        return False  # an older or another server; what it makes of the token is told below


@contextmanager
def refusals(address: str | None) -> Iterator[None]:
    """Within the block, what a cluster refuses is a UserError of one sentence."""
    from ray.exceptions import AuthenticationError
    from requests.exceptions import RequestException

    try:
        yield
    except (AuthenticationError, RuntimeError, ConnectionError, RequestException) as error:
        text = str(error)
        if "Authentication required" in text:
            raise UserError(
                f"the cluster at {address} wants its token: put it into the file that RAY_AUTH_TOKEN_PATH names, "
                "or into ~/.ray/auth_token"
            ) from error
        if "Authentication failed" in text:
            raise UserError(f"the cluster at {address} refuses this token; it has another one") from error
        if "No available agent" in text or "status code 504" in text:
            raise UserError(f"the head of the cluster at {address} takes no jobs now; it may be starting") from error
        if isinstance(error, ConnectionError | RequestException):
            raise UserError(f"the Ray cluster at {address} does not answer: {text.splitlines()[0]}") from error
        if text.startswith("Request failed with status code"):
            raise UserError(f"the cluster at {address} refuses: {text.splitlines()[0][:300]}") from error
        raise


def start_job(
    client: JobSubmissionClient, command: Sequence[str], folder: Path, job: str, metadata: Mapping[str, str]
) -> None:
    """Start `python -m COMMAND` on the cluster's head, in a copy of `folder`; it takes no CPU and no GPU."""
    client.submit_job(
        entrypoint=shlex.join(["python", "-m", *command]),
        submission_id=job,
        runtime_env={"working_dir": str(folder), "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}},
        metadata=dict(metadata),
    )


def job_states(jobs: Sequence[JobDetails]) -> dict[str, str]:
    """The state of every job that was submitted, by id, oldest first."""
    found = sorted(jobs, key=lambda each: each.start_time or 0)
    return {str(each.submission_id): each.status.value for each in found if each.submission_id}


def is_job_of(job: str, run: str) -> bool:
    """Whether a job is one of this run's: their ids are the name, a dot and something of their own."""
    return job.rpartition(".")[0] == run


def latest_state(states: Mapping[str, str], run: str) -> str | None:
    """The state of a run's latest job; the one that is alive, where one is."""
    mine = [state for job, state in states.items() if is_job_of(job, run)]
    return next((state for state in mine if state not in ENDED), mine[-1] if mine else None)


def nodes_and_resources(client: JobSubmissionClient) -> dict[str, Any]:
    """How many nodes are alive, and CPUs and GPUs used and there; empty where the cluster does not say."""
    response = client._do_request("GET", "/api/cluster_status")
    if response.status_code != 200:
        return {}
    report = response.json()["data"]["clusterStatus"]["loadMetricsReport"]
    usage = report["usage"]
    nodes = sum(1 for _ in report.get("usageByNode") or {}) or len(report.get("nodeTypes") or [])
    found = {"nodes": nodes}
    for name in ("CPU", "GPU"):
        used, there = usage.get(name, (0.0, 0.0))
        found |= {f"{name.lower()}s_used": used, f"{name.lower()}s": there}
    return found


def _authorization() -> dict[str, str]:
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    if not token and path.is_file():
        token = path.read_text(encoding="utf-8").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}
