"""Whole sweeps whose storage is a bucket, on a server that speaks S3."""

import csv
import io
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from ray import PlacementGroupID
from ray.tune.experiment import Trial
from ray.util import placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup

from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings
from tests.conftest import TINY_DATA
from tests.payload import Payload
from tests.tune_jobs.conftest import ObjectStore
from tests.tune_jobs.dying import Killed
from tune_jobs.config.settings import EarlyStopping, SweepSettings
from tune_jobs.execution.callback import SweepCallback
from tune_jobs.execution.signals import end_workers
from tune_jobs.lifecycle.fitting import warm_up
from tune_jobs.lifecycle.reopening import reopen
from tune_jobs.lifecycle.run import Outcome, resume, sweep
from tune_jobs.state.events import Event, Saved, Validated
from tune_jobs.state.journal import FILE, joined, read_journal, write_journal
from tune_jobs.storage.location import BucketLocation, files_below, folder_of
from tune_jobs.storage.segments import read_segments


def tiny(backbones: dict[str, BackboneSettings], storage: BucketLocation, **changed: Any) -> SweepSettings:
    values: dict[str, Any] = {
        "name": "tiny",
        "data": TINY_DATA,
        "backbone": backbones["vit"],
        "strategies": ("zero_shot", "linear_probe"),
        "trials": 3,
        "budget": 2,
        "early_stopping": EarlyStopping(grace=1),
        "checkpoint_every_s": 0.0,
        "keep_checkpoints": 1,
        "storage": storage,
    }
    return SweepSettings(**values | changed)


def rows(place: BucketLocation) -> dict[str, dict[str, str]]:
    """The leaderboard's trials, as the bucket has them."""
    data = (place / "leaderboard.csv").read()
    assert data is not None
    return {row["trial"]: row for row in csv.DictReader(io.StringIO(data.decode())) if row["trial"]}


@pytest.fixture(scope="module")
def storage(object_store: ObjectStore) -> BucketLocation:
    return object_store.bucket("whole-sweeps") / "runs"


@pytest.fixture(scope="module")
def outcome(storage: BucketLocation, ray_cluster: None, tiny_backbones: dict[str, BackboneSettings]) -> Outcome:
    del ray_cluster
    return sweep(tiny(tiny_backbones, storage, early_stopping=EarlyStopping(grace=2)))


def test_a_machine_that_cannot_use_the_bucket_says_so_before_trials_begin(
    object_store: ObjectStore, tiny_backbones: dict[str, BackboneSettings]
) -> None:
    with pytest.raises(InputError, match="there is no bucket 'not-there'"):
        warm_up(tiny(tiny_backbones, object_store.place("not-there")).model_dump_json(), "cpu")


@pytest.mark.ray
def test_all_that_a_sweep_leaves_is_in_the_bucket(outcome: Outcome, storage: BucketLocation) -> None:
    assert outcome.exit_code == 0
    files = files_below(storage / "tiny")
    assert {"sweep.yaml", "study.db", "journal/000000.jsonl", "best/handclip_best.pth", "best/metrics.json"} <= {*files}
    assert [row["status"] for row in rows(storage / "tiny").values()] == ["complete"] * 3
    logs = {path.split("/")[1] for path in files if path.startswith("tensorboard/")}
    assert logs == {*(view.name for view in outcome.all_trials.all()), "best", "sweep"}
    of_trials = [path.split("/")[1:] for path in files if path.startswith("trials/")]
    with_weights = {parts[0] for parts in of_trials if parts[-1] == "handclip_final.pth"}
    assert with_weights == {outcome.all_trials.ranked()[0].name}, "one checkpoint is kept"
    with_log = {parts[0] for parts in of_trials if parts[-1] == "training_log.csv"}
    assert with_log == {view.name for view in outcome.all_trials.all()}
    assert not [path for path in files if path.startswith("driver.")], "the lock is released"
    assert not list(outcome.folder.glob("trials/*/checkpoint_*")), "states go straight to the bucket"


@pytest.mark.ray
def test_it_goes_on_from_the_bucket_alone_and_unpickles_nothing_from_it(
    outcome: Outcome, storage: BucketLocation, tmp_path: Path
) -> None:
    before = rows(storage / "tiny")
    for path in files_below(storage / "tiny"):
        if path.endswith((".pkl", ".json")) and path.count("/") == 1 and path.startswith("trials/"):
            (storage / "tiny" / path).write(pickle.dumps(Payload(tmp_path / "taken")))
    (storage / "tiny" / "trials/searcher-state-1.pkl").write(pickle.dumps(Payload(tmp_path / "taken")))
    shutil.rmtree(outcome.folder)
    found = reopen(storage / "tiny", name=None, overrides=[], extend=1)
    longer = resume(found.settings, found.folder)
    after = rows(storage / "tiny")
    assert len(longer.all_trials.all()) == len(after) == 4
    assert [after[number]["map"] for number in before] == [row["map"] for row in before.values()]
    assert (longer.folder / "best" / "metrics.json").read_bytes() == (storage / "tiny" / "best/metrics.json").read()
    assert not (tmp_path / "taken").exists()


@pytest.mark.ray
def test_a_driver_that_dies_is_followed_by_one_on_another_machine(
    storage: BucketLocation,
    ray_cluster: None,
    tiny_backbones: dict[str, BackboneSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del ray_cluster
    place, step_end = storage / "dying", SweepCallback.on_step_end

    def dying(self: SweepCallback, *, trials: Sequence[Trial] = (), **given: Any) -> None:
        if any(isinstance(event, Saved) and event.unit == 2 for event in events_in(place)):
            end_workers(trials)
            raise Killed
        step_end(self, trials=trials, **given)

    settings = tiny(tiny_backbones, storage, name="dying", strategies=("full",), trials=1, budget=4)
    with monkeypatch.context() as patch:
        patch.setattr(SweepCallback, "on_step_end", dying)
        with pytest.raises(Killed):
            sweep(settings)
    release_all()
    before = events_in(place)
    shutil.rmtree(folder_of(place))
    found = reopen(place, name=None, overrides=[])
    resumed = resume(found.settings, found.folder)
    assert events_in(place)[: len(before)] == before, "nothing that had happened is lost"
    (row,) = rows(place).values()
    assert (row["status"], row["unit"], row["attempts"]) == ("complete", "4", "2")
    units = [event.unit for event in events_in(place)[len(before) :] if isinstance(event, Validated)]
    assert units[0] > 1, "it went on from a saved state"
    assert resumed.exit_code == 0


def release_all() -> None:
    """What Ray does when a driver's process ends, which this one does not: take back what its trials held."""
    for name, group in placement_group_table().items():
        if group["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(name)))


def events_in(place: BucketLocation) -> list[Event]:
    with TemporaryDirectory() as folder:
        write_journal(Path(folder) / FILE, joined(read_segments(place)))
        return read_journal(Path(folder) / FILE)
