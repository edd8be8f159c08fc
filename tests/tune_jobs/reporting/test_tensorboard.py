from pathlib import Path
from typing import Any, Literal

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Full
from search_spaces.suggest import Primitive
from tests.tune_jobs.made_up import MadeUpSweep, metrics, opened, validated
from tune_jobs.reporting.tensorboard import EventLogs
from tune_jobs.search.proposer import Proposal
from tune_jobs.state.events import Begun, Ended, Retried, SeedEnded, Started, Trained

NAMES = ("strategy/optim/lr", "strategy/augment/flip", "strategy/neck/kind", "strategy/width")
EXPERIMENT = Experiment(strategy=Full())


def logged(folder: Path, params: dict[str, Primitive] | None = None) -> tuple[MadeUpSweep, EventLogs]:
    """A sweep with one trial under way, and its logs."""
    logs = EventLogs(folder, NAMES)
    sweep = MadeUpSweep(logs)
    sweep.begin(Proposal(EXPERIMENT, params or {}, "sampled"))
    return sweep, logs


def read(folder: Path, name: str = "0000-full") -> EventAccumulator:
    events = EventAccumulator(str(folder / name))
    events.Reload()
    return events


def scalars(folder: Path) -> dict[str, list[tuple[float, int, float]]]:
    """All that is drawn: times, images and values by tag."""
    events = read(folder)
    return {
        tag: [(event.wall_time, event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def plugin_data(folder: Path, tag: str) -> Any:
    metadata = read(folder).SummaryMetadata(f"_hparams_/{tag}")
    return HParamsPluginData.FromString(metadata.plugin_data.content)


def test_hyperparameters_are_there_as_soon_as_a_trial_starts_inactive_ones_marked(tmp_path: Path) -> None:
    _, logs = logged(tmp_path, {"strategy/optim/lr": 1e-4, "strategy/augment/flip": True, "strategy/neck/kind": "bn"})
    hparams = plugin_data(tmp_path, "session_start_info").session_start_info.hparams
    assert hparams["strategy/optim/lr"].number_value == 1e-4
    assert hparams["strategy/augment/flip"].bool_value is True
    assert hparams["strategy/neck/kind"].string_value == "bn"
    assert hparams["strategy/width"].string_value == "n/a"
    assert hparams["strategy"].string_value == "full"
    logs.close()


def trained(unit: int, **training: float) -> Trained:
    return Trained(at=0.0, trial=0, unit=unit, images=100 * unit, seconds=1, params_trained=1, training=training)


def test_scores_losses_and_rates_are_drawn_over_the_images_shown(tmp_path: Path) -> None:
    sweep, logs = logged(tmp_path)
    sweep.happened(
        trained(1, **{"loss/identity": 3.0}),
        validated(0, 2, 0.25, training={"loss/identity": 2.0, "lr/head": 0.5}),
        validated(0, 3, 0.5, training={"loss/identity": 1.0, "lr/head": 0.25}),
    )
    drawn = {tag: [point[1:] for point in points] for tag, points in scalars(tmp_path).items()}
    assert drawn["val/map"] == drawn["val/cmc1"] == [(200, 0.25), (300, 0.5)]
    assert drawn["loss/identity"] == [(100, 3.0), (200, 2.0), (300, 1.0)]
    assert drawn["lr/head"] == [(200, 0.5), (300, 0.25)]
    logs.close()


def test_units_that_are_trained_again_and_those_of_other_seeds_are_not_drawn(tmp_path: Path) -> None:
    sweep, logs = logged(tmp_path)
    sweep.happened(
        validated(0, 1, 0.25),
        validated(0, 2, 0.5),
        Retried(at=0.0, trial=0, reason="lost"),
        Started(at=0.0, trial=0),
        validated(0, 1, 0.26),
        validated(0, 2, 0.51),
        validated(0, 3, 0.75),
        SeedEnded(at=0.0, trial=0, metrics=metrics(0.75)),
        Started(at=0.0, trial=0),
        validated(0, 4, 0.99, replica=1),
    )
    assert [point[1:] for point in scalars(tmp_path)["val/map"]] == [(100, 0.25), (200, 0.5), (300, 0.75)]
    logs.close()


@pytest.mark.parametrize(
    ("status", "told"), [("complete", STATUS_SUCCESS), ("stopped", STATUS_SUCCESS), ("failed", STATUS_FAILURE)]
)
def test_the_end_of_a_trial_is_written(
    tmp_path: Path, status: Literal["complete", "stopped", "failed"], told: int
) -> None:
    sweep, _ = logged(tmp_path)
    sweep.end(sweep.all_trials.trials[0], status)
    assert plugin_data(tmp_path, "session_end_info").session_end_info.status == told


def test_a_trial_that_never_started_has_no_log_to_end(tmp_path: Path) -> None:
    sweep = MadeUpSweep(EventLogs(tmp_path, NAMES))
    sweep.happened(
        Begun(at=0.0, trial=0, params={}, experiment=EXPERIMENT), Ended(at=0.0, trial=0, status="failed", reason="x")
    )
    assert not list(tmp_path.iterdir())


def test_logs_that_are_rebuilt_show_what_those_showed_that_were_written_as_it_went(tmp_path: Path) -> None:
    params: dict[str, Primitive] = {"strategy/optim/lr": 1e-4}
    sweep, logs = logged(tmp_path / "went", params)
    sweep.score(sweep.all_trials.trials[0], 0.25, 0.5)
    sweep.happened(opened(sweep.clock()), Started(at=sweep.clock(), trial=0))
    sweep.complete(sweep.all_trials.trials[0], 0.75)
    logs.close()
    rebuilt = EventLogs(tmp_path / "rebuilt", NAMES)
    rebuilt.rebuild(sweep.events, sweep.read_again(), trials=[0])
    rebuilt.close()
    assert scalars(tmp_path / "rebuilt") == scalars(tmp_path / "went")
    for tag in ("session_start_info", "session_end_info"):
        assert plugin_data(tmp_path / "rebuilt", tag) == plugin_data(tmp_path / "went", tag)


def test_the_next_driver_writes_the_logs_of_unfinished_trials_anew_and_goes_on_with_them(tmp_path: Path) -> None:
    sweep, dead = logged(tmp_path)
    running = sweep.all_trials.trials[0]
    sweep.score(running, 0.25)
    done = sweep.begin(Proposal(EXPERIMENT, {}, "sampled"))
    sweep.complete(done, 0.5)
    before = {path: path.read_bytes() for path in (tmp_path / done.name).iterdir()}
    dead.close()
    logs = EventLogs(tmp_path, NAMES)
    logs.rebuild(sweep.events, sweep.all_trials, trials=[running.number])
    sweep.exports = [logs]
    sweep.complete(running, 0.75)
    assert len(list((tmp_path / running.name).iterdir())) == 1, "the log of the dead driver has gone"
    assert [point[1:] for point in scalars(tmp_path)["val/map"]] == [(100, 0.25), (200, 0.75)]
    assert {path: path.read_bytes() for path in (tmp_path / done.name).iterdir()} == before
