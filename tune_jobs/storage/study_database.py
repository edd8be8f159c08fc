"""Databases of Optuna studies, by URL: SQLite or PostgreSQL, opened, and errors in one line without a password."""

import importlib.util
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.storages._rdb.models import TrialUserAttributeModel
from optuna.study import Study, StudyDirection
from sqlalchemy import event, insert
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from handclip_core.errors import InputError

POSTGRESQL, SQLITE = "postgresql", "sqlite"


def open_storage(url: str) -> BaseStorage:
    """The storage at a URL; raises InputError if it cannot be reached."""
    complete = with_driver(url)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        # A connection that the server has closed meanwhile is noticed and opened again.
        return get_storage(RDBStorage(complete, engine_kwargs={"pool_pre_ping": True}))
    except (SQLAlchemyError, ImportError, StorageInternalError) as error:
        raise InputError(f"{shown(url)}: cannot open the study's database: {cause_of(error)}") from None


@contextmanager
def in_bulk(storage: BaseStorage) -> Iterator[None]:
    """Within the block SQLite does not wait for the disk, which takes longer than all else; for one's own database.

    A machine that loses power then may leave the database damaged; a process that is killed does not.
    """
    found: Any = storage  # Optuna puts a cache around the one that has the engine
    engine: Engine = found._backend.engine
    if engine.name != SQLITE:
        yield
        return
    event.listen(engine, "connect", _do_not_wait)
    engine.dispose()  # connections are opened anew
    try:
        yield
    finally:
        event.remove(engine, "connect", _do_not_wait)
        engine.dispose()


def _do_not_wait(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


def set_attributes(storage: BaseStorage, trial: int, values: Mapping[str, object]) -> None:
    """Give the trial of Optuna's id ``trial`` user attributes that it has not.

    All at once: Optuna's own way waits for the disk with each of them.
    """
    found: Any = storage
    rows = [{"trial_id": trial, "key": name, "value_json": json.dumps(value)} for name, value in values.items()]
    with found._backend.engine.begin() as connection:
        connection.execute(insert(TrialUserAttributeModel), rows)


def create_study(storage: BaseStorage, *, name: str, directions: Sequence[StudyDirection]) -> Study:
    """A new study; raises InputError if there is one of that name."""
    try:
        # A study has a sampler; nobody asks this one.
        return optuna.create_study(
            storage=storage, study_name=name, directions=directions, sampler=RandomSampler(seed=0)
        )
    except DuplicatedStudyError:
        raise InputError(f"the database has a study '{name}' already") from None


def find_study(url: str, *, name: str) -> Study | None:
    """The study ``name``, if there is one; raises InputError if the database cannot be opened."""
    storage = open_storage(url)
    if name not in [study.study_name for study in storage.get_all_studies()]:
        return None
    return optuna.load_study(storage=storage, study_name=name, sampler=RandomSampler(seed=0))


def taken(url: str, name: str) -> InputError:
    """The error of a name that another sweep's study has."""
    return InputError(f"{shown(url)}: has a study '{name}' already; choose another --name")


def refuse_taken(url: str, name: str | None) -> None:
    """Raise InputError if the database at ``url`` cannot be opened, or has a study ``name`` or of its arms."""
    for study in open_storage(url).get_all_studies():
        if name is not None and (study.study_name == name or study.study_name.startswith(f"{name}/")):
            raise taken(url, study.study_name)


def with_driver(url: str) -> str:
    """The URL with the driver that this project uses for PostgreSQL; raises InputError if it cannot be used."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InputError(f"'{url}': not the URL of a database; write postgresql://user@host/base") from None
    if parsed.get_backend_name() != POSTGRESQL:
        return url
    if importlib.util.find_spec("psycopg") is None:
        raise InputError(f"{shown(url)}: PostgreSQL needs the package psycopg; pip install 'psycopg[binary]'")
    return parsed.set(drivername=f"{POSTGRESQL}+psycopg").render_as_string(hide_password=False)


def shown(url: str) -> str:
    """The URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


def cause_of(error: Exception) -> str:
    """What was the matter, in one line."""
    cause = error.__cause__ or error.__context__ or error
    return (str(cause).splitlines() or [type(cause).__name__])[0]
