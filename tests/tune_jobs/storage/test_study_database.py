"""Databases of studies: how SQLite is written."""

from pathlib import Path

from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import create_trial

from tune_jobs.storage.study_database import create_study, in_bulk, open_storage


def waits(storage: BaseStorage) -> list[int]:
    """Whether connections wait for the disk, as SQLite says it: 0 for none, 2 for all that is written."""
    backend = storage._backend  # type: ignore[attr-defined]
    assert isinstance(backend, RDBStorage)
    with backend.engine.connect() as one, backend.engine.connect() as other:
        return [int(each.exec_driver_sql("PRAGMA synchronous").scalar() or 0) for each in (one, other)]


def test_sqlite_does_not_wait_for_the_disk_within_the_block_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    storage = open_storage(url)
    assert waits(storage) == [2, 2]
    with in_bulk(storage):
        assert waits(storage) == [0, 0]
        study = create_study(storage, name="one", directions=(StudyDirection.MAXIMIZE,))
        study.add_trial(create_trial(value=1.0))
    assert waits(storage) == [2, 2]
    study.add_trial(create_trial(value=2.0))
    assert len(RDBStorage(url).get_all_trials(study._study_id)) == 2
