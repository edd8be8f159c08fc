"""Code hidden in a pickle is not run, whichever file of a sweep it stands in."""

import pickle
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from tests.payload import Payload
from tests.tune_jobs.simulated import run, settings
from tune_jobs.config.search import SamplerKind, Search
from tune_jobs.config.settings import SETTINGS, SweepSettings, load_settings
from tune_jobs.lifecycle.run import export
from tune_jobs.storage.location import files_below


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of a sweep by CMA-ES that is to have more trials."""
    storage = tmp_path_factory.mktemp("begun")
    run(_settings(storage, trials=4))
    return storage


def _settings(storage: Path, **changed: object) -> SweepSettings:
    search = Search(sampler=SamplerKind.CMAES, startup_trials=2)
    return settings(storage, search=search, strategies=("full",), budget=2, **changed)


def test_a_payload_is_not_run_from_any_file_that_a_resumed_or_exported_sweep_reads(begun: Path, tmp_path: Path) -> None:
    one_of_each = {file.rpartition("/")[2].split(".tfevents")[0]: file for file in files_below(begun / "simulated")}
    assert {"journal.jsonl", "study.db", SETTINGS, "leaderboard.csv", "handclip_best.pth"} <= set(one_of_each)
    for place, file in enumerate(one_of_each.values()):
        storage, mark = tmp_path / str(place), tmp_path / "mark"
        shutil.copytree(begun, storage)
        (storage / "simulated" / file).write_bytes(pickle.dumps(Payload(mark)))
        with suppress(Exception):  # refused or not: it must not be run
            load_settings(storage / "simulated" / SETTINGS)
        with suppress(Exception):
            run(_settings(storage, trials=5))
        with suppress(Exception):
            export(_settings(storage), storage / "simulated")
        assert not mark.exists(), file
        shutil.rmtree(storage)
