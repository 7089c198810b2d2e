"""kill -9 of driver, worker and raylet at random moments; a node of a cluster lost: no trial is lost with them."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from automl.training.run_directory import RunDirectory
from tests.conftest import write_space
from tests.search.conftest import ended, start_automl

pytestmark = [pytest.mark.ray, pytest.mark.slow]

KILLS = int(os.environ.get("AUTOML_KILLS", "3"))  # 20 in the long form
TRIALS, EPOCHS = 10, 4


def family(process: int) -> dict[int, str]:
    """The living descendants of a process, by id, with what they are."""
    children: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                names[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, waiting = {}, [process]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found[child] = names[child]
            waiting.append(child)
    return found


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def target(driver: int, kind: str, generator: random.Random) -> int | None:
    """A process of a run to kill: any one of its kind."""
    if kind == "driver":
        return driver
    word = "raylet/raylet" if kind == "raylet" else "ray::"
    found = [process for process, command in family(driver).items() if word in command.split(" ")[0]]
    return generator.choice(found) if found else None


def check_whole(run: RunDirectory, count: int = TRIALS) -> None:
    """Every trial once, to an end that its own files confirm."""
    trials = ended(run)
    assert sorted(trials) == list(range(count))
    for number, trial in trials.items():
        assert trial.status in ("completed", "stopped"), trial.reason
        epochs = [json.loads(line)["epoch"] for line in run.trial(number).metrics.read_text().splitlines()]
        assert epochs == list(range(1, trial.epochs + 1)) == sorted(trial.values)
        if trial.status == "completed":
            assert trial.epochs == EPOCHS
        else:  # at a rung, or an epoch after it to make room for a better one
            assert trial.reason in (f"asha: rung {trial.epochs}", f"asha: outdone at rung {trial.epochs - 1}")
            assert trial.epochs < EPOCHS


def test_killed_at_random_moments_again_and_again(slow_data: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "space.yaml", slow_data, trials=TRIALS, epochs=EPOCHS)
    run = RunDirectory(tmp_path / "run")
    generator = random.Random(KILLS)
    process = start_automl(["run", space, "--output", run.path], tmp_path)
    while not run.journal.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    known: dict[int, Any] = {}
    for kill in range(KILLS):
        time.sleep(generator.uniform(1, 9))
        kind = ("worker", "raylet", "driver")[kill % 3]
        if process.poll() is None and (victim := target(process.pid, kind, generator)) is not None:
            os.kill(victim, signal.SIGKILL)
        if kind == "driver":
            process.communicate()
        now = ended(run)
        assert {number: now[number] for number in known} == known, f"changed by the death of the {kind}"
        known = now
        if process.poll() is not None:
            process = start_automl(["resume", run.path], tmp_path)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    now = ended(run)
    assert {number: now[number] for number in known} == known
    check_whole(run)


def test_trials_of_a_lost_node_move_and_finish(slow_data: Path, tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    space = write_space(tmp_path / "space.yaml", slow_data, trials=6, epochs=EPOCHS)
    run = RunDirectory(tmp_path / "run")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        process = start_automl(["run", space, "--output", run.path, "--address", cluster.address], tmp_path)
        workers = set[str]()
        while len(workers) < 2:  # both nodes train
            assert process.poll() is None, process.communicate()
            time.sleep(0.2)
            files = [trial.metrics for _, trial in run.trials() if trial.metrics.exists()]
            lines = [line for file in files for line in file.read_text().splitlines(keepends=True)]
            workers = {json.loads(line)["worker"] for line in lines if line.endswith("\n")}
        before = ended(run)
        cluster.remove_node(second, allow_graceful=False)
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
    finally:
        cluster.shutdown()
    assert before.items() <= ended(run).items()
    check_whole(run, 6)


def test_a_command_that_is_killed_leaves_no_process_behind(slow_data: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "space.yaml", slow_data, trials=TRIALS, epochs=EPOCHS)
    process: subprocess.Popen[str] = start_automl(["run", space, "--output", tmp_path / "run"], tmp_path)
    while target(process.pid, "worker", random.Random(0)) is None:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    # Ray's agents spend another minute on telling the dead raylet's news to a dead server.
    agent = re.compile(r"ray::\w*Agent|\S+ -u \S+/(dashboard/agent|runtime_env/agent/main)\.py")
    others = {each: command for each, command in family(process.pid).items() if not agent.match(command)}
    assert any("raylet" in command for command in others.values())
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 60
    while left := {each for each in others if alive(each)}:
        assert time.monotonic() < deadline, {each: others[each] for each in left}
        time.sleep(0.5)
