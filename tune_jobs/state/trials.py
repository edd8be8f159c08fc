"""What the driver knows of all trials, computed from the events of the sweep."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from handclip_core.models.backbone import BackboneSettings
from handclip_core.tasks import IDENTITIES, AnyTask
from tune_jobs.config.backbones import labels_in
from tune_jobs.state import events
from tune_jobs.state.events import Event, LearnedTrial, Mixture, Opened, TrialEvent
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.usage import Usage

TRIALS = "trials"
"""The folder of all trials in a sweep's."""
_TASK: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)


@dataclass
class Trials:
    """All trials of a sweep, by number, and what they have used."""

    trials: dict[int, TrialView] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    sweep: str = ""
    """What tells this sweep from any other."""
    settings: dict[str, Any] | None = None
    """Those of its last driver."""
    learned: tuple[LearnedTrial, ...] | None = None
    """What the search has learned from another sweep; None if that has not been read."""
    mixtures: tuple[Mixture, ...] = ()
    """Mixtures of its best trials, if it has come to its end."""
    backbones: dict[BackboneSettings, str] = field(default_factory=dict)
    """What its backbones are called; empty if there is only one."""
    awaits_result: bool = False
    """Whether a driver is at work, and no trial has had a result from it yet."""
    # What a driver asks for again and again must not take longer the more trials are over.
    _unfinished: dict[int, TrialView] = field(default_factory=dict, repr=False, compare=False)
    _holding: dict[int, TrialView] = field(default_factory=dict, repr=False, compare=False)
    _best_over: TrialView | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for view in self.trials.values():
            self._note(view)

    def apply(self, event: Event) -> None:
        """Take one more event into account."""
        self.usage.apply(event)
        match event:
            case events.Created():
                self.sweep = event.sweep
            case Opened() | events.Closed():
                self.awaits_result = isinstance(event, Opened)
                for view in self.unfinished():
                    view.status = Status.WAITING if isinstance(event, Opened) else Status.INTERRUPTED
                if isinstance(event, Opened):
                    self._opened(event)
            case events.Learned():
                self.learned = event.trials
            case events.Mixed():
                self.mixtures = event.mixtures
            case events.Begun():
                begun = TrialView(event.trial, event.experiment.strategy.name, event.params, event.experiment)
                begun.origin, begun.source, begun.notes = event.origin, event.source, event.notes
                begun.backbone = self.backbones.get(event.experiment.backbone, "")
                self.trials[event.trial] = begun
                self._note(begun)
            case _ if isinstance(event, TrialEvent):
                self.awaits_result &= not isinstance(event, events.Trained | events.Validated)
                view = self.trials[event.trial]
                view.apply(event)
                self._note(view)
            case _:
                pass

    def _note(self, view: TrialView) -> None:
        for place, belongs in ((self._unfinished, not view.status.over), (self._holding, bool(view.states))):
            if belongs:
                place[view.number] = view
            else:
                place.pop(view.number, None)
        if view.status.over:
            self._best_over = _best_of(view, self._best_over)

    def _opened(self, event: Opened) -> None:
        """Only the settings say how many backbones there are, and trials that were taken over stand before them."""
        self.settings, self.mixtures = event.settings, ()
        self.backbones = labels_in(event.settings.get("backbone"))
        for view in self.trials.values():
            view.backbone = self.backbones.get(view.experiment.backbone, "")

    @property
    def task(self) -> AnyTask:
        """What the sweep's trials learn."""
        return _TASK.validate_python((self.settings or {}).get("task", IDENTITIES))

    def all(self) -> list[TrialView]:
        """Every trial in the order of suggestion."""
        return list(self.trials.values())

    def unfinished(self) -> list[TrialView]:
        """Trials that are not over, in the order of suggestion."""
        return list(self._unfinished.values())

    def holding(self) -> list[TrialView]:
        """Trials with a saved state."""
        return [self._holding[number] for number in sorted(self._holding)]

    def ranked(self) -> list[TrialView]:
        """Every trial: those with a score from best to worst, the earlier of equals first, then all others."""
        return sorted(self.all(), key=lambda view: (not view.has_score, -view.score if view.has_score else 0))

    @property
    def best(self) -> TrialView | None:
        """The trial with the highest score so far, if any has one."""
        return _best_of(self._best_over, *self._unfinished.values())

    @property
    def winner(self) -> TrialView | None:
        """The best of the trials that no worker runs and whose best weights have been saved."""
        # While a worker runs, its next state may take the place of these weights.
        return _best_of(*(view for view in self.all() if view.best_is_saved and view.status is not Status.RUNNING))

    def num_over(self) -> int:
        """Trials that will never run again."""
        return len(self.trials) - len(self._unfinished)


def _best_of(*views: TrialView | None) -> TrialView | None:
    """The trial with the highest score, the earliest of equals; None if none has a score."""
    scored = (view for view in views if view is not None and view.has_score)
    return max(scored, key=lambda view: (view.score, -view.number), default=None)


def by_arm(views: Iterable[TrialView]) -> dict[str, list[TrialView]]:
    """Trials by strategy and backbone, in the order of the first of each."""
    found: dict[str, list[TrialView]] = {}
    for view in views:
        found.setdefault(view.arm, []).append(view)
    return found


def folded(happened: Iterable[Event]) -> Trials:
    """What the driver knows of every trial after the events that ``happened``."""
    all_trials = Trials()
    for event in happened:
        all_trials.apply(event)
    return all_trials
