"""Searches as jobs of a cluster on this machine: submitted, followed, stopped, gone on with and fetched."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Up, local_cluster
from tests.conftest import SECRET, write_space

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SHARED = pytest.mark.xdist_group("cluster")  # the tests of one cluster; the first finds no jobs on it
TRIALS, EPOCHS = 8, 4
FAMILY = """
from typing import Annotated

from torch import Tensor, nn

from parts import mean_of_words


def small(vocabulary: int, classes: int, hidden: Annotated[int, {"int": [4, 8]}] = 8) -> nn.Module:
    return mean_of_words(vocabulary, classes, hidden)
"""
PARTS = """
from torch import Tensor, nn


class Mean(nn.Module):
    def __init__(self, vocabulary: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden, padding_idx=0)
        self.head = nn.Linear(hidden, classes)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return self.head(self.embedding(tokens).sum(1) / lengths[:, None])


def mean_of_words(vocabulary: int, classes: int, hidden: int) -> nn.Module:
    return Mean(vocabulary, classes, hidden)
"""


def check_numbers(run: Path) -> None:
    """The leaderboard again, from the metrics of its trials alone."""
    board = json.loads((run / "leaderboard.json").read_text())
    rows = [row for row in board["trials"] if isinstance(row["trial"], int)]
    assert sorted(row["trial"] for row in rows) == list(range(TRIALS))
    for row in rows:
        lines = [json.loads(line) for line in (run / f"trials/{row['trial']}/metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == list(range(1, row["epochs"] + 1))
        assert row["score"] == max(line["accuracy"] for line in lines)
        assert row["status"] in ("completed", "stopped")
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert (run / "best_model" / "model.safetensors").exists()


def status_of(cluster: Up, run: str, cwd: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.automl("status", run, "--json", cwd=cwd))
    return found


def until(condition: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(1)


def follow(cluster: Up, run: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "automl", "logs", run, "--follow"],
        env=cluster.environment,
        stdout=subprocess.PIPE,
        text=True,
    )


@SHARED
def test_what_is_refused(cluster: Up, small_data: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "space.yaml", small_data)
    token = Path(cluster.environment["RAY_AUTH_TOKEN_PATH"])
    assert token.stat().st_mode & 0o077 == 0
    (tmp_path / "wrong").write_text("f" * 64)
    for action in (["submit", space], ["status", "x"]):
        said = cluster.automl(
            *action, cwd=tmp_path, code=2, RAY_AUTH_TOKEN_PATH=str(tmp_path / "none"), HOME="/nowhere"
        )
        assert "wants its token" in said
        said = cluster.automl(*action, cwd=tmp_path, code=2, RAY_AUTH_TOKEN_PATH=str(tmp_path / "wrong"))
        assert "refuses this token" in said
    for name in ("../up", "<b>x</b>"):
        assert "is no name of a run" in cluster.automl("submit", f"--name={name}", space, cwd=tmp_path, code=2)
    said = cluster.automl("submit", space, "--set", "data.train=here.csv", cwd=tmp_path, code=2)
    assert "data.train: here.csv is found from this folder alone" in said
    assert "misspelt" in cluster.automl("submit", space, "--set", "misspelt.key=1", cwd=tmp_path, code=2)
    assert "no run nobody" in cluster.automl("status", "nobody", cwd=tmp_path, code=2)
    assert json.loads(cluster.automl("jobs", "--json", cwd=tmp_path)) == []


@SHARED
def test_two_searches_a_lost_node_a_stop_and_a_resume(cluster: Up, slow_data: Path, tmp_path: Path) -> None:
    here = tmp_path / "elsewhere"
    here.mkdir()
    (here / "mine.py").write_text(FAMILY)
    (here / "parts.py").write_text(PARTS)
    (here / "secret.txt").write_text("never to travel")
    space = write_space(here / "space.yaml", slow_data, trials=TRIALS, epochs=EPOCHS)
    space.write_text(space.read_text().replace("model:\n", 'model:\n  "mine:small": {}\n'))
    share = ["--set", "resources.max_concurrent=1"]
    first = cluster.automl("submit", space, "--name", "first", "--label", "team=a", *share, cwd=here).strip()
    second = cluster.automl(
        "submit", space, "--name", "second", "--owner", "eve", "--seed", 7, *share, cwd=here
    ).strip()
    assert (first, second) == ("first", "second")
    assert "has a run first already" in cluster.automl("submit", space, "--name", "first", cwd=here, code=2)
    followers = [follow(cluster, run) for run in (first, second)]
    looked: dict[str, dict[str, Any]] = {}

    def both_run() -> bool:
        looked.update({run: status_of(cluster, run, here) for run in (first, second)})
        begun = all((each["trials"] or {}).get("running") for each in looked.values())
        return begun and looked[first]["cluster"]["cpus_used"] == 2  # Ray says so some seconds later

    until(both_run)
    seen = looked[first]
    assert (seen["state"], seen["labels"], seen["cluster"]["nodes"]) == ("running", {"team": "a"}, 3)
    assert seen["cluster"]["cpus"] == seen["cluster"]["cpus_used"] == 2
    raylets = cluster.called("raylet")
    assert len(raylets) == 3
    raylets[-1].kill()
    assert cluster.automl("stop", second, "--wait", cwd=here) == ""
    stopped = status_of(cluster, second, here)
    assert stopped["state"] == "interrupted"
    assert (stopped["reason"], stopped["trials"]["running"]) == ("", 0)
    assert cluster.automl("resume", second, cwd=here).strip() == second
    assert "is running" in cluster.automl("resume", second, "--address", cluster.address, cwd=here, code=2)
    followers.append(follow(cluster, second))
    logs = [follower.communicate(timeout=400)[0] for follower in followers]
    assert "best model" in logs[0]
    assert all(log.count("was lost") <= 1 and "Raylet is terminated" not in log for log in logs)
    assert any("was lost" in log for log in logs)
    assert f"automl fetch {first}" in logs[0]
    assert f"stopped; go on with: automl resume {second}" in logs[1]
    assert "best model" in logs[2]
    until(lambda: all(status_of(cluster, run, here)["state"] == "finished" for run in (first, second)))
    listed = json.loads(cluster.automl("jobs", "--json", cwd=here))
    found = {(each["name"], each["owner"] == "eve", each["state"]) for each in listed}
    assert found == {("second", True, "finished"), ("first", False, "finished")}
    for run in (first, second):
        assert cluster.automl("fetch", run, cwd=here).strip() == f"runs/{run}"
        check_numbers(here / "runs" / run)
        assert (here / "runs" / run / "space.yaml").read_text() == space.read_text()
        assert not list((here / "runs" / run).rglob("checkpoint.pt"))
    packed = [path.name for path in (cluster.folder / "runs").rglob("*")]
    assert "secret.txt" not in packed
    assert cluster.automl("fetch", first, cwd=here).strip() == f"runs/{first}"
    assert status_of(cluster, first, here)["trials"]["budget"] == TRIALS


def test_without_the_cluster_the_runs_are_still_there(bucket: str, small_data: Path, tmp_path: Path) -> None:
    store = f"{bucket}/{tmp_path.name}"
    space = write_space(tmp_path / "space.yaml", small_data)
    with local_cluster(tmp_path / "cluster") as cluster:
        cluster.automl("submit", space, "--name", "kept", cwd=tmp_path)
        cluster.automl("submit", space, "--name", "stored", "--runs", store, "--wait", cwd=tmp_path)
        until(lambda: status_of(cluster, "kept", tmp_path)["state"] == "finished")
        cluster.process.terminate()
        cluster.process.wait(timeout=60)
    assert "no Ray cluster answers" in cluster.automl("status", "stored", cwd=tmp_path, code=2)
    for name, runs in {"kept": str(cluster.folder / "runs"), "stored": store}.items():
        shown = json.loads(cluster.automl("status", name, "--json", "--runs", runs, cwd=tmp_path))
        assert (shown["state"], shown["trials"]["budget"]) == ("finished", 4)
        assert "finished" in cluster.automl("jobs", "--runs", runs, cwd=tmp_path)
        assert cluster.automl("fetch", name, "--runs", runs, cwd=tmp_path).strip() == f"runs/{name}"
        assert (tmp_path / "runs" / name / "report.html").exists()
    assert not (cluster.folder / "runs" / "stored").exists()
    for path in (tmp_path / "runs" / "stored").rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path
