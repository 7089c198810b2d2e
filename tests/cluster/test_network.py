"""Networks that fail: of hosts in network namespaces one is cut off for a while, and the head is restarted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from automl.training.run_directory import RunDirectory
from tests.conftest import write_space
from tests.search.conftest import ended

pytestmark = [pytest.mark.ray, pytest.mark.slow]

CUT_SECONDS = int(os.environ.get("AUTOML_CUT_SECONDS", "20"))  # 60 in the long form, under Ray's own patience
IMPATIENT = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
}
TRIALS, EPOCHS = 1000, 4  # more than are run
PORT = 6379
WORKERS = 2


class Host:
    """A host of the network: a namespace for its network, its processes and its name; all of them end with it.

    Ray is started again whenever it has ended, as an init system would.
    """

    def __init__(self, network: Network, number: int) -> None:
        self.network, self.number = network, number
        self.name, self.ip = f"{network.name}h{number}", f"{network.prefix}.{number}"
        inside = f"{self.name}i"
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.name, "type", "veth", "peer", "name", inside)
        run("ip", "link", "set", inside, "netns", self.name)
        run("ip", "link", "set", self.name, "master", network.name, "up")
        for command in (f"addr add {self.ip}/24 dev {inside}", f"link set {inside} up", "link set lo up"):
            run("ip", "-n", self.name, *command.split())
        self.power_on()

    def power_on(self) -> None:
        """Start its first process, with which all others end."""
        apart = ["unshare", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"]
        init = ["sh", "-c", f"hostname {self.name} && echo up && exec sleep 1d"]
        self.init = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *apart, *init], stdout=subprocess.PIPE, text=True
        )
        assert self.init.stdout is not None and self.init.stdout.readline() == "up\n"

    def power_off(self) -> None:
        self.init.kill()
        self.init.wait()

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["nsenter", "--target", str(child(self.init)), "--net", "--pid", "--uts", "--mount", *command],
            cwd=self.network.folder,
            env=self.network.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def start_ray(self) -> None:
        where = f"--head --port={PORT} --num-cpus=0 --include-dashboard=false"
        if self.number > 1:
            where = f"--address={self.network.address} --num-cpus=1"
        ray = f"{sys.executable} -m ray.scripts.scripts start {where} --num-gpus=0 --node-ip-address={self.ip}"
        again = f"while true; do {ray} --block --disable-usage-stats >/dev/null 2>&1; sleep 1; done"
        self.start("sh", "-c", again)

    def automl(self, *arguments: object) -> subprocess.Popen[str]:
        words = [str(argument) for argument in arguments]
        return self.start(sys.executable, "-m", "automl", *words, "--address", self.network.address)

    def cut(self) -> None:
        run("ip", "link", "set", self.name, "down")

    def mend(self) -> None:
        run("ip", "link", "set", self.name, "up")


class Network:
    """A switch, and hosts that are plugged into it; nothing of it reaches the world."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"am{os.getpid() % 100_000}"
        self.prefix = f"10.203.{os.getpid() % 250}"
        self.address = f"{self.prefix}.1:{PORT}"
        token = folder / "token"
        token.write_text("0" * 64)
        clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        self.environment = {**clean, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        self.environment |= {"RAY_memory_monitor_refresh_ms": "0"} | (IMPATIENT if CUT_SECONDS < 60 else {})
        self.hosts: list[Host] = []
        run("ip", "link", "add", self.name, "type", "bridge")
        run("ip", "link", "set", self.name, "up")

    def add(self) -> Host:
        self.hosts.append(Host(self, len(self.hosts) + 1))
        return self.hosts[-1]

    def nodes(self) -> int:
        """The nodes of the Ray cluster that are alive, as its head says; 0 where it does not answer."""
        asked = (
            f"import ray; client = ray._raylet.GcsClient(address='{self.address}');"
            "print('alive', sum(node.state == 0 for node in client.get_all_node_info(timeout=5).values()))"
        )
        said = subprocess.run(
            ["ip", "netns", "exec", self.hosts[0].name, sys.executable, "-c", asked],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        return int(said.split()[-1]) if said.startswith("alive") else 0

    def remove(self) -> None:
        for host in self.hosts:
            host.power_off()
            run("ip", "netns", "del", host.name)
        run("ip", "link", "del", self.name)


def child(process: subprocess.Popen[str]) -> int:
    """The process that one has started inside a namespace."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.skip("hosts in network namespaces need root")
    try:
        run("ip", "netns", "add", "automl-trial")
        run("ip", "netns", "exec", "automl-trial", "unshare", "--pid", "--uts", "--fork", "--mount-proc", "true")
        run("ip", "netns", "del", "automl-trial")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"hosts in network namespaces need iproute2 and may not be made here: {error}")
    network = Network(tmp_path)
    try:
        yield network
    finally:
        network.remove()


def until(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(2)


def lines_of(run: RunDirectory, host: Host) -> list[str]:
    """What a host has written of epochs that it trained."""
    lines = [line for _, trial in run.trials() if trial.metrics.exists() for line in whole_lines(trial.metrics)]
    return [line for line in lines if json.loads(line)["worker"].startswith(f"{host.name}-")]


def whole_lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def test_a_worker_cut_off_and_a_head_restarted(network: Network, slow_data: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "space.yaml", slow_data, trials=TRIALS, epochs=EPOCHS)
    run = RunDirectory(tmp_path / "run")
    head, *others = [network.add() for _ in range(WORKERS + 1)]
    for host in network.hosts:
        host.start_ray()
    until(lambda: network.nodes() == WORKERS + 1, head.init)
    search = head.automl("run", space, "--output", run.path)
    until(lambda: all(lines_of(run, host) for host in others) and len(ended(run)) >= 2, search)

    before = ended(run)
    others[0].cut()
    time.sleep(CUT_SECONDS)
    until(lambda: len(ended(run)) > len(before), search)  # the other worker goes on
    meanwhile = ended(run)
    others[0].mend()
    assert before.items() <= meanwhile.items()
    until(lambda: network.nodes() == WORKERS + 1, search)
    seen = len(lines_of(run, others[0]))
    until(lambda: len(lines_of(run, others[0])) > seen, search)

    head.power_off()
    search.communicate()
    before = ended(run)
    assert meanwhile.items() <= before.items()
    head.power_on()
    head.start_ray()
    until(lambda: network.nodes() == WORKERS + 1, head.init)
    again = head.automl("resume", run.path)
    until(lambda: len(ended(run)) >= len(before) + 2, again)
    os.kill(child(again), signal.SIGINT)
    said, _ = again.communicate(timeout=120)
    assert again.returncode == 1 and "stopped; go on with" in said, said
    after = ended(run)
    assert before.items() <= after.items()
    for number, trial in after.items():
        assert trial.status in ("completed", "stopped"), trial.reason
        lines = [json.loads(line) for line in whole_lines(run.trial(number).metrics)]
        assert [line["epoch"] for line in lines] == list(range(1, trial.epochs + 1))
        assert trial.score == max(line["accuracy"] for line in lines)
