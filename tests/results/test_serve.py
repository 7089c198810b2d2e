"""The server and the dashboard as processes of their own, asked over HTTP."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import automl
from automl.training.run_directory import RunDirectory
from tests.conftest import copy_run, make_texts

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("server")]


@contextmanager
def started(*arguments: str | Path) -> Iterator[str]:
    """The address that a command says it listens on; at the end the command is interrupted and must end."""
    command = [sys.executable, "-m", "automl", *map(str, arguments), "--port", "0"]
    # Where tests run in the background, a shell lets them ignore Ctrl-C, and so their children.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert " on http://127.0.0.1:" in line, line + process.stderr.read()
        yield line.split()[-1]
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=30)
        assert "Traceback" not in rest
    finally:
        process.kill()
        process.wait()


JSON = {"Content-Type": "application/json"}


def ask(url: str, body: bytes | None = None) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, JSON), timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def texts_of(texts: object) -> bytes:
    return json.dumps({"texts": texts}).encode()


@pytest.fixture(scope="module")
def server(finished: RunDirectory) -> Iterator[str]:
    with started("serve", finished.path) as url:
        yield url


def test_requests_at_the_same_time_get_their_own_answers_together(server: str, finished: RunDirectory) -> None:
    texts = [row["text"] for row in make_texts(400, seed=11)]
    requests = [texts[start : start + 1 + start % 4] for start in range(0, 396, 4)]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda some: ask(f"{server}/predict", texts_of(some)), requests))
    model = automl.load_model(finished.path)
    for some, (status, answer) in zip(requests, answers, strict=True):
        assert status == 200 and len(answer["predictions"]) == len(some)
        for wanted, found in zip(model.predict(some), answer["predictions"], strict=True):
            np.testing.assert_allclose(
                list(found["probabilities"].values()), list(wanted.probabilities.values()), atol=1e-5
            )
            assert found["label"] == max(found["probabilities"], key=found["probabilities"].__getitem__)
    status, about = ask(server)
    assert status == 200 and about["classes"] == ["negative", "positive"]
    assert about["rows"] == sum(map(len, requests)) and about["batches"] < len(requests) / 2
    assert ask(f"{server}/health") == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "the body is not JSON"),
        (b"[" * 100_000, 400, "the body is not JSON"),
        (b"\xff\xfe{}", 400, "the body is not JSON"),
        (b'["a text"]', 422, "expected a JSON object with a list of texts"),
        (b'{"texts": "a text"}', 422, "expected a JSON object with a list of texts"),
        (texts_of([]), 422, "a request has 1 to 4,096 texts, this one 0"),
        (texts_of(["a"] * 4097), 422, "a request has 1 to 4,096 texts, this one 4,097"),
        (texts_of(["a text", 3]), 422, "texts[1] is no text"),
        (texts_of(["a text", " "]), 422, "texts[1] is empty"),
        (b" " * (9 * 1024 * 1024), 413, "a request has at most 8 MiB"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(server: str, body: bytes, status: int, reason: str) -> None:
    found, answer = ask(f"{server}/predict", body)
    assert found == status and answer["error"].startswith(reason) and list(answer) == ["error"]
    assert ask(f"{server}/predict", texts_of(["a great flight"]))[0] == 200


def test_what_is_not_there_is_said(server: str) -> None:
    assert ask(f"{server}/nothing")[0] == 404 and ask(f"{server}/predict")[0] == 405


def test_a_surrogate_is_a_text_as_any_other(server: str) -> None:
    assert ask(f"{server}/predict", b'{"texts": ["great \\ud800"]}')[0] == 200


def test_a_port_that_is_taken(server: str, finished: RunDirectory) -> None:
    command = [sys.executable, "-m", "automl", "serve", str(finished.path), "--port", server.rpartition(":")[2]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1 and "in use" in done.stderr and "Traceback" not in done.stderr


def test_the_dashboard_shows_the_study_and_cannot_change_it(finished: RunDirectory, tmp_path: Path) -> None:
    run = copy_run(finished, tmp_path / "run")
    before = run.journal.read_bytes()
    with started("dashboard", run.path) as url:
        status, answer = ask(f"{url}/api/studies")
        assert status == 200 and answer["study_summaries"][0]["study_name"] == "search"
        (study,) = answer["study_summaries"]
        _, details = ask(f"{url}/api/studies/{study['study_id']}?after=0")
        assert len(details["trials"]) == 10
        with urllib.request.urlopen(f"{url}/dashboard", timeout=30) as page:
            assert b"<html" in page.read()
        body = json.dumps({"body": "mine", "version": 1}).encode()
        request = urllib.request.Request(
            f"{url}/api/studies/{study['study_id']}/note", body, {"Content-Type": "application/json"}, method="PUT"
        )
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(request, timeout=30)
    assert run.journal.read_bytes() == before
