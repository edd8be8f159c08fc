"""Databases of Optuna studies: SQLite in a sweep's folder, or a PostgreSQL database shared with other studies."""

import importlib.util
from collections.abc import Sequence

import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import Study, StudyDirection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from handclip_core.errors import InputError

POSTGRESQL = "postgresql"


def open_storage(url: str) -> BaseStorage:
    """The storage at a URL; raises InputError if it cannot be reached."""
    complete = with_driver(url)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        # A connection that the server has closed meanwhile is noticed and opened again.
        return get_storage(RDBStorage(complete, engine_kwargs={"pool_pre_ping": True}))
    except (SQLAlchemyError, ImportError, StorageInternalError) as error:
        cause = error.__cause__ or error.__context__ or error
        raise InputError(f"{shown(url)}: cannot open the study's database: {str(cause).splitlines()[0]}") from None


def create_study(url: str, *, name: str, directions: Sequence[StudyDirection]) -> Study:
    """A new study; raises InputError if the database cannot be opened, or has one of that name."""
    try:
        return optuna.create_study(
            storage=open_storage(url), study_name=name, directions=directions, sampler=RandomSampler(seed=0)
        )
    except DuplicatedStudyError:
        raise InputError(f"{shown(url)}: has a study '{name}' already") from None


def find_study(url: str, *, name: str) -> Study | None:
    """The study ``name``, if there is one; raises InputError if the database cannot be opened."""
    storage = open_storage(url)
    if name not in [study.study_name for study in storage.get_all_studies()]:
        return None
    return optuna.load_study(storage=storage, study_name=name, sampler=RandomSampler(seed=0))


def delete_study(study: Study) -> None:
    """Remove a study with its trials."""
    optuna.delete_study(study_name=study.study_name, storage=study._storage)


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
