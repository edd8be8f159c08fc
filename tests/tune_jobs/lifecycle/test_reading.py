from pathlib import Path

import pytest

from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings
from handclip_core.strategies import ZeroShot
from tests.tune_jobs.finals.conftest import write_sweep
from tune_jobs.lifecycle.reading import named_sweep, read_record


def test_a_sweep_is_found_by_its_folder_and_by_its_name_and_reading_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tiny"
    write_sweep(folder, ((ZeroShot(), 0.5),), backbone=BackboneSettings())
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert named_sweep(str(folder), "elsewhere") == folder
    assert named_sweep("tiny", str(tmp_path / "runs")) == folder
    sweep = read_record(folder)
    assert (sweep.settings.name, [view.score for view in sweep.all_trials.all()]) == ("tiny", [0.5])
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["tinny", "../runs", "no/such"])
def test_what_is_no_sweep_is_refused_by_name(tmp_path: Path, name: str) -> None:
    write_sweep(tmp_path / "runs" / "tiny", ((ZeroShot(), 0.5),), backbone=BackboneSettings())
    with pytest.raises(InputError, match="no sweep of this name"):
        read_record(named_sweep(name, str(tmp_path / "runs")))
