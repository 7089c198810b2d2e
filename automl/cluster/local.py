"""A cluster on this machine, of the shape of a real one: `python -m automl.cluster.local`, ended with Ctrl-C.

A head that runs no trials, two workers, token authentication, loopback only. GPUs are in name only.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from automl.data.private_folder import LONGEST_WITH_RAY, private_folder
from automl.space.printable import say

LOOPBACK = "127.0.0.1"
LEFT_SECONDS = 10.0  # that Ray's processes have to end by themselves


@contextmanager
def local_cluster(
    folder: Path, *, workers: int = 2, cpus: int = 1, gpus: int = 0, tell: Callable[[str], None] = lambda line: None
) -> Iterator[str]:
    """The dashboard's address of a head and `workers` nodes with so many CPUs and GPUs each, which it starts.

    At the end of the block all that it started is gone. `folder` takes the runs and the token; the token goes with the
    cluster, and the folder too where it has no runs. The environment of this process is the cluster's from here on.
    `tell` hears of the progress.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "runs").mkdir(exist_ok=True)
    token = folder / "token"
    # A new file, always: one that is there may be a link, or open to others.
    token.unlink(missing_ok=True)
    with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    with _removed(token, folder / "runs", folder), private_folder(longest=LONGEST_WITH_RAY) as scratch:
        for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN"):
            os.environ.pop(name, None)
        os.environ |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else Ray takes 127.0.0.1 for the address of the network
            "RAY_TMPDIR": str(scratch),
            "RAY_memory_monitor_refresh_ms": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "AUTOML_RUNS": str(folder / "runs"),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }
        tell("starting Ray: the head")
        from ray.cluster_utils import Cluster  # reads the environment

        common = {"node_ip_address": LOOPBACK}
        dashboard, agent = _free_ports(2)
        head = {"num_cpus": 0, "include_dashboard": True, "dashboard_host": LOOPBACK, "dashboard_port": dashboard}
        head |= {"dashboard_agent_listen_port": agent}
        cluster = Cluster(initialize_head=True, head_node_args={**common, **head})
        try:
            for number in range(1, workers + 1):
                tell(f"starting Ray: worker {number} of {workers}")
                cluster.add_node(**common, num_cpus=cpus, num_gpus=gpus)
            yield f"http://{LOOPBACK}:{dashboard}"
        finally:
            _end(cluster.shutdown)


@contextmanager
def _removed(token: Path, *folders: Path) -> Iterator[None]:
    """Remove the token at the end of the block, and those folders that are empty then."""
    try:
        yield
    finally:
        token.unlink(missing_ok=True)
        for folder in folders:
            with suppress(OSError):  # runs stay
                folder.rmdir()


def _end(shutdown: object) -> None:
    """Shut down, and end what is left of all that this process has started."""
    import psutil

    started = psutil.Process().children(recursive=True)
    assert callable(shutdown)
    shutdown()
    _, left = psutil.wait_procs(started, timeout=LEFT_SECONDS)
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=LEFT_SECONDS)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind((LOOPBACK, 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def main(
    folder: Annotated[Path, typer.Option(help="Where runs and token lie.")] = Path("local-cluster"),
    workers: Annotated[int, typer.Option(min=0, help="Nodes beside the head.")] = 2,
    cpus: Annotated[int, typer.Option(min=1, help="CPUs of each.")] = 1,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of each, in name only.")] = 0,
) -> None:
    """Start the cluster, say how to reach it, and end it on Ctrl-C."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)  # a process in the background ignores it
    try:
        with local_cluster(folder.resolve(), workers=workers, cpus=cpus, gpus=gpus, tell=say) as address:
            print(f"export AUTOML_ADDRESS={address}")
            print(f"export RAY_AUTH_TOKEN_PATH={os.environ['RAY_AUTH_TOKEN_PATH']}")
            print("# in another terminal; then: automl submit SPACE. Ctrl-C here ends the cluster.", flush=True)
            while True:
                time.sleep(1)
    except KeyboardInterrupt:
        kept = f"; its runs stay in {folder / 'runs'}" if (folder / "runs").exists() else ""
        say(f"the cluster is gone, and its token{kept}")


if __name__ == "__main__":
    typer.run(main)
