"""A cluster on this machine, of the shape of a real one: `python -m automl.cluster.local`, ended with Ctrl-C.

A head that runs no trials, two workers, token authentication, loopback only. GPUs are in name only.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from automl.space import UserError

LOOPBACK = "127.0.0.1"
START_SECONDS = 90.0
ENVIRONMENT = {"RAY_AUTH_MODE": "token", "RAY_DISABLE_IMPORT_WARNING": "1", "RAY_memory_monitor_refresh_ms": "0"}


@dataclass
class LocalCluster:
    """A running cluster; `nodes` are the processes of its workers, `environment` is what reaches it needs."""

    folder: Path
    port: int
    dashboard: int
    environment: Mapping[str, str]
    head: subprocess.Popen[bytes]
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        """What `--address` of `automl submit` takes."""
        return f"http://{LOOPBACK}:{self.dashboard}"

    @property
    def runs(self) -> Path:
        """Where runs lie."""
        return self.folder / "runs"

    def add_node(self, cpus: int, gpus: int) -> None:
        """Start one more worker."""
        options = [f"--address={LOOPBACK}:{self.port}", f"--num-cpus={cpus}", f"--num-gpus={gpus}"]
        self.nodes.append(_start(options, self.environment, self.folder / f"node-{len(self.nodes)}.log"))


@contextmanager
def local_cluster(folder: Path, *, workers: int = 2, cpus: int = 1, gpus: int = 0) -> Iterator[LocalCluster]:
    """A head and `workers` nodes with so many CPUs and GPUs each, gone at the end of the block with all they started.

    `folder` takes runs, token and logs. Raises UserError where it does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    token = folder / "token"
    with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    (folder / "runs").mkdir(exist_ok=True)
    port, dashboard, client_port, agent, metrics = _free_ports(5)
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as scratch:  # Ray's sockets need short paths
        environment = {
            **os.environ,
            **ENVIRONMENT,
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_TMPDIR": scratch,
            "AUTOML_RUNS": str(folder / "runs"),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }
        for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN"):
            environment.pop(name, None)
        options = ["--head", f"--port={port}", f"--node-ip-address={LOOPBACK}", "--num-cpus=0", "--num-gpus=0"]
        options += [f"--dashboard-host={LOOPBACK}", f"--dashboard-port={dashboard}", f"--temp-dir={scratch}"]
        options += [f"--ray-client-server-port={client_port}", f"--dashboard-agent-listen-port={agent}"]
        options += [f"--metrics-export-port={metrics}", "--disable-usage-stats"]
        head = _start(options, environment, folder / "head.log")
        cluster = LocalCluster(folder, port, dashboard, environment, head)
        try:
            _wait(cluster, dashboard, "head.log")
            for _ in range(workers):
                cluster.add_node(cpus, gpus)
            yield cluster
        finally:
            _end([*cluster.nodes, head])


def _start(options: list[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _wait(cluster: LocalCluster, port: int, log: str) -> None:
    give_up = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((LOOPBACK, port), timeout=1).close()
            return
        except OSError as error:
            if cluster.head.poll() is not None or time.monotonic() > give_up:
                lines = (cluster.folder / log).read_text(errors="replace").strip().splitlines()
                raise UserError(f"the cluster does not start: {lines[-1] if lines else 'it says nothing'}") from error
        time.sleep(0.2)


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """End the nodes, then the head, and whatever is left of what they started."""
    import psutil

    started = []
    for process in processes:
        try:
            started += psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            continue
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    _, left = psutil.wait_procs(started, timeout=5)
    for each in left:
        each.kill()
    psutil.wait_procs(left, timeout=5)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def main(
    folder: Annotated[Path, typer.Option(help="Where runs, token and logs lie.")] = Path("local-cluster"),
    workers: Annotated[int, typer.Option(min=0, help="Nodes beside the head.")] = 2,
    cpus: Annotated[int, typer.Option(min=1, help="CPUs of each.")] = 1,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of each, in name only.")] = 0,
) -> None:
    """Start the cluster, say how to reach it, and end it on Ctrl-C."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        with local_cluster(folder.resolve(), workers=workers, cpus=cpus, gpus=gpus) as cluster:
            print(f"export AUTOML_ADDRESS={cluster.address}")
            print(f"export RAY_AUTH_TOKEN_PATH={cluster.environment['RAY_AUTH_TOKEN_PATH']}")
            print("# in another terminal; then: automl submit SPACE. Ctrl-C here ends the cluster.", flush=True)
            while cluster.head.poll() is None:
                time.sleep(0.5)
            raise UserError(f"the head has ended; see {cluster.folder / 'head.log'}")
    except KeyboardInterrupt:
        print("the cluster is gone", file=sys.stderr)
    except UserError as error:
        print(f"automl: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
