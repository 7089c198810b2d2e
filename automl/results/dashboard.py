"""optuna-dashboard on a run's study: read-only, and for those who ask for it by its own address."""

from __future__ import annotations

import ipaddress
import socket
import socketserver
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna_dashboard
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from automl.results.hosts import LOOPBACK, host_name, is_unspecified, normal_host
from automl.training.database import database_of
from automl.training.read_only import ReadOnly, ReadOnlyError
from automl.training.run_directory import RunDirectory
from automl.training.study_file import load_study

LOOKING = ("GET", "HEAD")

Environment = dict[str, Any]
Start = Callable[..., Any]
Application = Callable[[Environment, Start], Iterable[bytes]]


class _ReadOnlyFile(JournalFileBackend):
    """A journal that is followed as it grows; only the run itself writes it."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refuse."""
        raise ReadOnlyError("a run's study is shown and not changed")


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """As its base does, without asking a name server what this machine is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = 30  # seconds that a client may take to send its request

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not worth a line."""


def serve_dashboard(run: RunDirectory, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve until interrupted; `tell` hears where. Raises UserError where there is no study, OSError without the port.

    Nothing can be changed there, wherever the study lies: a run has one writer.
    """
    application = guarded(optuna_dashboard.wsgi(_storage(run)), host)
    with make_server(host, port, application, _Server6 if ":" in host else _Server, _Quiet) as server:
        tell(f"dashboard on http://{f'[{host}]' if ':' in host else host}:{server.server_port}")
        server.serve_forever()


def guarded(application: Application, host: str) -> Application:
    """The application, read-only, for requests that name this server as their Host.

    Its names are `host`, the loopback addresses, the machine's name and, where it listens on all addresses, any
    address. Other names get 403; methods that would change something get 405.
    """
    names = {*map(normal_host, (host, socket.gethostname())), *LOOPBACK}

    def answer(environment: Environment, start: Start) -> Iterable[bytes]:
        asked = host_name(environment.get("HTTP_HOST", ""))
        if asked is None or not (asked in names or (is_unspecified(host) and _is_address(asked))):
            return _refuse(start, "403 Forbidden", "this is not the address of the dashboard")
        if environment.get("REQUEST_METHOD") not in LOOKING:
            allow = ("Allow", ", ".join(LOOKING))
            return _refuse(start, "405 Method Not Allowed", "a run's study is shown and not changed", allow)
        return application(environment, start)

    return answer


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _refuse(start: Start, status: str, why: str, *headers: tuple[str, str]) -> list[bytes]:
    content = f"{why}\n".encode()
    start(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(content))), *headers])
    return [content]


def _storage(run: RunDirectory) -> ReadOnly:
    load_study(run)  # raises where there is none or it is damaged
    if database := database_of(run):
        return ReadOnly(database.connect(make_tables=False))
    return ReadOnly(JournalStorage(_ReadOnlyFile(str(run.journal))))
