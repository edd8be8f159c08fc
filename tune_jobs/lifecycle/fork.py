"""A new sweep from another one: some settings changed, and the trials that the change leaves as they are taken over.

The new sweep's journal begins with trials that are over, would be the same now, and lie in its search space.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from handclip_core.runs.run_folder import link
from search_spaces.arms import backbone_in
from tune_jobs.config.settings import SweepSettings
from tune_jobs.reporting.tensorboard import FOLDER as EVENTS
from tune_jobs.scheduling.seeds import seeds_of
from tune_jobs.search.proposer import DEFAULT, SAMPLED, point_origin
from tune_jobs.search.trial_views import by_path
from tune_jobs.state.events import Begun, Ended, Event, Saved, SeedEnded, Trained, Validated
from tune_jobs.state.journal import FILE, Journal, read_journal
from tune_jobs.state.sweep_state import SweepState
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import TRIALS, Trials, folded

ABOUT_A_TRIAL = (Begun, Trained, Validated, SeedEnded, Saved, Ended)
"""What is taken over of a trial; who ran it when, and its failed attempts, are not."""


@dataclass(frozen=True)
class Fork:
    """What a new sweep takes over from the one in ``folder``."""

    folder: Path
    all_trials: Trials
    """The other sweep's, of which ``numbers`` are taken over: the new ones by the old ones."""
    numbers: Mapping[int, int]
    dropped: Counter[str]
    """Why others were left behind, and how many."""
    events: tuple[Event, ...]
    """The beginning of the new sweep's journal."""

    def lines(self) -> list[str]:
        """What is taken over and what is not, in words."""
        total = len(self.numbers) + self.dropped.total()
        told = [f"  {count} left behind: {reason}" for reason, count in self.dropped.most_common()]
        return [f"{len(self.numbers)} of {total} trials are taken over from {self.folder.name}", *told]

    def fill(self, made: Path) -> None:
        """Put the trials' files and the journal into a new sweep's folder, without copying if that can be."""
        for before, after in self.numbers.items():
            view = self.all_trials.trials[before]
            old, new = view.name, _renamed(view, after)
            for kind in (TRIALS, EVENTS):
                if (self.folder / kind / old).is_dir():
                    shutil.copytree(self.folder / kind / old, made / kind / new, copy_function=_link)
        with Journal(made / FILE) as journal:
            state = SweepState(journal, ())
            for event in self.events:
                state.happened(event)


def fork(folder: Path, before: SweepSettings, after: SweepSettings) -> Fork:
    """What a sweep with the settings ``after`` can take over from the one in ``folder``, which has those ``before``.

    Raises InputError if its journal cannot be read.
    """
    journal = read_journal(folder / FILE)
    all_trials = folded(journal)
    numbers: dict[int, int] = {}
    dropped: Counter[str] = Counter()
    for view in all_trials.all():
        reason = _obstacle(view, all_trials, before, after)
        if reason is None and len(numbers) == after.trials:
            reason = f"this sweep has only {after.trials} trials"
        if reason is None:
            numbers[view.number] = len(numbers)
        else:
            dropped[reason] += 1
    # Points that both sweeps try are called as in the new one; one that is none any more was sampled.
    points, kept = after.search.points, enumerate(before.search.points)
    origins = {point_origin(old): point_origin(points.index(point)) for old, point in kept if point in points}
    origins[DEFAULT] = DEFAULT
    events = _taken_over(journal, all_trials, numbers, folder.name, origins=origins, after=after)
    return Fork(folder, all_trials, numbers, dropped, tuple(events))


def _obstacle(view: TrialView, all_trials: Trials, before: SweepSettings, after: SweepSettings) -> str | None:
    """Why a trial cannot be taken over, None if it can."""
    if view.status not in (Status.COMPLETE, Status.STOPPED):
        return "failed" if view.status is Status.FAILED else "never ended"
    if view.strategy not in after.strategies:
        return f"strategy {view.strategy} is not in this sweep"
    backbone = view.experiment.backbone
    if backbone not in after.backbones:
        return "its backbone is not in this sweep"
    wanted = after.experiment(view.experiment.strategy, backbone)
    # In how many parts batches were computed says nothing of the settings.
    if wanted != view.experiment.model_copy(update={"micro_batch": None}):
        return "data, seed or budget differ"
    if view.status is Status.STOPPED and before.early_stopping != after.early_stopping:
        return "was stopped early by another rule"
    if view.status is Status.COMPLETE and max(1, len(view.seeds)) != seeds_of(view, all_trials, after):
        return "has another number of seeds"
    try:
        after.space.hold(view.experiment.strategy, backbone=backbone_in(after.arm_of(view.experiment)))
    except ValueError as error:
        return str(error)
    return None


def _taken_over(
    journal: Sequence[Event],
    all_trials: Trials,
    numbers: Mapping[int, int],
    source: str,
    *,
    origins: Mapping[str, str],
    after: SweepSettings,
) -> Iterable[Event]:
    """The events of the trials ``numbers`` under their new numbers and ``origins``, in their old order, all now.

    What was drawn is said in the words of the space of ``after``.
    """
    at = time.time()
    for event in journal:
        if not isinstance(event, ABOUT_A_TRIAL) or event.trial not in numbers:
            continue
        view, number = all_trials.trials[event.trial], numbers[event.trial]
        changed: dict[str, object] = {"at": at, "trial": number}
        if isinstance(event, Begun):
            changed |= {"source": f"{source} trial {event.trial}", "experiment": view.experiment}
            arm = after.arm_of(view.experiment)
            draft = after.space.hold(view.experiment.strategy, backbone=backbone_in(arm))
            changed |= {"params": by_path(draft.arm, draft.params)}
            # What the other sampler noted is about draws of its own.
            changed |= {"origin": origins.get(event.origin, SAMPLED), "notes": {}}
        if isinstance(event, Saved):
            # Of the states only the last one is still there.
            if event.checkpoint != view.checkpoint:
                continue
            changed["checkpoint"] = f"{TRIALS}/{_renamed(view, number)}/{Path(event.checkpoint).name}"
        yield event.model_copy(update=changed)


def _renamed(view: TrialView, number: int) -> str:
    return f"{number:04d}-{view.strategy}"


def _link(source: str, target: str) -> None:
    link(Path(source), Path(target))
