"""TensorBoard logs: one folder of events a trial, with its hyperparameters written when it starts."""

import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.metadata import (  # type: ignore[import-untyped]
    PLUGIN_DATA_VERSION,
    PLUGIN_NAME,
    SESSION_END_INFO_TAG,
    SESSION_START_INFO_TAG,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import (  # type: ignore[import-untyped]
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from torch.utils.tensorboard import SummaryWriter

from search_spaces.suggest import Primitive
from tune_jobs.state.events import Ended, Event, Started, Trained, TrialEvent, Validated
from tune_jobs.state.trials import Status, Trials, TrialView

FOLDER = "tensorboard"
INACTIVE = "n/a"
"""Value of a hyperparameter that a trial's strategy does not have."""


class EventLogs:
    """The logs of a sweep's trials."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        """Logs go into ``folder``; ``names`` are the hyperparameters of all strategies together."""
        self._folder = folder
        self._names = names
        self._writers: dict[int, SummaryWriter] = {}
        self._units: dict[int, int] = {}

    def rebuild(self, events: Iterable[Event], all_trials: Trials, *, trials: Collection[int]) -> None:
        """Write the logs of ``trials`` anew from the events of a sweep; those that are not over stay open."""
        for number in trials:
            shutil.rmtree(self._folder / all_trials.trials[number].name, ignore_errors=True)
        for event in events:
            if isinstance(event, TrialEvent) and event.trial in trials:
                self.happened(event, all_trials)

    def happened(self, event: Event, all_trials: Trials) -> None:
        """Follow one event. A trial that is tried again keeps its log; a unit that is trained again is not logged."""
        if isinstance(event, Started):
            self._start(all_trials.trials[event.trial])
        elif isinstance(event, Ended):
            self._end(all_trials.trials[event.trial])
        elif isinstance(event, Validated | Trained) and event.replica == 0 and self._is_new(event):
            self._units[event.trial] = event.unit
            self._start(all_trials.trials[event.trial])  # a trial that was taken over has no start of its own
            self._scalars(event)

    def _is_new(self, event: Validated | Trained) -> bool:
        return event.unit > self._units.get(event.trial, -1)

    def _start(self, view: TrialView) -> None:
        """Open the log of a trial with its strategy and hyperparameters, those that it does not have as ``n/a``."""
        if view.number in self._writers:
            return
        writer = SummaryWriter(str(self._folder / view.name))
        self._writers[view.number] = writer
        info = SessionStartInfo()
        for name, value in self._shown(view).items():
            _set(info, name, value)
        _write(writer, SESSION_START_INFO_TAG, HParamsPluginData(version=PLUGIN_DATA_VERSION, session_start_info=info))

    def _scalars(self, event: Validated | Trained) -> None:
        """Write metrics, losses and learning rates over the images shown."""
        metrics = event.metrics if isinstance(event, Validated) else {}
        writer = self._writers[event.trial]
        for name, value in ({f"val/{name}": value for name, value in metrics.items()} | event.training).items():
            writer.add_scalar(name, value, event.images, walltime=event.at)
        writer.flush()

    def _end(self, view: TrialView) -> None:
        """Write how a trial ended and close its log, if it was started."""
        writer = self._writers.pop(view.number, None)
        if writer is None:
            return
        info = SessionEndInfo(status=STATUS_FAILURE if view.status is Status.FAILED else STATUS_SUCCESS)
        _write(writer, SESSION_END_INFO_TAG, HParamsPluginData(version=PLUGIN_DATA_VERSION, session_end_info=info))
        writer.close()

    def close(self) -> None:
        """Close all logs that are still open."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _shown(self, view: TrialView) -> dict[str, Primitive]:
        drawn = {name: view.params.get(name, INACTIVE) for name in self._names}
        return {"strategy": view.strategy, **drawn}


def _set(info: Any, name: str, value: Primitive) -> None:
    if isinstance(value, bool):
        info.hparams[name].bool_value = value
    elif isinstance(value, int | float):
        info.hparams[name].number_value = value
    else:
        info.hparams[name].string_value = "none" if value is None else value


def _write(writer: SummaryWriter, tag: str, content: Any) -> None:
    plugin = SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME, content=content.SerializeToString())
    value = Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))
    writer._get_file_writer().add_summary(Summary(value=[value]))
    writer.flush()
