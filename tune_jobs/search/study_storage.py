"""Where a study lives: SQLite in the sweep's folder, or a PostgreSQL database that it shares with other studies."""

import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import Study, StudyDirection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from handclip_core.errors import InputError
from tune_jobs.storage.retry import LONGEST_WAIT_S, PATIENCE_S

Value = TypeVar("Value")
POSTGRESQL, SQLITE = "postgresql", "sqlite"


def open_storage(url: str | None) -> BaseStorage | None:
    """The storage at a URL; None, for memory, without one. Raises InputError where it cannot be reached."""
    if url is None:
        return None
    complete = with_driver(url)
    try:
        # A connection that the server has closed meanwhile is noticed and opened again.
        return get_storage(RDBStorage(complete, engine_kwargs={"pool_pre_ping": True}))
    except (SQLAlchemyError, ImportError, StorageInternalError) as error:
        raise InputError(f"{shown(url)}: cannot open the study's database: {_first_line(error)}") from None


def create_study(url: str | None, *, name: str, directions: Sequence[StudyDirection]) -> Study:
    """A new study; raises InputError where the database has one of that name."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        # Draws come from elsewhere; the sampler of the study itself is never asked.
        return optuna.create_study(
            storage=open_storage(url), study_name=name, directions=directions, sampler=RandomSampler(seed=0)
        )
    except DuplicatedStudyError:
        raise InputError(f"{shown(url)}: has a study '{name}' already; choose another --name, or resume it") from None


def load_study(url: str, *, name: str) -> Study:
    """The study ``name``; raises InputError where there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file = make_url(with_driver(url)).database
    if url.startswith(SQLITE) and not (file and Path(file).is_file()):
        raise InputError(f"{file}: no such file; there is no study '{name}' to go on with")
    storage = open_storage(url)
    assert storage is not None
    names = [study.study_name for study in storage.get_all_studies()]
    if name not in names:
        held = f"it holds {', '.join(names)}" if names else "it is empty"
        raise InputError(f"{shown(url)}: no study '{name}'; {held}")
    return optuna.load_study(storage=storage, study_name=name, sampler=RandomSampler(seed=0))


def find_beside(study: Study, name: str) -> Study | None:
    """The study ``name`` in the storage of another one, if there is one."""
    if name not in [other.study_name for other in study._storage.get_all_studies()]:
        return None
    return optuna.load_study(storage=study._storage, study_name=name, sampler=RandomSampler(seed=0))


def create_beside(study: Study, name: str) -> Study:
    """A new study with the same objectives in the storage of another one."""
    return optuna.create_study(
        storage=study._storage, study_name=name, directions=study.directions, sampler=RandomSampler(seed=0)
    )


def with_driver(url: str) -> str:
    """The URL with the driver that this project uses for PostgreSQL; raises InputError where it cannot be used."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InputError(f"'{url}': not the URL of a database; write postgresql://user@host/base") from None
    if parsed.get_backend_name() != POSTGRESQL:
        return url
    if importlib.util.find_spec("psycopg") is None:
        raise InputError(f"{shown(url)}: PostgreSQL needs the package psycopg; pip install 'psycopg[binary]'")
    return parsed.set(drivername=f"{POSTGRESQL}+psycopg").render_as_string(hide_password=False)


def through_outages(action: Callable[[], Value], *, url: str | None) -> Value:
    """What ``action`` returns, tried again while the database is away or locked.

    Raises InputError where that lasts longer than ``PATIENCE_S``.
    """
    end, wait_s = time.monotonic() + PATIENCE_S, 0.1
    while True:
        try:
            return action()
        except StorageInternalError as error:
            if time.monotonic() >= end:
                raise InputError(f"{shown(url)}: the study cannot be written: {_first_line(error)}") from None
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def shown(url: str | None) -> str:
    """The URL without its password."""
    return "memory" if url is None else make_url(url).render_as_string(hide_password=True)


def _first_line(error: Exception) -> str:
    cause = error.__cause__ or error.__context__ or error
    return str(cause).splitlines()[0]
