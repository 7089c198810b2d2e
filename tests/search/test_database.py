"""Studies in a database, a real PostgreSQL and a real MariaDB: side by side, resumed, read, and without it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy

import automl
from automl.results import read_run
from automl.space import UserError
from automl.training.database import Database
from automl.training.run_directory import RunDirectory, read_json
from tests.search.conftest import start_automl
from tests.search.database_servers import PASSWORD, Server, mariadb, postgresql

pytestmark = pytest.mark.xdist_group("databases")


@pytest.fixture(scope="module", params=[postgresql, mariadb])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with request.param() as server:
        yield server


def studies(server: Server) -> list[str]:
    """The names of the studies in the database; none before the first has made its tables."""
    engine = sqlalchemy.create_engine(server.engine_url, poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        if not sqlalchemy.inspect(connection).has_table("studies"):
            return []
        return list(connection.execute(sqlalchemy.text("select study_name from studies order by 1")).scalars())


@pytest.mark.ray
@pytest.mark.slow
def test_two_searches_keep_their_studies_in_one_database(
    small_space: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [RunDirectory(tmp_path / name) for name in ("first", "second")]
    monkeypatch.setenv("AUTOML_STUDY", server.url)
    one_at_a_time = ["--set", "resources.max_concurrent=1"]
    processes = [start_automl(["run", small_space, "--output", run.path, *one_at_a_time], tmp_path) for run in runs]
    for process in processes:
        out, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
        assert PASSWORD not in out + err
    assert {"first", "second"} <= {*studies(server)}
    for run in runs:
        assert not run.journal.exists()
        assert read_json(run.manifest)["study"] == {
            "database": server.url.replace(f":{PASSWORD}", ""),
            "name": run.name,
        }
        for path in run.path.rglob("*"):
            assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path
        study = optuna.load_study(study_name=run.name, storage=server.engine_url)
        found = {trial.number: trial for trial in study.trials}
        rows = [row for row in automl.leaderboard(run.path) if row["trial"] is not None]
        assert len(rows) == 4 == len(found)
        assert all(max(found[row["trial"]].intermediate_values.values()) == row["score"] for row in rows)
    again = tmp_path / "elsewhere" / "first"
    with pytest.raises(UserError, match="has a study 'first' already"):
        automl.run(small_space, output=again, study=server.url, quiet=True)
    assert not again.exists()
    assert studies(server).count("first") == 1


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("server", [postgresql], indirect=True)  # MariaDB: the same, and a minute
def test_a_search_whose_database_goes_away_goes_on_when_it_is_back(
    slow_space: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(tmp_path / "outlives")
    monkeypatch.setenv("AUTOML_STUDY", server.url)
    process = start_automl(["run", slow_space, "--output", run.path], tmp_path)

    def ended() -> dict[int, object]:
        if run.name not in studies(server) or not run.manifest.exists():  # the study is made first
            return {}
        return {trial.number: trial for trial in read_run(run).trials if trial.status in ("completed", "stopped")}

    deadline = time.monotonic() + 120
    while len(ended()) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.3)
    server.stop()
    try:
        _, err = process.communicate(timeout=120)
    finally:
        server.start()
    assert process.returncode == 1
    assert "the run cannot be written: the study's database" in err
    assert "go on with: automl resume" in err
    assert "Traceback" not in err
    before = ended()
    assert 2 <= len(before) < 8

    resumed = start_automl(["resume", run.path], tmp_path)
    deadline = time.monotonic() + 120
    while len(ended()) < len(before) + 1:
        assert resumed.poll() is None, resumed.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.3)
    os.kill(resumed.pid, signal.SIGKILL)
    resumed.communicate()
    resumed = start_automl(["resume", run.path], tmp_path)
    _, err = resumed.communicate(timeout=180)
    assert resumed.returncode == 0, err
    after = ended()
    assert sorted(after) == list(range(8))
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis://127.0.0.1/0", "redis is none"),
        ("nonsense", "what was given is none"),
        (
            "postgresql://postgres:open-sesame@127.0.0.1:9/none",
            "cannot use the database postgresql://postgres@127.0.0.1:9",
        ),
    ],
)
def test_a_database_that_will_not_do_is_refused(small_space: Path, url: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=complaint) as raised:
        automl.run(small_space, output=tmp_path / "run", study=url, quiet=True)
    assert PASSWORD not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_a_wrong_password_is_said_and_not_repeated(server: Server) -> None:
    with pytest.raises(UserError, match=r"password authentication failed|Access denied") as raised:
        Database(server.url.replace(PASSWORD, "guessed"), "study").connect()
    assert "guessed" not in str(raised.value)


def test_reading_again_and_again_leaves_no_connection_open(server: Server, tmp_path: Path) -> None:
    database = Database(server.url, "read-often")
    database.create(["max"])
    storages = [database.connect(make_tables=False) for _ in range(150)]  # more than servers let in, by default
    assert {len(storage.get_all_studies()) > 0 for storage in storages} == {True}
    database.delete()
