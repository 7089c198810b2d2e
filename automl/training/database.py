"""A study in a database, where many drivers keep theirs side by side."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.study import StudyDirection

from automl.data.files import TakenError
from automl.space import UserError
from automl.training.run_directory import RunDirectory, read_json

VARIABLE = "AUTOML_STUDY"  # the database's URL; with a password, for that is not written down with the run
DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}
CONNECT_SECONDS = 10
CREATION_SECONDS = 5.0


@dataclass(frozen=True)
class Database:
    """Where a study lies: a database (its URL as the user gave it) and the study's name there."""

    url: str
    name: str

    def described(self) -> dict[str, str]:
        """The same for the manifest, without a password."""
        return {"database": _parsed(self.url)._replace(password=None).render_as_string(), "name": self.name}

    def connect(self) -> RDBStorage:
        """Open it, with its tables made where it is empty; raises UserError where that does not work."""
        url = _parsed(self.url)
        url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
        options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_SECONDS}}

        def open_it() -> RDBStorage:
            return RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=options)

        try:
            try:
                return open_it()
            except sqlalchemy.exc.DBAPIError as error:
                if not (isinstance(error, sqlalchemy.exc.IntegrityError) or "already exists" in str(error.orig)):
                    raise
                time.sleep(CREATION_SECONDS)  # another driver is making the tables of an empty database
                return open_it()
        except ImportError as error:
            raise UserError(f"a study in {url.get_backend_name()} needs: pip install 'automl[database]'") from error
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise UserError(f"cannot use the database {self.described()['database']}: {reason}") from error

    def create(self, modes: Sequence[str]) -> None:
        """Make the study of objectives that are `max` or `min`; raises UserError where there is one of its name."""
        try:
            optuna.create_study(storage=self.connect(), study_name=self.name, directions=study_directions(modes))
        except optuna.exceptions.DuplicatedStudyError as error:
            raise TakenError(
                f"the database has a study {self.name!r} already; give the run another --output"
            ) from error

    def delete(self) -> None:
        """Remove the study."""
        optuna.delete_study(study_name=self.name, storage=self.connect())


def study_directions(modes: Sequence[str]) -> list[StudyDirection]:
    """Optuna's directions of objectives that are `max` or `min`."""
    return [StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE for mode in modes]


def database_of(run: RunDirectory) -> Database | None:
    """Where the study of a run lies, if that is a database; None where it is the run's journal."""
    described = read_json(run.manifest).get("study") if run.manifest.exists() else None
    return described and Database(os.environ.get(VARIABLE) or described["database"], described["name"])


def _parsed(url: str) -> sqlalchemy.URL:
    try:
        parsed = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in DRIVERS:
        shown = url.partition("://")[0] if "://" in url else "what was given"
        raise UserError(f"a study's database is named by a URL, postgresql://... or mysql://...; {shown} is none")
    return parsed
