"""Real database servers on this machine, for studies that lie in one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pymysql
import pytest

PASSWORD = "open-sesame"
POSTGRES = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), Path("/usr/bin")]
MARIADB = [Path("/usr/sbin"), Path("/usr/bin")]


@dataclass(frozen=True)
class Server:
    """A running server: the URL of its database, the same for SQLAlchemy, and how it goes away and comes back."""

    url: str
    driver: str
    start: Callable[[], None]
    stop: Callable[[], None]

    @property
    def engine_url(self) -> str:
        return self.url.replace("://", f"+{self.driver}://")


@contextmanager
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server; skips the test where its programs are missing, unless they are required."""
    programs = _programs(POSTGRES, "initdb")
    with _folder("postgres") as (folder, as_owner):
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        port = _free_port()

        def run(program: str, *arguments: str) -> None:
            command = [*as_owner, str(programs / program), "-D", str(folder / "data"), *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, timeout=60)

        def start() -> None:
            options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"
            run("pg_ctl", "start", "--wait", "--log", str(folder / "log"), "-o", options)

        def stop() -> None:
            run("pg_ctl", "stop", "--mode", "immediate")

        run("initdb", "--username", "postgres", "--pwfile", str(folder / "password"), "--auth", "scram-sha-256")
        start()
        yield Server(f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres", "psycopg", start, stop)
        stop()


@contextmanager
def mariadb() -> Iterator[Server]:
    """A MariaDB server, which is spoken to as MySQL is; skips as `postgresql` does."""
    programs = _programs(MARIADB, "mariadbd")
    with _folder("mysql") as (folder, as_owner):
        port = _free_port()
        socket_file = folder / "socket"
        places = ["--no-defaults", f"--datadir={folder / 'data'}"]
        install = ["/usr/bin/mariadb-install-db", *places, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run([*as_owner, *install], check=True, stdout=subprocess.DEVNULL, cwd=folder, timeout=120)
        network = ["--bind-address=127.0.0.1", f"--port={port}", f"--socket={socket_file}"]
        command = [*as_owner, str(programs / "mariadbd"), *places, *network, f"--log-error={folder / 'log'}"]
        running: list[subprocess.Popen[bytes]] = []

        def start() -> None:
            running.append(subprocess.Popen(command, cwd=folder, start_new_session=True))
            deadline = time.monotonic() + 60
            while not socket_file.exists():
                assert running[-1].poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)

        def stop() -> None:
            os.killpg(running[-1].pid, signal.SIGKILL)
            running.pop().wait(30)
            socket_file.unlink(missing_ok=True)

        start()
        with pymysql.connect(unix_socket=str(socket_file), user="root", autocommit=True) as connection:
            cursor = connection.cursor()
            cursor.execute("create database studies")
            cursor.execute(f"create user 'automl'@'127.0.0.1' identified by '{PASSWORD}'")
            cursor.execute("grant all on studies.* to 'automl'@'127.0.0.1'")
        yield Server(f"mysql://automl:{PASSWORD}@127.0.0.1:{port}/studies", "pymysql", start, stop)
        stop()


def _programs(folders: list[Path], program: str) -> Path:
    found = next((folder for folder in folders if (folder / program).exists()), None)
    if found is None:
        if os.environ.get("AUTOML_REQUIRE_DATABASE"):
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"needs {program}")
    return found


@contextmanager
def _folder(owner: str) -> Iterator[tuple[Path, list[str]]]:
    """A folder for a server's files and the command that makes another be run by their owner: root runs no server."""
    folder = Path(tempfile.mkdtemp(prefix=f"{owner}-"))
    as_owner: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, owner)
        as_owner = ["runuser", "-u", owner, "--"]
    yield folder, as_owner
    shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
