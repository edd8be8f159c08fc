from pathlib import Path
from typing import Any, Literal

import pytest
from tensorboard.backend import application  # type: ignore[import-untyped]
from tensorboard.backend.event_processing import (  # type: ignore[import-untyped]
    data_provider,
)
from tensorboard.backend.event_processing import (
    plugin_event_multiplexer as event_multiplexer,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tensorboard.plugins import base_plugin  # type: ignore[import-untyped]
from tensorboard.plugins.hparams import hparams_plugin  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]
from werkzeug.test import Client

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Full
from search_spaces.suggest import Primitive
from tests.tune_jobs.made_up import MadeUpSweep, metrics, opened, validated
from tune_jobs.reporting.tensorboard import EventLogs
from tune_jobs.search.proposer import Proposal
from tune_jobs.state.events import Begun, Ended, Retried, SeedEnded, Started, Trained

TEXTS = ("strategy/neck/kind",)
EXPERIMENT = Experiment(strategy=Full())


def logged(folder: Path, params: dict[str, Primitive] | None = None) -> tuple[MadeUpSweep, EventLogs]:
    """A sweep with one trial under way, and its logs."""
    logs = EventLogs(folder, TEXTS)
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


def test_hyperparameters_are_there_as_soon_as_a_trial_starts_and_others_are_left_out(tmp_path: Path) -> None:
    params: dict[str, Primitive] = {"strategy/optim/lr": 1e-4, "strategy/augment/flip": True, "strategy/width": None}
    _, logs = logged(tmp_path, params | {"strategy/neck/kind": 3})
    hparams = plugin_data(tmp_path, "session_start_info").session_start_info.hparams
    assert hparams["strategy/optim/lr"].number_value == 1e-4
    assert hparams["strategy/augment/flip"].bool_value is True
    assert hparams["strategy/neck/kind"].string_value == "3", "a column that has texts has no numbers"
    assert hparams["strategy"].string_value == "full"
    assert len(hparams) == 4
    logs.close()


def test_tensorboard_gives_ranges_and_sorts_trials_by_a_rate_that_some_do_not_have(tmp_path: Path) -> None:
    sweep, logs = logged(tmp_path, {"strategy/optim/lr": 1e-3})
    for params in ({}, {"strategy/optim/lr": 1e-5}, {"strategy/optim/lr": None}):
        sweep.begin(Proposal(EXPERIMENT, dict(params), "sampled"))
    for view in list(sweep.all_trials.all()):
        sweep.complete(view, 0.5)
    logs.close()
    context = base_plugin.TBContext(data_provider=provider(tmp_path), logdir=str(tmp_path))
    app = application.TensorBoardWSGI([hparams_plugin.HParamsPlugin(context)])
    found = asked(app, "experiment", {})["hparamInfos"]
    rate = next(one for one in found if one["name"] == "strategy/optim/lr")
    assert (rate["type"], rate["domainInterval"]) == ("DATA_TYPE_FLOAT64", {"minValue": 1e-5, "maxValue": 1e-3})
    column = {"hparam": "strategy/optim/lr", "order": "ORDER_ASC"}
    wanted = {"colParams": [column], "startIndex": 0, "sliceSize": 10, "allowedStatuses": ["STATUS_SUCCESS"]}
    rows = asked(app, "session_groups", wanted)["sessionGroups"]
    assert [row["hparams"].get("strategy/optim/lr") for row in rows] == [1e-5, 1e-3, None, None]


def provider(folder: Path) -> data_provider.MultiplexerDataProvider:
    """What TensorBoard reads in ``folder``."""
    multiplexer = event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    return data_provider.MultiplexerDataProvider(multiplexer, str(folder))


def asked(app: Any, what: str, question: dict[str, Any]) -> Any:
    """The answer of TensorBoard's page of hyperparameters."""
    answer = Client(app).post(f"/data/plugin/hparams/{what}", json={"experimentName": ""} | question)
    assert answer.status_code == 200, answer.text
    return answer.json


def test_the_run_of_the_sweep_has_the_best_so_far_of_all_and_of_each_strategy(tmp_path: Path) -> None:
    sweep, logs = logged(tmp_path)
    sweep.complete(sweep.all_trials.trials[0], 0.4)
    failed = sweep.begin(Proposal(EXPERIMENT, {}, "sampled"))
    sweep.end(failed, "failed", reason="x")
    for score in (0.3, 0.6):
        sweep.complete(sweep.begin(Proposal(EXPERIMENT, {}, "sampled")), score)
    logs.close()
    seen = read(tmp_path, "sweep")
    for tag in ("best/all map", "best/full"):
        assert [(one.step, round(one.value, 6)) for one in seen.Scalars(tag)] == [(1, 0.4), (3, 0.4), (4, 0.6)]
    again = EventLogs(tmp_path / "again", TEXTS)
    again.rebuild(sweep.events, sweep.read_again(), trials=[2])
    again.close()
    assert [one.value for one in read(tmp_path / "again", "sweep").Scalars("best/full")] == [
        one.value for one in seen.Scalars("best/full")
    ]


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
    assert drawn["eval/map"] == drawn["eval/cmc1"] == [(200, 0.25), (300, 0.5)]
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
    assert [point[1:] for point in scalars(tmp_path)["eval/map"]] == [(100, 0.25), (200, 0.5), (300, 0.75)]
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
    sweep = MadeUpSweep(EventLogs(tmp_path, TEXTS))
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
    rebuilt = EventLogs(tmp_path / "rebuilt", TEXTS)
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
    logs = EventLogs(tmp_path, TEXTS)
    logs.rebuild(sweep.events, sweep.all_trials, trials=[running.number])
    sweep.exports = [logs]
    sweep.complete(running, 0.75)
    assert len(list((tmp_path / running.name).iterdir())) == 1, "the log of the dead driver has gone"
    assert [point[1:] for point in scalars(tmp_path)["eval/map"]] == [(100, 0.25), (200, 0.75)]
    assert {path: path.read_bytes() for path in (tmp_path / done.name).iterdir()} == before
