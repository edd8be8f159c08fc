"""What is written from a sweep's journal for people and other tools; the sweep itself never reads it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from optuna.distributions import CategoricalDistribution

from handclip_core.runs.run_folder import read_experiment, write_text
from search_spaces.arms import under
from search_spaces.inventory import inventory
from tune_jobs.config.settings import SweepSettings
from tune_jobs.lifecycle.folders import BEST
from tune_jobs.lifecycle.trackers import Trackers
from tune_jobs.reporting import tensorboard
from tune_jobs.reporting.study import ARTIFACTS, StudyExport
from tune_jobs.reporting.study import FILE as STUDY
from tune_jobs.reporting.tensorboard import EventLogs
from tune_jobs.state.events import Event
from tune_jobs.state.objectives import FRONT, front_csv, pareto_front
from tune_jobs.state.trials import Trials
from tune_jobs.storage.location import location_of


class Exports:
    """Study, TensorBoard logs and trackers' runs of a sweep; the callback writes the leaderboard, not so often."""

    def __init__(self, folder: Path, settings: SweepSettings, all_trials: Trials, *, searched: bool = True) -> None:
        """Exports into ``folder``; nothing is written before ``open``. What was not ``searched`` has no study."""
        self._folder, self._all_trials = folder, all_trials
        self._logs = EventLogs(folder / tensorboard.FOLDER, names_of_several_types(settings))
        where = location_of(settings.storage, folder)
        place = where.resolve().as_uri() if isinstance(where, Path) else str(where)
        study = StudyExport(
            study_url(settings, folder),
            name=settings.name,
            space=settings.space,
            objectives=settings.search.objectives,
            artifacts=folder / ARTIFACTS,
            place=place,
        )
        # A fixed list draws nothing that a study could show.
        self._study = study if searched else None
        self._trackers = Trackers(settings.tracking, sweep=settings.name, place=place, folder=folder)

    def open(self, events: Sequence[Event], *, all_logs: bool = False) -> None:
        """Write what follows from ``events``: the study, and the logs of unfinished trials, or ``all_logs``.

        Raises InputError if the study's database cannot be opened, or has another sweep's study of this name.
        """
        all_trials = self._all_trials.all() if all_logs else self._all_trials.unfinished()
        self._logs.rebuild(events, self._all_trials, trials=[view.number for view in all_trials])
        if self._study is not None:
            self._study.rebuild(self._all_trials)
        self._trackers.open(events, self._all_trials, everything=all_logs)

    def happened(self, event: Event, all_trials: Trials) -> None:
        """Follow one event."""
        self._logs.happened(event, all_trials)
        if self._study is not None:
            self._study.happened(event, all_trials)
        self._trackers.happened(event, all_trials)

    def show_best(self, images: Mapping[str, bytes]) -> None:
        """Show ``images`` of the trial in the folder ``best``, by file name, beside it in the study."""
        if self._study is None or not images:
            return
        best = read_experiment(self._folder / BEST)
        number = next((view.number for view in self._all_trials.ranked() if view.experiment == best), None)
        if number is not None:
            self._study.show_images(number, images)

    def close(self) -> None:
        """Complete all."""
        self._logs.close()
        if self._study is not None:
            self._study.close(self._all_trials)
        self._trackers.close()


def write_front(all_trials: Trials, settings: SweepSettings, folder: Path) -> None:
    """Write the Pareto front of a sweep of several objectives; nothing for one."""
    objectives = settings.search.objectives
    if len(objectives) > 1:
        write_text(folder / FRONT, front_csv(pareto_front(all_trials, objectives), objectives))


def study_url(settings: SweepSettings, folder: Path) -> str:
    """The database of the study of the sweep in ``folder``."""
    return settings.search.storage or f"sqlite:///{folder / STUDY}"


def names_of_several_types(settings: SweepSettings) -> set[str]:
    """The hyperparameters, by the field's path in an experiment, that are a number here and a text there."""
    found: dict[str, set[type]] = {}
    for strategy in settings.strategies:
        for name, part in inventory(strategy, settings.task).items():
            path = under("strategy", name)
            values = part.choices if isinstance(part, CategoricalDistribution) else (0.0,)
            # Whole numbers and others can be sorted together.
            kinds = {float if type(value) is int else type(value) for value in values if value is not None}
            found.setdefault(path, set()).update(kinds)
    return {path for path, kinds in found.items() if len(kinds) > 1}
