from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Full
from search_spaces.suggest import Primitive
from tune_jobs.reporting.tensorboard import EventLogs
from tune_jobs.state.trials import Status, TrialRecord

NAMES = ("strategy/optim/lr", "strategy/augment/flip", "strategy/neck/kind", "strategy/width")


def record(params: dict[str, Primitive] | None = None) -> TrialRecord:
    return TrialRecord(4, "full", params or {}, Experiment(strategy=Full()))


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder / "0004-full"))
    events.Reload()
    return events


def plugin_data(folder: Path, tag: str) -> Any:
    metadata = read(folder).SummaryMetadata(f"_hparams_/{tag}")
    return HParamsPluginData.FromString(metadata.plugin_data.content)


def test_hyperparameters_are_there_as_soon_as_a_trial_starts_inactive_ones_marked(tmp_path: Path) -> None:
    logs = EventLogs(tmp_path, NAMES)
    logs.start(record({"strategy/optim/lr": 1e-4, "strategy/augment/flip": True, "strategy/neck/kind": "bn"}))
    hparams = plugin_data(tmp_path, "session_start_info").session_start_info.hparams
    assert hparams["strategy/optim/lr"].number_value == 1e-4
    assert hparams["strategy/augment/flip"].bool_value is True
    assert hparams["strategy/neck/kind"].string_value == "bn"
    assert hparams["strategy/width"].string_value == "n/a"
    assert hparams["strategy"].string_value == "full"
    logs.close()


def test_scores_are_drawn_over_the_images_shown(tmp_path: Path) -> None:
    logs = EventLogs(tmp_path, NAMES)
    logs.start(record())
    for images, value in ((100, 0.25), (200, 0.5)):
        logs.scalars(record(), {"val/map": value}, images=images)
    assert [(event.step, event.value) for event in read(tmp_path).Scalars("val/map")] == [(100, 0.25), (200, 0.5)]
    logs.close()


@pytest.mark.parametrize(("status", "told"), [(Status.COMPLETE, STATUS_SUCCESS), (Status.FAILED, STATUS_FAILURE)])
def test_the_end_of_a_trial_is_written(tmp_path: Path, status: Status, told: int) -> None:
    logs = EventLogs(tmp_path, NAMES)
    ended = record()
    logs.start(ended)
    ended.status = status
    logs.end(ended)
    assert plugin_data(tmp_path, "session_end_info").session_end_info.status == told


def test_a_trial_that_never_started_has_no_log_to_end(tmp_path: Path) -> None:
    EventLogs(tmp_path, NAMES).end(record())
    assert not list(tmp_path.iterdir())
