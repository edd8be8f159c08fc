"""A sweep as its journal tells it: what the sections of the report are made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from handclip_core.evaluation.metrics import Metric
from tune_jobs.config.settings import SweepSettings
from tune_jobs.reporting.charts import Palette
from tune_jobs.state.events import Event
from tune_jobs.state.trial import TrialView
from tune_jobs.state.trials import Trials, by_arm, folded
from tune_jobs.storage.location import StorageLocation


@dataclass(frozen=True)
class SweepRecord:
    """The sweep at ``where`` with all that has happened; ``folder`` is its folder or local copy."""

    where: StorageLocation
    folder: Path
    settings: SweepSettings
    events: Sequence[Event]

    @cached_property
    def all_trials(self) -> Trials:
        """What follows from the events."""
        return folded(self.events)

    @property
    def objective(self) -> Metric:
        """What trials are ranked by."""
        return self.settings.task.metrics.objective

    @cached_property
    def by_arm(self) -> dict[str, list[TrialView]]:
        """Trials by strategy and backbone, those with the best trial first."""
        return by_arm(self.all_trials.ranked())

    @cached_property
    def palette(self) -> Palette:
        """The colours of the arms."""
        return Palette(self.settings.arms)


def scored(views: Sequence[TrialView]) -> list[TrialView]:
    """Those with a score."""
    return [view for view in views if view.has_score]
