"""TensorBoard logs: one folder of events a trial, with its hyperparameters written when it starts."""

import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # type: ignore[import-untyped]
from torch.utils.tensorboard import SummaryWriter

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
        elif isinstance(event, Validated | Trained) and event.replica == 0:
            self._start(all_trials.trials[event.trial])  # a trial that was taken over has no start of its own
            self._scalars(event)

    def _start(self, view: TrialView) -> None:
        """Open the log of a trial with its strategy and hyperparameters, those that it does not have as ``n/a``."""
        if view.number in self._writers:
            return
        writer = self._writers[view.number] = SummaryWriter(str(self._folder / view.name))
        values = {"strategy": view.strategy} | {name: view.params.get(name, INACTIVE) for name in self._names}
        told = {name: "none" if value is None else value for name, value in values.items()}
        # A time of its own would make logs differ that are rebuilt.
        _write(writer, hparams_pb(told, trial_id=view.name, start_time_secs=0.0))

    def _scalars(self, event: Validated | Trained) -> None:
        """Write metrics, losses and learning rates over the images shown."""
        if event.unit <= self._units.get(event.trial, -1):
            return
        self._units[event.trial] = event.unit
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
        status = api_pb2.STATUS_FAILURE if view.status is Status.FAILED else api_pb2.STATUS_SUCCESS
        end = plugin_data_pb2.HParamsPluginData(session_end_info=plugin_data_pb2.SessionEndInfo(status=status))
        about = metadata.create_summary_metadata(end)
        _write(writer, Summary(value=[Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=about)]))
        writer.close()

    def close(self) -> None:
        """Close all logs that are still open."""
        while self._writers:
            self._writers.popitem()[1].close()


def _write(writer: SummaryWriter, summary: Any) -> None:
    writer._get_file_writer().add_summary(summary)
    writer.flush()
