from pathlib import Path

import pytest

from handclip_core.data.sources import PreparedData
from handclip_core.errors import InputError
from tune_jobs.config.settings import SweepSettings
from tune_jobs.lifecycle.folders import create_folder, refuse_taken_name, resolved


def settings(storage: Path) -> SweepSettings:
    return SweepSettings(name="mine", storage=storage)


def test_a_name_that_was_chosen_is_refused_when_taken(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="mine: exists already; choose another --name"):
        refuse_taken_name(settings(tmp_path), number_taken_names=False)
    with pytest.raises(InputError, match="mine: exists already; choose another --name"):
        create_folder(settings(tmp_path), number_taken_names=False)


def test_a_name_from_a_file_gets_the_next_free_number(tmp_path: Path) -> None:
    storage = settings(tmp_path / "runs")
    refuse_taken_name(storage, number_taken_names=True)
    made = [create_folder(storage, number_taken_names=True).name for _ in range(3)]
    assert made == ["mine", "mine-2", "mine-3"]


def test_a_storage_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"storage: .*/file/runs: cannot be written to \(Not a directory\)"):
        create_folder(settings(tmp_path / "file" / "runs"), number_taken_names=False)


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = PreparedData(source="prepared", folder=Path("data/11k"))
    found = resolved(settings(Path("runs")).model_copy(update={"data": data}), in_ray_job=False)
    assert found.storage == tmp_path / "runs"
    assert isinstance(found.data, PreparedData)
    assert found.data.folder == tmp_path / "data" / "11k"


def test_a_job_may_not_write_where_ray_deletes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="storage: 'runs' would lie in the job's own folder"):
        resolved(settings(Path("runs")), in_ray_job=True)
    assert resolved(settings(tmp_path), in_ray_job=True).storage == tmp_path
