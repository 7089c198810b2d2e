from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings
from moto.server import ThreadedMotoServer

from automl.training.run_directory import RunDirectory

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

BUCKET, SECRET = "s3://bucket", "the-secret-key"
POSITIVE = ["good", "great", "lovely", "wonderful", "happy", "excellent", "delightful", "brilliant"]
NEGATIVE = ["bad", "awful", "terrible", "sad", "horrible", "poor", "dreadful", "nasty"]
NEUTRAL = [
    "the",
    "flight",
    "was",
    "on",
    "monday",
    "at",
    "noon",
    "from",
    "gate",
    "seven",
    "to",
    "boston",
    "with",
    "a",
    "bag",
]


@pytest.fixture(scope="session", autouse=True)
def own_cache(shared: Path) -> Iterator[None]:
    """No test reads or writes the user's own cache; all of them share one, as runs do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOML_CACHE", str(shared / "cache"))
        yield


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """An S3 server on this machine; gives its address."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def reach_store(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment say how to reach the server."""
    settings = {"ENDPOINT_URL": s3, "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": SECRET, "REGION": "us-east-1"}
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a bucket, which the environment says how to reach."""
    reach_store(s3, monkeypatch)
    boto3.client("s3", region_name="us-east-1", endpoint_url=s3).create_bucket(Bucket="bucket")
    return BUCKET


def make_texts(rows: int, seed: int, noise: float = 0.1) -> list[dict[str, str]]:
    """Sentences whose label one can see: most have a positive or a negative word among neutral ones."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(rows):
        label = ("negative", "positive")[int(generator.integers(2))]
        words = list(generator.choice(NEUTRAL, size=int(generator.integers(3, 12))))
        mood = POSITIVE if (label == "positive") != (generator.random() < noise) else NEGATIVE
        words.insert(int(generator.integers(len(words) + 1)), str(generator.choice(mood)))
        found.append({"text": " ".join(words), "label": label})
    return found


def write_jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


SMALL_SPACE = """
name: small
data:
  train: {folder}/train.jsonl
  validation: {folder}/validation.jsonl
  test: {folder}/test.jsonl
model:
  cnn: {{embedding: 8, channels: {{int: [4, 8]}}, kernel_sizes: {{choice: [[2], [1, 2]]}}}}
  rnn: {{embedding: 8, hidden: {{int: [4, 8]}}, bidirectional: false}}
training:
  optimizer: {{adamw: {{learning_rate: {{float: [0.001, 0.05], log: true}}}}}}
  batch_size: 32
search:
  pack_linear: false
  trials: {trials}
  early_stopping: {{asha: {{max_epochs: {epochs}, grace_period: 1, reduction_factor: 2}}}}
resources: {{per_trial: {{cpus: 1}}}}
"""


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes which test side by side have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, which the first process that wants it makes."""
    made = folder.with_name(f"{folder.name}.made")
    with FileLock(f"{folder}.lock"):
        if not made.exists():
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


def write_splits(folder: Path, sizes: dict[str, int], noise: float) -> None:
    for seed, (split, rows) in enumerate(sizes.items()):
        write_jsonl(folder / f"{split}.jsonl", make_texts(rows, seed, noise))


@pytest.fixture(scope="session")
def small_data(shared: Path) -> Path:
    sizes = {"train": 400, "validation": 120, "test": 120}
    return once(shared / "small", lambda folder: write_splits(folder, sizes, noise=0.1))


@pytest.fixture(scope="session")
def slow_data(shared: Path) -> Path:
    """Enough rows that an epoch takes a good part of a second, so that a search can be hit in its midst."""
    sizes = {"train": 12_000, "validation": 300, "test": 300}
    return once(shared / "slow", lambda folder: write_splits(folder, sizes, noise=0.3))


def write_space(path: Path, data: Path, *, trials: int = 4, epochs: int = 4, extra: str = "") -> Path:
    path.write_text(SMALL_SPACE.format(folder=data, trials=trials, epochs=epochs) + extra, encoding="utf-8")
    return path


@pytest.fixture
def small_space(tmp_path: Path, small_data: Path) -> Path:
    return write_space(tmp_path / "space.yaml", small_data)


@pytest.fixture(scope="session")
def finished(shared: Path, small_data: Path) -> RunDirectory:
    """A whole search of ten trials by the command: whoever changes it copies it first (`copy_run`).

    What the command printed is in `stdout.txt` and `stderr.txt` beside it.
    """
    return RunDirectory(once(shared / "my runs", lambda folder: search_in(folder, small_data)) / "run")


def search_in(folder: Path, data: Path) -> None:
    write_space(folder / "space.yaml", data, trials=10)
    process = subprocess.run(
        [sys.executable, "-m", "automl", "run", "space.yaml", "--output", "run"],
        cwd=folder,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    (folder / "stdout.txt").write_text(process.stdout)
    (folder / "stderr.txt").write_text(process.stderr)


def copy_run(run: RunDirectory, path: Path) -> RunDirectory:
    return RunDirectory(Path(shutil.copytree(run.path, path)))


def browser_required() -> bool:
    return bool(os.environ.get("AUTOML_REQUIRE_BROWSER"))
