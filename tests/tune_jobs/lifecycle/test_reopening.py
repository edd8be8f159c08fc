from pathlib import Path
from typing import Any

import pytest
import yaml

from handclip_core.errors import InputError
from handclip_core.runs.run_folder import write_text
from tests.tune_jobs.made_up import opened
from tests.tune_jobs.simulated import run
from tests.tune_jobs.simulated import settings as simulated
from tune_jobs.config.changes import changeable
from tune_jobs.config.settings import SETTINGS, SweepSettings, dump_settings, load_settings
from tune_jobs.lifecycle.reopening import reopen
from tune_jobs.state.journal import FILE, Journal, read_journal
from tune_jobs.state.sweep_state import SweepState
from tune_jobs.storage.location import BucketLocation


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


def ran(storage: Path, **changed: Any) -> SweepSettings:
    """Let a driver have run the sweep, with its settings but for what is ``changed``, and have died."""
    values = load_settings(storage / "mine" / SETTINGS).model_dump(mode="json") | changed
    settings = SweepSettings(**values)
    with Journal(storage / "mine" / FILE) as journal:
        state = SweepState(journal, read_journal(storage / "mine" / FILE))
        state.happened(opened(settings=settings.model_dump(mode="json")))
    return settings


def edit(where: Path, /, **changed: Any) -> None:
    """Change the sweep's settings file by hand."""
    values = yaml.safe_load((where / "mine" / SETTINGS).read_text())
    (where / "mine" / SETTINGS).write_text(yaml.safe_dump(values | changed))


def test_what_ran_last_may_go_on(storage: Path) -> None:
    settings = ran(storage)
    assert reopen(storage / "mine", name=None, overrides=[]).settings == settings
    assert reopen(settings_file(storage.parent), name=None, overrides=[]).settings == settings


OTHER_VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "data": ({"data": {"source": "drawn", "people": 99}}, "data.people 48 is now 99"),
    "backbone": ({"backbone": {"name": "RN50"}}, "backbone.name handclip-nano is now RN50"),
    "task": (
        {"task": {"name": "classes"}, "strategies": ["full"], "search": {"objectives": ["accuracy"]}},
        "task.name identities is now classes",
    ),
    "strategies": ({"strategies": ["full"]}, r"strategies \[.*\] is now \['full'\]"),
    "budget": ({"budget": 9}, "budget 8 is now 9"),
    "seed": ({"seed": 3}, "seed 0 is now 3"),
    "sampler": ({"search": {"sampler": "random"}}, "search.sampler tpe is now random"),
    "points": (
        {"search": {"points": [{"strategy": "full"}]}},
        r"search.points \[\] is now \[{'strategy': 'full'}\]",
    ),
    "ranges": (
        {"search": {"ranges": {"full/optim/lr": [1e-5, 1e-4]}}},
        r"search.ranges.full/optim/lr unset is now \[1e-05, 0.0001\]",
    ),
    "objectives": (
        {"search": {"objectives": ["map", "seconds"]}},
        r"search.objectives \['map'\] is now \['map', 'seconds'\]",
    ),
    "replicas": ({"search": {"replicas": 2}}, "search.replicas 1 is now 2"),
    "early_stopping": ({"early_stopping": {"kind": "none"}}, "early_stopping.kind per_strategy is now none"),
    "precision": ({"precision": "float32"}, "precision auto is now float32"),
    "warm_start": ({"warm_start": "/other"}, "warm_start None is now /other"),
}


@pytest.mark.parametrize(("changed", "message"), OTHER_VALUES.values(), ids=OTHER_VALUES)
def test_a_settings_file_that_was_edited_after_the_driver_died_is_refused_with_key_values_and_mend(
    storage: Path, changed: dict[str, Any], message: str
) -> None:
    ran(storage)
    edit(storage, **changed)
    mend = f"set that back in {storage}/mine/sweep.yaml, or --fork begins another sweep from it"
    with pytest.raises(InputError, match=f"^{storage}/mine: began with other settings .*{message}.*; {mend}$"):
        reopen(storage / "mine", name=None, overrides=[])


def test_every_setting_may_change_or_is_refused() -> None:
    """A new setting must be one or the other, and the test above must know it."""
    refused = {key.partition(".")[0] for changed, _ in OTHER_VALUES.values() for key in changed} | {"trials"}
    may = {key for key in changeable(SweepSettings) if "." not in key}
    assert refused | may == set(SweepSettings.model_fields)
    assert not refused & may


def test_trials_that_were_edited_are_refused_but_by_extend(storage: Path) -> None:
    ran(storage)
    edit(storage, trials=40)
    with pytest.raises(InputError, match=r"trials 30 is now 40\); set that back in .*, or --extend adds trials"):
        reopen(storage / "mine", name=None, overrides=[])
    assert reopen(storage / "mine", name=None, overrides=[], extend=5).settings.trials == 35
    with pytest.raises(InputError, match="trials 30 is now 50"):
        reopen(storage / "mine", name=None, overrides=["trials=50"], extend=5)


def test_a_sweep_that_was_extended_goes_on_with_all_of_its_trials(storage: Path) -> None:
    ran(storage, trials=45)
    edit(storage, trials=45)
    assert reopen(storage / "mine", name=None, overrides=[]).settings.trials == 45
    assert reopen(storage / "mine", name=None, overrides=[], extend=5).settings.trials == 50


def test_what_may_change_is_taken_from_a_settings_file_that_was_edited(storage: Path) -> None:
    before = ran(storage)
    changed: dict[str, Any] = {
        "limits": {"hours": 3},
        "resources": {"concurrent": 2},
        "retries": 0,
        "stall_minutes": 5.0,
        "keep_checkpoints": 9,
        "checkpoint_every_s": 0.0,
        "search": {"storage": "postgresql://me@host/base"},
    }
    edit(storage, **changed)
    assert reopen(storage / "mine", name=None, overrides=[]).settings == SweepSettings(
        **before.model_dump(mode="json") | changed
    )


def test_the_place_is_where_the_sweep_is_whatever_the_file_says(storage: Path) -> None:
    ran(storage)
    edit(storage, name="yours", storage="/elsewhere")
    found = reopen(storage / "mine", name=None, overrides=[])
    assert (found.folder, found.settings.storage) == (storage / "mine", storage)
    assert found.settings.name == "mine", "which its study has"


def test_the_last_driver_counts_if_several_have_run(storage: Path) -> None:
    ran(storage, trials=30)
    ran(storage, trials=40, retries=7)
    edit(storage, trials=40)
    found = reopen(storage / "mine", name=None, overrides=["retries=1"]).settings
    assert (found.trials, found.retries) == (40, 1)


def test_a_sweep_that_no_driver_has_opened_goes_by_its_file(storage: Path) -> None:
    edit(storage, budget=20)
    assert reopen(storage / "mine", name=None, overrides=[]).settings.budget == 20


def test_a_damaged_journal_is_refused(storage: Path) -> None:
    ran(storage)
    (storage / "mine" / FILE).write_text("{}\n")
    with pytest.raises(InputError, match=r"journal\.jsonl: line 1 has no checksum"):
        reopen(storage / "mine", name=None, overrides=[])


def test_of_a_bucket_too(bucket: BucketLocation) -> None:
    place = bucket / "simulated"
    run(simulated(bucket, trials=3))
    (place / SETTINGS).write(dump_settings(simulated(bucket)).encode())
    with pytest.raises(InputError, match=r"simulated\?.*: began with other settings \(trials 3 is now 9\)"):
        reopen(place, name=None, overrides=[])
    (place / SETTINGS).write(dump_settings(simulated(bucket, trials=3, retries=9)).encode())
    assert reopen(place, name=None, overrides=[], extend=2).settings == simulated(bucket, trials=5, retries=9)


def test_where_there_is_no_sweep_none_is_begun(storage: Path) -> None:
    with pytest.raises(InputError, match="other: no sweep to take up again; leave out --resume to begin one"):
        reopen(None, name="other", overrides=[f"storage={storage}"])
    assert not (storage / "other").exists()


def test_settings_that_cannot_be_read_are_refused(storage: Path) -> None:
    (storage / "mine" / SETTINGS).write_text("budget: [8")
    with pytest.raises(InputError, match=r"sweep\.yaml: line 1: not readable"):
        reopen(storage / "mine", name=None, overrides=[])
