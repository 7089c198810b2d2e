"""Runs in a store: nothing of a run is on a file system that its nodes share, and nothing is lost with a machine."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
import ray

import automl
from automl.data.store import Store
from automl.places import open_run
from automl.results import read_run
from automl.space import UserError
from automl.training.run_directory import read_json
from tests.conftest import BUCKET
from tests.search.conftest import ended, start_automl

pytestmark = pytest.mark.usefixtures("bucket")


@pytest.fixture
def place(tmp_path: Path) -> str:
    """The URL of a run, of this test's own."""
    return f"{BUCKET}/{tmp_path.name}/run"


def another_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """From here on this is a machine that has nothing of earlier runs."""
    monkeypatch.setenv("AUTOML_CACHE", str(folder))


def test_files_come_back_as_they_were_put(tmp_path: Path) -> None:
    store, file = Store(f"{BUCKET}/{tmp_path.name}"), tmp_path / "file"
    for content in (b"", b"one", bytes(range(256)) * 40_000):
        file.write_bytes(content)
        store.put(file, "folder/file")
        assert store.get("folder/file", tmp_path / "back" / "file")
        assert (tmp_path / "back" / "file").read_bytes() == content
        assert store.size("folder/file") == len(content)
    store.put(file, "other")
    assert store.names() == ["folder/file", "other"]
    assert store.names("folder") == ["folder/file"]
    assert store.has("other")
    store.remove("other")
    store.remove("other")
    assert not store.has("other")
    assert not store.get("other", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_name_that_leads_out_of_a_folder_is_not_copied(s3: str, tmp_path: Path) -> None:
    client = boto3.client("s3", region_name="us-east-1", endpoint_url=s3)
    client.put_object(Bucket="bucket", Key=f"{tmp_path.name}/run/trials/../../../outside", Body=b"x")
    with pytest.raises(UserError, match="leads out of its folder"):
        Store(f"{BUCKET}/{tmp_path.name}/run").names()


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ("s3://key:secret@bucket/run", "give them in the environment"),
        ("nowhere://bucket/run", "cannot use the store"),
        ("s3://", "no URL of a store"),
        ("s3://no-such-bucket/run", "NO_SUCH_BUCKET"),
    ],
)
def test_a_place_that_will_not_do_is_refused(small_space: Path, place: str, complaint: str, tmp_path: Path) -> None:
    process = start_automl(["run", small_space, "--output", place], tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode in (1, 2)
    assert complaint in err
    assert "secret" not in err
    assert "Traceback" not in err


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_in_a_store_is_read_and_its_model_used_from_anywhere(
    small_space: Path, small_data: Path, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = automl.run(small_space, output=place, quiet=True)
    assert result.status == "finished", result.reason
    assert result.place == place
    here = automl.leaderboard(result.path)
    names = Store(place).names()
    assert {"manifest.json", "study.journal", "leaderboard.json", "report.html", "best_model/config.json"} <= {*names}
    assert not {"driver.json", ".stop"} & {*names}
    Store(place).get("manifest.json", tmp_path / "manifest.json")
    manifest = read_json(tmp_path / "manifest.json")
    assert (manifest["status"], manifest["used"]["trials"]) == ("finished", 4)
    kept = [name for name in names if name.endswith("model.safetensors") and name.startswith("trials/")]
    finalists = [row["trial"] for row in automl.leaderboard(result.path) if row["rank"] and row["test_score"]]
    assert sorted(kept) == sorted(f"trials/{number}/model.safetensors" for number in finalists)

    another_machine(monkeypatch, tmp_path / "elsewhere")
    assert automl.leaderboard(place) == here
    rows = tmp_path / "rows.csv"
    rows.write_text("text\na lovely flight\nan awful flight\n")
    assert automl.predict(place, rows, output=tmp_path / "said.csv") == 0
    with (tmp_path / "said.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2
    assert automl.load_model(f"{place}/best_model").classes == automl.load_model(place).classes
    Store(place).remove("report.html")
    assert automl.report(place).is_file()
    assert Store(place).has("report.html")
    with pytest.raises(UserError, match="exists already"):
        automl.run(small_space, output=place, quiet=True)


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_run_goes_on_from_the_store_alone(
    slow_space: Path, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = 24  # more than are run while a second driver is refused
    process = start_automl(["run", slow_space, "--output", place, "--trials", str(trials)], tmp_path)
    deadline = time.monotonic() + 120
    before: dict[int, object] = {}
    while len(before) < 3 and time.monotonic() < deadline:
        time.sleep(1)
        assert process.poll() is None, process.communicate()
        if Store(place).has("study.journal"):
            before = ended(open_run(place))
    refused = start_automl(["resume", place], tmp_path)
    _, err = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert "another process is driving" in err
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = ended(open_run(place))
    assert 3 <= len(before) < trials

    another_machine(monkeypatch, tmp_path / "elsewhere")
    resumed = start_automl(["resume", place], tmp_path)
    _, err = resumed.communicate(timeout=180)
    assert resumed.returncode == 0, err
    after = {trial.number: trial for trial in read_run(open_run(place)).trials}
    assert sorted(after) == list(range(trials))
    assert {number: after[number] for number in before} == before
    assert all(trial.status in ("completed", "stopped") for trial in after.values())


def nodes_of(address: str) -> int:
    """The nodes of a Ray cluster."""
    gcs = ray._raylet.GcsClient(address=address)
    return sum(node.state == 0 for node in gcs.get_all_node_info().values())


@pytest.mark.ray
@pytest.mark.slow
def test_nodes_that_share_no_file_system_search_together(
    slow_space: Path, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers' node sees none of the driver's files: what both know of a run and its data is in the store."""
    from ray.cluster_utils import Cluster

    # Its own processes too, so that all of them end with it.
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*apart, "true"], check=False, capture_output=True).returncode:
        pytest.skip("hiding files from a process needs unshare")
    home, shared = tmp_path / "home", f"{BUCKET}/{tmp_path.name}/prepared"
    (home / "driver").mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setenv("AUTOML_CACHE", shared)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    start = (
        f"{sys.executable} -m ray.scripts.scripts start --address {cluster.address} --num-cpus 2 --num-gpus 0 --block"
    )
    node = subprocess.Popen(
        [*apart, "sh", "-c", f"mount -t tmpfs none {home} && exec {start} --disable-usage-stats"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while nodes_of(cluster.address) < 2:
            assert node.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
        process = start_automl(
            ["run", slow_space, "--output", place, "--address", cluster.address, "--trials", "4"],
            home / "driver",
        )
        _, err = process.communicate(timeout=180)
    finally:
        node.kill()
        node.wait()
        cluster.shutdown()
    assert process.returncode == 0, err
    assert not list(home.rglob("metrics.jsonl"))  # the driver's machine has only what it needs
    record = read_run(open_run(place, models=True))
    assert len(record.trials) == 4
    for trial in record.trials:
        assert Store(place).get(f"trials/{trial.number}/metrics.jsonl", tmp_path / "lines")
        lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
        assert [line["accuracy"] for line in lines] == [trial.values[epoch] for epoch in sorted(trial.values)]
    assert record.floor is not None
    assert record.finalists is not None and len(record.finalists["trials"]) >= 3
    folders = {name.split("/")[0].partition("-")[0] for name in Store(shared).names()}
    assert folders == {"source", "tokens"}
    assert (record.directory.best_model / "model.safetensors").is_file()
