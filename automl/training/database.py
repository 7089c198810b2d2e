"""A study in a database, where many drivers keep theirs side by side."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import StudyDirection

from automl.data.files import TakenError
from automl.space import UserError
from automl.space.urls import redacted, redacted_text
from automl.training.run_directory import RunDirectory
from automl.training.run_files import Placed, read_manifest

if TYPE_CHECKING:  # else imported where a database is used, which few runs have
    import sqlalchemy
    from optuna.storages import RDBStorage

VARIABLE = "AUTOML_STUDY"  # the database's URL; with a password, for that is not written down with the run
DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}
CONNECT_SECONDS = 10
CREATION_SECONDS = 5.0
# What a URL may ask of the drivers. Others read files of this machine (sslrootcert, ssl_ca, passfile, service,
# read_default_file, local_infile), run statements (init_command, options), lead elsewhere (host, unix_socket) or are
# secrets, which stand before the @.
OPTIONS = {
    "postgresql": {"sslmode", "channel_binding", "gssencmode", "target_session_attrs", "application_name"},
    "mysql": {"charset", "ssl_verify_cert", "ssl_verify_identity"},
    "mariadb": {"charset", "ssl_verify_cert", "ssl_verify_identity"},
}


@dataclass(frozen=True)
class Database:
    """Where a study lies: a database (its URL as the user gave it) and the study's name there."""

    url: str = field(repr=False)
    name: str

    def described(self) -> dict[str, str]:
        """The same for the manifest, without a password; raises UserError for a URL that will not do."""
        return {"database": _parsed(self.url)._replace(password=None).render_as_string(), "name": self.name}

    def connect(self, *, make_tables: bool = True, keep_open: bool = False) -> RDBStorage:
        """Open it, with its tables made where it is empty; raises UserError where that does not work.

        Nothing is written without `make_tables`. With `keep_open` connections stay open between transactions, which a
        search needs for speed; else a program that reads often would use up the connections that a server has. The
        error and what it was caused by have no password.
        """
        import sqlalchemy
        from optuna.storages import RDBStorage

        url = _parsed(self.url)
        name = url.get_backend_name()
        url = url.set(drivername=DRIVERS[name])
        arguments: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS}
        if name != "postgresql":
            arguments["local_infile"] = False  # else the server may ask for any file of this machine
        options: dict[str, Any] = {"connect_args": arguments}
        options |= {"pool_pre_ping": True} if keep_open else {"poolclass": sqlalchemy.pool.NullPool}

        def open_it() -> RDBStorage:
            text = url.render_as_string(hide_password=False)
            return RDBStorage(text, engine_kwargs=options, skip_table_creation=not make_tables)

        try:
            try:
                return open_it()
            except sqlalchemy.exc.DBAPIError as error:
                if not (isinstance(error, sqlalchemy.exc.IntegrityError) or "already exists" in str(error.orig)):
                    raise
                time.sleep(CREATION_SECONDS)  # another driver is making the tables of an empty database
                return open_it()
        except ImportError:
            refusal = f"a study in {name} needs: pip install 'automl[database]'"
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
            refusal = f"cannot use the database {self.described()['database']}: {self.reason(error)}"
        raise UserError(refusal)  # here, so that no exception of a driver, with what it was given, hangs on it

    def reason(self, error: BaseException) -> str:
        """What a driver says is wrong, in one line and without the password."""
        lines = str(error.__cause__ or error).strip().splitlines()
        said = redacted_text(lines[0] if lines else type(error).__name__)
        for secret in {str(_parsed(self.url).password or ""), self.url}:
            said = said.replace(secret, "***") if secret else said
        return said

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
    """Where the study of a run lies, if that is a database; None where it is the run's journal.

    The run's manifest may come from someone else, so no database is used but one that the user names, by `--study` or
    in the environment. Raises UserError where there is none, which says how.
    """
    described = read_manifest(run, Placed).get("study") if run.manifest.exists() else None
    if described is None:
        return None
    url = run.allowed.study or os.environ.get(VARIABLE)
    if not url:
        raise UserError(
            f"the study of {run.path} lies in a database, which is not connected to unless you name it, by --study or "
            f"{VARIABLE}; the run says that it is {redacted(described['database'])}"
        )
    return Database(url, described["name"])


def _parsed(url: str) -> sqlalchemy.URL:
    """The URL of a database; raises UserError, without a secret, where it is none or asks for what it may not."""
    import sqlalchemy

    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername not in {*DRIVERS, *DRIVERS.values()}:
        shown = url.partition("://")[0] if "://" in url else "what was given"
        raise UserError(f"a study's database is named by a URL, postgresql://... or mysql://...; {shown} is none")
    allowed = OPTIONS[parsed.get_backend_name()]
    if refused := sorted(set(parsed.query) - allowed):
        raise UserError(
            f"a study's database: its URL may not have the option {refused[0]}; it may have "
            f"{', '.join(sorted(allowed))}, and its password before the @"
        )
    if set(parsed.host or "") & {*"/@%"} or set(parsed.database or "") & {*"=/?"}:  # a socket; a string of settings
        raise UserError("a study's database: its URL names no host and database, as in postgresql://host/name")
    return parsed
