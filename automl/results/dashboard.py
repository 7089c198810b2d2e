"""optuna-dashboard on a run's study."""

from __future__ import annotations

import socketserver
from collections.abc import Callable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna_dashboard
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from automl.space import UserError
from automl.training.database import database_of
from automl.training.run_directory import RunDirectory


class _ReadOnly(JournalFileBackend):
    """A journal that is followed as it grows; only the run itself writes it."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refuse."""
        raise PermissionError("a run's study is shown and not changed")


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not worth a line."""


def serve_dashboard(run: RunDirectory, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve until interrupted; `tell` hears where. Raises UserError where there is no study, OSError without the port.

    Nothing can be changed there in a journal file: a run has one writer.
    """
    application = optuna_dashboard.wsgi(_storage(run))
    with make_server(host, port, application, _Server, _Quiet) as server:
        tell(f"dashboard on http://{host}:{server.server_port}")
        server.serve_forever()


def _storage(run: RunDirectory) -> BaseStorage:
    if database := database_of(run):
        return database.connect()
    if not run.journal.is_file():
        raise UserError(f"{run.path} has no {run.journal.name}: the run ended before its first trial")
    return JournalStorage(_ReadOnly(str(run.journal)))
