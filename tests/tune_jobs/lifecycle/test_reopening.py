from pathlib import Path
from typing import Any

import pytest

from handclip_core.errors import InputError
from handclip_core.runs.run_folder import write_text
from tune_jobs.config.settings import SETTINGS, SweepSettings, dump_settings
from tune_jobs.lifecycle.reopening import reopen


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage with a sweep called ``mine``."""
    settings = SweepSettings(name="mine", budget=8, trials=30, storage=tmp_path / "runs")
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    write_text(tmp_path / "runs" / "mine" / SETTINGS, dump_settings(settings))
    return tmp_path / "runs"


def settings_file(folder: Path, **changed: Any) -> Path:
    values = {"name": "mine", "budget": 8, "trials": 30, "storage": folder / "runs"}
    (folder / "settings.yaml").write_text(dump_settings(SweepSettings(**values | changed)))
    return folder / "settings.yaml"


def test_a_sweep_is_found_by_folder_by_settings_and_by_name(storage: Path) -> None:
    by_folder = reopen(storage / "mine", name=None, overrides=[])
    by_file = reopen(settings_file(storage.parent), name=None, overrides=[])
    by_own_file = reopen(storage / "mine" / SETTINGS, name=None, overrides=[])
    by_name = reopen(None, name="mine", overrides=[f"storage={storage}"])
    assert by_folder == by_file == by_own_file == by_name
    assert (by_folder.folder, by_folder.settings.budget) == (storage / "mine", 8)


def test_a_folder_that_was_moved_is_taken_up_where_it_is_now_with_its_studys_name(storage: Path) -> None:
    moved = storage.parent / "elsewhere" / "renamed"
    moved.parent.mkdir()
    (storage / "mine").rename(moved)
    found = reopen(moved, name=None, overrides=[])
    assert (found.folder, found.settings.storage, found.settings.name) == (moved, moved.parent, "mine")


def test_what_no_result_depends_on_may_change(storage: Path) -> None:
    overrides = ["limits.hours=3", "resources.concurrent=2", "retries=0", "keep_checkpoints=9"]
    found = reopen(storage / "mine", name=None, overrides=overrides).settings
    assert (found.limits.hours, found.resources.concurrent, found.retries, found.keep_checkpoints) == (3, 2, 0, 9)
    assert found.trials == 30


def test_extending_adds_trials(storage: Path) -> None:
    assert reopen(storage / "mine", name=None, overrides=[], extend=20).settings.trials == 50


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"budget": 20}, r"\(budget 8 is now 20\); resume it with its own, or --fork begins another sweep from it"),
        ({"trials": 40}, r"\(trials 30 is now 40\); resume it with its own, or --extend adds trials"),
        ({"early_stopping": {"grace": 1}}, r"\(early_stopping.grace 2 is now 1\)"),
        ({"data": {"source": "drawn", "people": 99}}, r"\(data.people 48 is now 99\)"),
        ({"search": {"replicas": 2}}, r"\(search.replicas 1 is now 2\)"),
    ],
)
def test_other_settings_are_refused_with_what_differs(storage: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"mine: began with other settings {message}") as refused:
        reopen(settings_file(storage.parent, **changed), name=None, overrides=[])
    assert "\n" not in str(refused.value)


def test_overrides_of_what_results_depend_on_are_refused_too(storage: Path) -> None:
    with pytest.raises(InputError, match="seed 0 is now 3"):
        reopen(storage / "mine", name=None, overrides=["seed=3"])


def test_where_there_is_no_sweep_none_is_begun(storage: Path) -> None:
    with pytest.raises(InputError, match="other: no sweep to take up again; leave out --resume to begin one"):
        reopen(None, name="other", overrides=[f"storage={storage}"])
    assert not (storage / "other").exists()


def test_settings_that_cannot_be_read_are_refused(storage: Path) -> None:
    (storage / "mine" / SETTINGS).write_text("budget: [8")
    with pytest.raises(InputError, match=r"sweep\.yaml: not readable"):
        reopen(storage / "mine", name=None, overrides=[])
