"""TensorBoard logs: a run a trial, with its hyperparameters written when it starts, and one of the whole sweep."""

import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # type: ignore[import-untyped]
from torch.utils.tensorboard import SummaryWriter

from search_spaces.suggest import Primitive
from tune_jobs.state.events import Ended, Event, Started, Trained, TrialEvent, Validated
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import Trials

FOLDER, SWEEP = "tensorboard", "sweep"
"""The folder of all logs, and the run of the whole sweep in it."""


class EventLogs:
    """The logs of a sweep's trials."""

    def __init__(self, folder: Path, texts: Collection[str] = ()) -> None:
        """Logs go into ``folder``; hyperparameters among ``texts`` are written as text, since TensorBoard cannot sort
        a column of several types.
        """
        self._folder = folder
        self._texts = texts
        self._writers: dict[int, SummaryWriter] = {}
        self._sweep: SummaryWriter | None = None
        self._over = 0
        self._best: dict[str, float] = {}
        self._units: dict[int, int] = {}

    def rebuild(self, events: Iterable[Event], all_trials: Trials, *, trials: Collection[int]) -> None:
        """Write the logs of ``trials`` and of the sweep anew from its events; those that are not over stay open."""
        self._over, self._best = 0, {}
        shutil.rmtree(self._folder / SWEEP, ignore_errors=True)
        for number in trials:
            shutil.rmtree(self._folder / all_trials.trials[number].name, ignore_errors=True)
        for event in events:
            if isinstance(event, TrialEvent) and event.trial in trials:
                self.happened(event, all_trials)
            elif isinstance(event, Ended):
                self._best_so_far(event, all_trials)

    def happened(self, event: Event, all_trials: Trials) -> None:
        """Follow one event. A trial that is tried again keeps its log; a unit that is trained again is not logged."""
        if isinstance(event, Started):
            self._start(all_trials.trials[event.trial])
        elif isinstance(event, Ended):
            self._end(all_trials.trials[event.trial])
            self._best_so_far(event, all_trials)
        elif isinstance(event, Validated | Trained) and event.replica == 0:
            self._start(all_trials.trials[event.trial])  # a trial that was taken over has no start of its own
            self._scalars(event)

    def _start(self, view: TrialView) -> None:
        """Open the log of a trial with its strategy and the hyperparameters that it has."""
        if view.number in self._writers:
            return
        writer = self._writers[view.number] = SummaryWriter(str(self._folder / view.name))
        told: dict[str, Primitive] = {"strategy": view.strategy}
        if view.backbone:
            told["backbone"] = view.backbone
        for name, value in view.params.items():
            if name in self._texts:
                told[name] = str(value).lower()
            elif value is not None:
                told[name] = value
        # A time of its own would make logs differ that are rebuilt.
        write_summary(writer, hparams_pb(told, trial_id=view.name, start_time_secs=0.0))

    def _scalars(self, event: Validated | Trained) -> None:
        """Write metrics, losses and learning rates over the images shown."""
        if event.unit <= self._units.get(event.trial, -1):
            return
        self._units[event.trial] = event.unit
        metrics = event.metrics if isinstance(event, Validated) else {}
        writer = self._writers[event.trial]
        for name, value in ({f"eval/{name}": value for name, value in metrics.items()} | event.training).items():
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
        write_summary(writer, Summary(value=[Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=about)]))
        writer.close()

    def _best_so_far(self, event: Ended, all_trials: Trials) -> None:
        """Write the best score of all trials and of each arm over the number of trials that are over."""
        view = all_trials.trials[event.trial]
        self._over += 1
        if not view.has_score:
            return
        if self._sweep is None:
            self._sweep = SummaryWriter(str(self._folder / SWEEP))
        for name in (f"all {all_trials.task.metrics.objective.name}", view.arm):
            self._best[name] = max(view.score, self._best.get(name, view.score))
        for name, score in self._best.items():
            self._sweep.add_scalar(f"best/{name}", score, self._over, walltime=event.at)
        self._sweep.flush()

    def close(self) -> None:
        """Close all logs that are still open."""
        if self._sweep is not None:
            self._sweep.close()
            self._sweep = None
        while self._writers:
            self._writers.popitem()[1].close()


def write_summary(writer: SummaryWriter, summary: Any) -> None:
    """Write what `SummaryWriter` has no method for."""
    writer._get_file_writer().add_summary(summary)
    writer.flush()
