"""``--export``: all that is written for identities and other tools, made anew from the journal alone and without
Ray.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from typer.testing import CliRunner

from tests.tune_jobs.dying import Fuse, Killed
from tests.tune_jobs.simulated import run, settings, state_of
from tune_jobs.config.settings import SETTINGS, SweepSettings, load_settings
from tune_jobs.execution import cluster
from tune_jobs.lifecycle.exports import Exports, write_front
from tune_jobs.lifecycle.folders import BEST, create_folder
from tune_jobs.lifecycle.fork import fork
from tune_jobs.reporting.leaderboard import FILE as LEADERBOARD
from tune_jobs.reporting.leaderboard import write_leaderboard
from tune_jobs.reporting.study import FILE as STUDY
from tune_jobs.state.events import Mixed, Mixture
from tune_jobs.state.journal import FILE, Journal, read_journal
from tune_jobs.state.objectives import FRONT
from tune_jobs.state.trials import folded
from tune_jobs.storage.lease import SweepLease
from tune_jobs.storage.location import BucketLocation, StorageLocation, folder_of
from tune_jobs.sweep import app

MIXED = Mixed(
    at=2e9,
    mixtures=(
        Mixture(name="soup", status="mean of 1, 2", metrics={"map": 0.61, "cmc1": 0.5}),
        Mixture(name="wise-ft", status="1 at 0.7", metrics={"map": 0.2, "cmc1": 0.1}),
    ),
)


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where Ray would be started."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(cluster, "connect", started)
    monkeypatch.setattr("ray.init", started)


def exported(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*arguments, "--export"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def small(storage: StorageLocation, **changed: Any) -> SweepSettings:
    return settings(storage, **{"trials": 6, "budget": 3, "search": {"objectives": ("map", "seconds")}} | changed)


def ended(swept: SweepSettings) -> Path:
    """The folder of a sweep that has come to its end, with mixtures of its best trials."""
    ready = run(swept)
    with Journal(ready.folder / FILE) as journal:
        journal.append(MIXED)
    all_trials = folded(read_journal(ready.folder / FILE))
    write_leaderboard(all_trials, ready.folder)
    write_front(all_trials, swept, ready.folder)
    return ready.folder


def seen(folder: Path, name: str = "simulated") -> dict[str, Any]:
    """What identities and other tools see of a sweep: tables byte by byte, study and logs by what they hold."""
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{folder / STUDY}")
    return {
        "tables": [(folder / table).read_bytes() for table in (LEADERBOARD, FRONT) if (folder / table).exists()],
        "study": [
            (t.number, t.state, t.values, t.params, t.distributions, t.intermediate_values, t.user_attrs)
            for t in study.trials
        ],
        "directions": study.directions,
        "logs": {log.name: logged(log) for log in sorted((folder / "tensorboard").iterdir())},
    }


def logged(folder: Path) -> dict[str, Any]:
    """Scalars and hyperparameters of a trial's log."""
    events = EventAccumulator(str(folder))
    events.Reload()
    hparams = [tag for tag in events.summary_metadata if tag.startswith("_hparams_/")]
    return {tag: [(e.wall_time, e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]} | {
        tag: events.SummaryMetadata(tag).plugin_data.content for tag in hparams
    }


def forget(folder: Path) -> None:
    """Delete all that is exported."""
    for name in (STUDY, LEADERBOARD, FRONT):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "tensorboard")


def test_all_that_was_deleted_is_rebuilt_as_it_was(tmp_path: Path) -> None:
    folder = ended(small(tmp_path))
    before = seen(folder)
    assert before["tables"][0].count(b"\n") == 1 + 6 + 2
    assert b"mean of 1, 2" in before["tables"][0]
    assert len(before["tables"]) == 2
    assert len(before["logs"]) == 6 + 1, "and that of the sweep"
    journal = (folder / FILE).read_bytes()
    forget(folder)
    assert exported(str(folder))[0] == 0
    assert seen(folder) == before
    code, output = exported("--name", "simulated", "--set", f"storage={tmp_path}")
    lines = len(journal.splitlines())
    assert (code, output) == (
        0,
        "-- leaderboard, report, study and TensorBoard logs of 6 trials are written anew from "
        f"{lines} lines of the journal\n",
    )
    assert seen(folder) == before, "with all of it there, and found by its name"
    assert (folder / FILE).read_bytes() == journal, "the journal is only read"


def test_a_sweep_whose_driver_died_shows_what_had_happened_by_then(fuse: Fuse, tmp_path: Path) -> None:
    fuse.length, one = 100, small(tmp_path, search={})
    with pytest.raises(Killed):
        run(one)
    fuse.length = float("inf")
    assert exported(str(tmp_path / "simulated"))[0] == 0
    found = seen(tmp_path / "simulated")
    all_trials = folded(read_journal(tmp_path / "simulated" / FILE))
    assert len(all_trials.unfinished()) > 0
    assert [trial[0] for trial in found["study"]] == list(all_trials.trials)
    assert found["tables"][0].count(b"running") == 1
    run(one)
    run(one.model_copy(update={"storage": tmp_path / "whole"}))
    assert state_of(tmp_path / "simulated") == state_of(tmp_path / "whole" / "simulated")


def test_a_fork_keeps_the_logs_of_the_trials_that_it_took_over(tmp_path: Path) -> None:
    run(small(tmp_path))
    before = load_settings(tmp_path / "simulated" / SETTINGS)
    after = before.model_copy(update={"name": "second", "trials": 7})
    found = fork(tmp_path / "simulated", before, after)
    create_folder(after, number_taken_names=False, fill=found.fill)
    run(after)
    forget(tmp_path / "second")
    assert exported(str(tmp_path / "second"))[0] == 0
    first, second = seen(tmp_path / "simulated")["logs"], seen(tmp_path / "second", "second")["logs"]
    for logs in (first, second):
        assert "best/all map" in logs.pop("sweep")
    assert list(second)[:6] == list(first)
    assert all("eval/map" in log for log in second.values())
    for name, log in first.items():
        assert [point[1:] for point in second[name]["eval/map"]] == [point[1:] for point in log["eval/map"]]


def test_a_study_can_be_written_into_another_database(tmp_path: Path) -> None:
    folder, url = ended(small(tmp_path)), f"sqlite:///{tmp_path / 'other.db'}"
    assert exported(str(folder), "--set", f"search.storage={url}")[0] == 0
    assert len(optuna.load_study(study_name="simulated", storage=url).trials) == 6


def test_a_damaged_journal_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    folder = ended(small(tmp_path))
    lines = (folder / FILE).read_bytes().splitlines(keepends=True)
    (folder / FILE).write_bytes(b"".join(lines[:7] + lines[8:]))
    before = seen(folder)
    code, output = exported(str(folder))
    assert code == 2
    assert output.startswith(f"error: {folder / FILE}: line 8 was changed, or one before it is missing, ")
    assert len(output.splitlines()) == 1
    assert seen(folder) == before


def test_a_sweep_that_is_being_run_is_refused(tmp_path: Path) -> None:
    folder = ended(small(tmp_path))
    before = seen(folder)
    with SweepLease(folder):
        code, output = exported(str(folder))
    assert code == 2
    assert output.startswith(f"error: {folder}: is being run by process {os.getpid()} on ")
    assert len(output.splitlines()) == 1
    assert seen(folder) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}", "--resume"], "--resume or --extend and --export: choose one"),
        (["{folder}", "--fork", "x"], "--fork and --export: choose one"),
        (["--dry-run"], "--dry-run: looks at new sweeps only"),
        (["{folder}", "--set", "budget=9"], "began with other settings (budget 3 is now 9)"),
        (["{folder}", "--set", "search.storage=nothing"], "not the URL of a database"),
        (["nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--name", "gone", "--set", "storage={storage}"], "gone: no sweep to take up again"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_two(tmp_path: Path, arguments: list[str], message: str) -> None:
    run(small(tmp_path, trials=3))
    words = {"folder": tmp_path / "simulated", "storage": tmp_path}
    code, output = exported(*(argument.format(**words) for argument in arguments))
    assert code == 2
    assert output.startswith("error: ")
    assert message in output
    assert len(output.splitlines()) == 1


def test_of_a_sweep_in_a_bucket_the_bucket_gets_them(bucket: BucketLocation) -> None:
    folder, place = ended(small(bucket)), bucket / "simulated"
    before = (folder / LEADERBOARD).read_bytes()
    for name in (LEADERBOARD, FRONT, STUDY):
        (place / name).delete()
    shutil.rmtree(folder)
    # The mixtures were only in the local copy of the journal, so the bucket does not know them.
    assert exported(str(place))[0] == 0
    assert folder_of(place) == folder
    written = (place / LEADERBOARD).read()
    assert written is not None
    assert written.splitlines()[0] == before.splitlines()[0]
    assert len(written.splitlines()) == 1 + 6
    assert (place / FRONT).read() is not None
    assert (place / STUDY).read() is not None


def test_images_are_beside_the_trial_that_was_exported_though_another_is_better(tmp_path: Path) -> None:
    swept = small(tmp_path)
    folder = ended(swept)
    all_trials = folded(read_journal(folder / FILE))
    _, second, *_ = all_trials.ranked()
    (folder / BEST).mkdir()
    (folder / BEST / "config.json").write_text(second.experiment.model_dump_json())
    exports = Exports(folder, swept, all_trials)
    exports.open(read_journal(folder / FILE))
    exports.show_best({"queries 0.jpg": b"hands"})
    exports.close()
    study = optuna.load_study(study_name="simulated", storage=f"sqlite:///{folder / STUDY}")
    attributes = study._storage.get_study_system_attrs(study._study_id)
    (key,) = (key for key in attributes if key.startswith("dashboard:artifacts:"))
    assert study.trials[second.number]._trial_id == int(key.split(":")[2])
