"""Trials of one sweep that another one can learn from: those whose hyperparameters it searches, too."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from search_spaces.arms import backbone_in
from search_spaces.joint import JointSpace
from tune_jobs.search.trial_views import by_name, by_path, frozen
from tune_jobs.state.events import LearnedTrial
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import Trials


@dataclass(frozen=True)
class Transfer:
    """What was taken over, and why the rest was not."""

    taken: list[LearnedTrial] = field(default_factory=list)
    dropped: dict[int, str] = field(default_factory=dict)
    """The reason by the trial's number in the other sweep."""

    def lines(self) -> list[str]:
        """In words: how many were taken, and each reason with the number of trials that it dropped."""
        reasons = Counter(self.dropped.values())
        total = len(self.taken) + len(self.dropped)
        told = [f"  {count} dropped: {reason}" for reason, count in reasons.most_common()]
        return [f"{len(self.taken)} of {total} trials are used", *told]


def transfer(
    all_trials: Trials,
    space: JointSpace,
    objectives: Sequence[str],
    *,
    others: Sequence[str],
    arm_here: Callable[[TrialView], str] = lambda view: view.arm,
) -> Transfer:
    """The finished and stopped trials of ``all_trials`` that ``space`` could have drawn, with its distributions.

    ``objectives`` are those of this sweep, ``others`` those of the other one. Ranges may differ as long as the trial's
    values lie inside those of ``space``; names may not. The notes of the other sampler are left behind. ``arm_here``
    says which arm of this sweep a trial is of, or raises ValueError with the reason why of none.
    """

    def transferred(view: TrialView) -> LearnedTrial:
        if view.status not in (Status.COMPLETE, Status.STOPPED):
            raise ValueError("failed" if view.status is Status.FAILED else "never ended")
        if view.status is Status.COMPLETE and tuple(objectives) != tuple(others):
            raise ValueError(f"has the objectives {', '.join(others)}, this sweep {', '.join(objectives)}")
        if view.strategy not in space.strategies:
            raise ValueError(f"strategy '{view.strategy}' is not in this sweep")
        arm = arm_here(view)
        if arm not in space.searchable():
            raise ValueError(f"{arm} has nothing to search" if arm in space.arms else f"{arm} is not in this sweep")
        draft = space.redraw(arm, by_name(arm, view.params))
        trial = frozen(replace(view, backbone=backbone_in(arm)), space, others)
        return LearnedTrial(
            strategy=arm,
            params=by_path(arm, draft.params),
            complete=view.status is Status.COMPLETE,
            values=tuple(trial.values or ()),
            curve=trial.intermediate_values,
        )

    result = Transfer()
    for view in all_trials.all():
        try:
            result.taken.append(transferred(view))
        except ValueError as error:
            result.dropped[view.number] = str(error)
    return result
