"""TensorBoard logs: one folder of events a trial, with its hyperparameters written when it starts."""

from collections.abc import Mapping, Sequence
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
from tune_jobs.state.trials import Status, TrialRecord

INACTIVE = "n/a"
"""Value of a hyperparameter that a trial's strategy does not have."""


class EventLogs:
    """The open logs of a sweep's running trials."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        """Logs go into ``folder``; ``names`` are the hyperparameters of all strategies together."""
        self._folder = folder
        self._names = names
        self._writers: dict[int, SummaryWriter] = {}

    def start(self, record: TrialRecord) -> None:
        """Open the log of a trial with its strategy and hyperparameters, those that it does not have as ``n/a``.

        A log that is open already, as that of a trial which is tried again, stays as it is.
        """
        if record.number in self._writers:
            return
        writer = SummaryWriter(str(self._folder / record.name))
        self._writers[record.number] = writer
        info = SessionStartInfo()
        for name, value in self._shown(record).items():
            _set(info, name, value)
        _write(writer, SESSION_START_INFO_TAG, HParamsPluginData(version=PLUGIN_DATA_VERSION, session_start_info=info))

    def scalars(self, record: TrialRecord, values: Mapping[str, float], *, images: int) -> None:
        """Write ``values`` at step ``images``."""
        writer = self._writers[record.number]
        for name, value in values.items():
            writer.add_scalar(name, value, images)
        writer.flush()

    def end(self, record: TrialRecord) -> None:
        """Write how a trial ended and close its log, if it was started."""
        writer = self._writers.pop(record.number, None)
        if writer is None:
            return
        info = SessionEndInfo(status=STATUS_FAILURE if record.status is Status.FAILED else STATUS_SUCCESS)
        _write(writer, SESSION_END_INFO_TAG, HParamsPluginData(version=PLUGIN_DATA_VERSION, session_end_info=info))
        writer.close()

    def close(self) -> None:
        """Close all logs that are still open."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _shown(self, record: TrialRecord) -> dict[str, Primitive]:
        drawn = {name: record.params.get(name, INACTIVE) for name in self._names}
        return {"strategy": record.strategy, **drawn}


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
