"""The URL of a study's database: what it may ask of a driver, and that nothing shows its password."""

from __future__ import annotations

import traceback
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage

from automl.cli import main
from automl.space import UserError
from automl.training.database import OPTIONS, Database, database_of
from automl.training.read_only import ReadOnly, ReadOnlyError
from automl.training.run_directory import Allowed, RunDirectory, read_json, write_json
from tests.conftest import copy_run

SECRET = "open-sesame"
REFUSED = [
    "mysql://u:{}@127.0.0.1:9/db?local_infile=1",
    "mysql://u:{}@127.0.0.1:9/db?allow_local_infile=1",
    "mysql://u:{}@127.0.0.1:9/db?ssl_ca=/etc/passwd",
    "mysql://u:{}@127.0.0.1:9/db?ssl_key=/etc/passwd",
    "mysql://u:{}@127.0.0.1:9/db?init_command=drop%20table%20x",
    "mysql://u:{}@127.0.0.1:9/db?read_default_file=/etc/passwd",
    "mysql://u:{}@127.0.0.1:9/db?unix_socket=/run/mysqld.sock",
    "mysql://u@127.0.0.1:9/db?passwd={}",
    "mysql+mysqldb://u:{}@127.0.0.1:9/db",
    "mysql+mysqlconnector://u:{}@127.0.0.1:9/db",
    "postgresql://u@127.0.0.1:9/db?password={}",
    "postgresql://u@127.0.0.1:9/db?sslpassword={}",
    "postgresql://u:{}@127.0.0.1:9/db?passfile=/etc/passwd",
    "postgresql://u:{}@127.0.0.1:9/db?service=mine",
    "postgresql://u:{}@127.0.0.1:9/db?servicefile=/etc/passwd",
    "postgresql://u:{}@127.0.0.1:9/db?options=-c%20search_path=x",
    "postgresql://u:{}@127.0.0.1:9/db?host=/var/run/postgresql",
    "postgresql://u:{}@127.0.0.1:9/db?sslrootcert=/etc/passwd",
    "postgresql://u:{}@127.0.0.1:9/db?sslmode=require&sslkey=/etc/passwd",
    "postgresql://u:{}@%2Fvar%2Frun%2Fpostgresql/db",
    "postgresql://u:{}@127.0.0.1:9/host=elsewhere",
    "sqlite:///{}.db",
]


@pytest.mark.parametrize("url", REFUSED)
def test_a_url_may_not_ask_for_it(url: str) -> None:
    database = Database(url.format(SECRET), "study")
    for use in (database.described, database.connect):
        with pytest.raises(UserError) as raised:
            use()
        assert SECRET not in "".join(traceback.format_exception(raised.value))
    assert SECRET not in repr(database)


@pytest.mark.parametrize("driver", sorted(OPTIONS))
def test_no_exception_that_hangs_on_the_refusal_has_the_password(driver: str) -> None:
    option = "sslmode=disable" if driver == "postgresql" else "charset=utf8mb4"
    database = Database(f"{driver}://u:{SECRET}@127.0.0.1:9/db?{option}", "study")
    with pytest.raises(UserError, match="cannot use the database") as raised:
        database.connect()
    error: BaseException | None = raised.value
    while error is not None:
        assert SECRET not in f"{error} {error.args} {vars(error)}"
        error = error.__cause__ or error.__context__
    assert SECRET not in database.described()["database"] and option in database.described()["database"]


@pytest.fixture
def elsewhere(finished: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A run whose manifest says that its study lies in a database, with more than a manifest should say."""
    run = copy_run(finished, tmp_path / "run")
    url = f"mysql://u:{SECRET}@127.0.0.1:9/db?local_infile=1&password={SECRET}"
    write_json(run.manifest, {**read_json(run.manifest), "study": {"database": url, "name": "study"}})
    return run


@pytest.mark.ray
def test_every_command_asks_for_the_database_to_be_named(
    elsewhere: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AUTOML_STUDY", raising=False)

    def connect(self: Database, **_: object) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr(Database, "connect", connect)
    run = str(elsewhere.path)
    commands = (
        ["leaderboard", run],
        ["leaderboard", "--compare", run, run],
        ["report", run],
        ["compress", run],
        ["export", run],
        ["dashboard", run, "--port", "0"],
        ["resume", run, "--quiet"],
    )
    for words in commands:
        with pytest.raises(SystemExit) as ended:
            main(words)
        said = capsys.readouterr().err
        assert ended.value.code == 2, said
        assert "--study" in said and "AUTOML_STUDY" in said and SECRET not in said and said.count("\n") == 1, words


def test_the_named_database_is_used_and_no_other(elsewhere: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOML_STUDY", raising=False)
    with pytest.raises(UserError, match="--study"):
        database_of(elsewhere)
    named = RunDirectory(elsewhere.path, allowed=Allowed("postgresql://mine/db"))
    found = database_of(named)
    assert found is not None and found.url == "postgresql://mine/db" and found.name == "study"
    assert SECRET not in repr(named)
    monkeypatch.setenv("AUTOML_STUDY", "postgresql://from-the-environment/db")
    found = database_of(elsewhere)
    assert found is not None and found.url == "postgresql://from-the-environment/db"


def test_nothing_is_changed_through_a_storage_that_is_only_looked_at() -> None:
    """Each method of Optuna's storages either reads, and gives the same, or is refused; none is forgotten."""
    storage = InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="study")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    shown = ReadOnly(storage)
    methods = {name for name in dir(BaseStorage) if not name.startswith("_") and callable(getattr(BaseStorage, name))}
    writes = {name for name in methods if name.startswith(("create_", "delete_", "set_"))}
    assert writes >= {"create_new_study", "delete_study", "set_trial_user_attr", "set_trial_state_values"}
    for name in writes:
        with pytest.raises(ReadOnlyError, match="not changed"):
            getattr(shown, name)(1, 2, 3)
    derived = {"get_best_trial", "get_trial_params", "get_trial_param", "get_trial_number_from_id"}
    derived |= {"get_trial_user_attrs", "get_trial_system_attrs", "check_trial_is_updatable"}
    assert methods - writes - derived <= vars(ReadOnly).keys()
    loaded = optuna.load_study(study_name="study", storage=shown)
    assert loaded.trials == study.trials and loaded.best_value == study.best_value
    with pytest.raises(ReadOnlyError):
        loaded.ask()
