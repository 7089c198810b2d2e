"""`automl serve` for images and series: the model's own answers, and bodies that are bombs, nonsense or too much."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automl.results.package import Model, load_model
from automl.results.serving.limits import MIB, Limits
from tests.results.packages import a_picture, of_images, of_texts, write_package
from tests.results.serving import Running, get, post, running, until
from tests.results.test_export_kinds import of_numbers

FAMILY = "{rnn: {hidden: 4, layers: 1}}"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    folder = tmp_path_factory.mktemp("served")
    parts = {"images": of_images(folder), "series": of_numbers(folder, FAMILY)}
    parts["gaps"] = of_numbers(folder, FAMILY, "mask")
    made = {name: write_package(folder / name, [part]) for name, part in parts.items()}
    for name in ("images", "series"):  # the linear model alone
        made[f"linear {name}"] = write_package(folder / f"linear {name}", [parts[name]], linear=True)
        config = json.loads((made[f"linear {name}"] / "config.json").read_text())
        (made[f"linear {name}"] / "config.json").write_text(json.dumps({**config, "members": []}))
    return {name: load_model(path) for name, path in made.items()}


@pytest.fixture(scope="module")
def images(models: dict[str, Model]) -> Iterator[Running]:
    with running(real=models["images"]) as server:
        yield server


@pytest.fixture(scope="module")
def series(models: dict[str, Model]) -> Iterator[Running]:
    with running(real=models["series"]) as server:
        yield server


@pytest.fixture(scope="module")
def gaps(models: dict[str, Model]) -> Iterator[Running]:
    with running(real=models["gaps"]) as server:
        yield server


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    assert all(record.exc_info is None for record in caplog.get_records("call"))
    assert "Traceback" not in capfd.readouterr().err


def coded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG of these dimensions, black where `pixels` is left out, damaged where it is something else."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = pixels or zlib.compress(bytes((width + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def ask(server: Running, content: object) -> tuple[int, Any]:
    status, _, answer = server.ask(post(json.dumps(content).encode()))
    return status, answer


def same(answer: Any, model: Model, inputs: list[Any]) -> None:
    for found, wanted in zip(answer["predictions"], model.predict(inputs), strict=True):
        assert found["label"] == wanted.label
        assert found["probabilities"] == pytest.approx(wanted.probabilities, abs=1e-5)


@pytest.mark.parametrize("linear", ["", "linear "])
def test_answers_are_the_models(models: dict[str, Model], linear: str) -> None:
    pictures, numbers = [a_picture(seed) for seed in range(20)], np.random.default_rng(0).normal(size=(20, 9, 2))
    with running(real=models[f"{linear}images"]) as server, ThreadPoolExecutor(8) as pool:
        asked = [{"images": [coded(each) for each in pictures[start : start + 5]]} for start in range(0, 20, 5)]
        for start, (status, answer) in enumerate(pool.map(lambda each: ask(server, each), asked)):
            assert status == 200
            same(answer, models[f"{linear}images"], pictures[5 * start : 5 * start + 5])
        assert server.ask(get("/"))[2]["takes"] == "images" and server.health() == (200, {"status": "ok"})
    with running(real=models[f"{linear}series"]) as server:
        status, answer = ask(server, {"series": numbers.tolist()})
        assert status == 200
        same(answer, models[f"{linear}series"], list(numbers))
        server.server.batcher.failing = True  # its sample is one that it can answer
        assert server.health() == (200, {"status": "ok"})


def test_numbers_may_be_missing_where_training_had_it_so(models: dict[str, Model], gaps: Running) -> None:
    rows = [[[1.0, None], [None, None], [2.0, 3.0]], [[0.5, 1.0]]]
    status, answer = ask(gaps, {"series": rows})
    assert status == 200
    same(answer, models["gaps"], rows)


GOOD = coded(a_picture(0))
BOMB = coded(png(5000, 5000))
IMAGE_BODIES: list[tuple[bytes, int, str]] = [
    (b'{"texts": ["a"]}', 422, "expected a JSON object with a list of images"),
    (b'{"images": "' + GOOD.encode() + b'"}', 422, "expected a JSON object with a list of images"),
    (b'{"images": []}', 422, "1 to 256 images"),
    (json.dumps({"images": [GOOD] * 257}).encode(), 422, "1 to 256 images, this one 257"),
    (b'{"images": [1]}', 422, "images[0] is no text"),
    (b'{"images": [null]}', 422, "images[0] is no text"),
    (b'{"images": [[[0, 255], [255, 0]]]}', 422, "images[0] is no text"),
    (b'{"images": [NaN]}', 400, "the body is not JSON"),
    (b'{"images": ["a b"]}', 422, "images[0] is not base64"),
    (b'{"images": ["/etc/passwd"]}', 422, "images[0] is"),
    (b'{"images": ["\\ud800"]}', 422, "images[0] is not base64"),
    (b'{"images": [""]}', 422, "images[0] is no image"),
    (json.dumps({"images": [coded(b"no image")]}).encode(), 422, "images[0] is no image that can be read"),
    (json.dumps({"images": [coded(b"\x93NUMPY" + bytes(200))]}).encode(), 422, "images[0] is no image"),
    (json.dumps({"images": [GOOD, coded(a_picture(1)[:90])]}).encode(), 422, "images[1]"),
    (json.dumps({"images": [GOOD, coded(png(8, 8, b"nothing"))]}).encode(), 422, "images[1]: its pixels cannot be"),
    (json.dumps({"images": [BOMB]}).encode(), 422, "images of at most 16,777,216 pixels together"),
    (json.dumps({"images": [coded(png(60_000, 60_000, b"x"))]}).encode(), 422, "images[0] is no image"),
    (json.dumps({"images": [coded(png(2**31 - 1, 2**31 - 1, b"x"))]}).encode(), 422, "images[0] is no image"),
    (json.dumps({"images": [coded(png(2500, 2500))] * 3}).encode(), 422, "images of at most 16,777,216 pixels"),
    (json.dumps({"images": [GOOD], "size": 3}).encode(), 200, ""),
    (b'{"images": ["' + b"A" * (9 * MIB) + b'"]}', 413, "at most 8 MiB"),
    (b'{"images": ' + b"[" * 900 + b"]" * 900 + b"}", 422, "images[0] is no text"),
]
STEP = "a list of 2 numbers for each step"
SERIES_BODIES: list[tuple[bytes, int, str]] = [
    (b'{"texts": ["a"]}', 422, "expected a JSON object with a list of series"),
    (b'{"series": 1}', 422, "expected a JSON object with a list of series"),
    (b'{"series": []}', 422, "1 to 4,096 series"),
    (b'{"series": [[]]}', 422, STEP),
    (b'{"series": [1.0, 2.0]}', 422, STEP),
    (b'{"series": [[1.0, 2.0]]}', 422, "series[0] has 1 numbers for each step, expected 2"),
    (b'{"series": [[[1.0, 2.0]], [[1.0]]]}', 422, "series[1] has 1 numbers for each step, expected 2"),
    (b'{"series": [[[1.0, 2.0, 3.0]]]}', 422, "series[0] has 3 numbers for each step, expected 2"),
    (b'{"series": [[[1.0, 2.0], [3.0]]]}', 422, STEP),
    (b'{"series": [[[[1.0, 2.0]]]]}', 422, STEP),
    (b'{"series": [[["1", "2"]]]}', 422, STEP),
    (b'{"series": ["[[1, 2]]"]}', 422, STEP),
    (b'{"series": [{"0": [1, 2]}]}', 422, STEP),
    (b'{"series": [[[1.0, null]]]}', 422, STEP),
    (b'{"series": [[[1.0, 1e999]]]}', 422, STEP),
    (b'{"series": [[[1.0, NaN]]]}', 400, "the body is not JSON"),
    (b'{"series": [[[1.0, Infinity]]]}', 400, "the body is not JSON"),
    (b'{"series": [[[1.0, ' + b"9" * 400 + b"]]]}", 422, STEP),
    (b'{"series": [[[1.0, ' + b"9" * 5000 + b"]]]}", 400, "the body is not JSON"),
    (b'{"series": ' + b"[" * 900 + b"]" * 900 + b"}", 422, STEP),
    (b'{"series": [[' + b",".join([b"[1,2]"] * 600_000) + b"]]}", 422, "series of at most 1,048,576 numbers"),
    (b'{"series": [[[0, 1e30]]]}', 200, ""),
    (b'{"series": [[[0, 1]]]}', 200, ""),
]


def refused(server: Running, body: bytes, status: int, reason: str) -> None:
    found, _, answer = server.ask(post(body))
    assert (found, list(answer)) == (status, ["predictions" if status == 200 else "error"]), answer
    assert status == 200 or reason in answer["error"]
    assert len(json.dumps(answer)) < 500
    until(lambda: server.server.held.bytes == 0)  # which comes right after the answer
    assert server.health()[0] == 200


@pytest.mark.parametrize(("body", "status", "reason"), IMAGE_BODIES, ids=lambda value: repr(value)[:40])
def test_bodies_of_images(images: Running, body: bytes, status: int, reason: str) -> None:
    refused(images, body, status, reason)


@pytest.mark.parametrize(("body", "status", "reason"), SERIES_BODIES, ids=lambda value: repr(value)[:40])
def test_bodies_of_series(series: Running, body: bytes, status: int, reason: str) -> None:
    refused(series, body, status, reason)


@pytest.mark.parametrize("body", [b"[[[1, null], [null, null]], [[null, null]]]", b"[[[1, " + b"9" * 400 + b"]]]"])
def test_bodies_of_series_with_gaps(gaps: Running, body: bytes) -> None:
    refused(gaps, b'{"series": ' + body + b"}", 422, STEP)


def test_a_damaged_image_fails_its_own_request_alone(images: Running, models: dict[str, Model]) -> None:
    bad = {"images": [coded(png(8, 8, b"nothing"))]}
    with ThreadPoolExecutor(8) as pool:
        asked = [bad if number % 3 == 1 else {"images": [GOOD]} for number in range(24)]
        for number, (status, answer) in enumerate(pool.map(lambda each: ask(images, each), asked)):
            assert status == (422 if number % 3 == 1 else 200)
            if status == 200:
                same(answer, models["images"], [a_picture(0)])


def test_pixels_that_wait_are_bounded(models: dict[str, Model]) -> None:
    limits = replace(Limits(), pixels=2000, held_bytes=3000, small_bytes=0)
    with running(limits, real=models["images"]) as server:
        assert ask(server, {"images": [coded(png(30, 30))]})[0] == 200
        until(lambda: server.server.held.bytes == 0)
        server.server.held.bytes += 2500
        status, answer = ask(server, {"images": [coded(png(30, 30))]})
        assert status == 503 and "would wait" in answer["error"]
        server.server.held.bytes -= 2500
        until(lambda: server.server.held.bytes == 0)
        assert ask(server, {"images": [coded(png(30, 30))]})[0] == 200


def test_text_models_take_no_other_bodies(tmp_path: Path) -> None:
    with running(real=load_model(write_package(tmp_path / "text", [of_texts(tmp_path)]))) as server:
        assert ask(server, {"texts": ["good"]})[0] == 200
        assert ask(server, {"images": [GOOD]})[0] == ask(server, {"series": [[1.0]]})[0] == 422
