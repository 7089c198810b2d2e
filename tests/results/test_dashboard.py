"""The dashboard answers those who look, by its own address; it changes nothing, wherever the study lies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import optuna
import optuna_dashboard
import pytest

from automl.results.dashboard import guarded
from automl.training.read_only import ReadOnly


def ask(host: str, *, asked: str | None, method: str = "GET", path: str = "/api/studies") -> tuple[str, dict[str, str]]:
    """The status and the headers of an answer, from the dashboard of a study in an SQL database."""
    said: list[tuple[str, dict[str, str]]] = []

    def start(status: str, headers: Iterable[tuple[str, str]], *_: Any) -> None:
        said.append((status, dict(headers)))

    environment: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": "", "wsgi.input": None}
    if asked is not None:
        environment["HTTP_HOST"] = asked
    for _ in guarded(APPLICATION, host)(environment, start):
        pass
    return said[0]


STORAGE = optuna.storages.RDBStorage("sqlite://")
optuna.create_study(storage=STORAGE, study_name="study")
APPLICATION = optuna_dashboard.wsgi(ReadOnly(STORAGE))


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("127.0.0.1", "127.0.0.1:8080"),
        ("127.0.0.1", "localhost:9000"),
        ("::1", "[::1]:8080"),
        ("0.0.0.0", "192.168.1.7:8080"),
        ("my-machine", "MY-MACHINE:80"),
    ],
)
def test_it_answers_its_own_host(host: str, asked: str) -> None:
    status, _ = ask(host, asked=asked)
    assert status.startswith("200")


@pytest.mark.parametrize(
    "asked",
    [
        None,
        "",
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example:8080",
        "localhost@evil.example",
        "localhost:x",
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
def test_it_answers_no_other(host: str, asked: str | None) -> None:
    for method in ("GET", "POST"):
        status, _ = ask(host, asked=asked, method=method)
        assert status.startswith("403")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "X"])
@pytest.mark.parametrize("path", ["/api/studies", "/api/studies/1", "/api/studies/1/rename", "/api/trials/1/tell"])
def test_what_would_change_something_is_not_allowed(method: str, path: str) -> None:
    status, headers = ask("127.0.0.1", asked="127.0.0.1:8080", method=method, path=path)
    assert status.startswith("405") and headers["Allow"] == "GET, HEAD"
    assert [study.study_name for study in optuna.get_all_study_summaries(STORAGE)] == ["study"]
