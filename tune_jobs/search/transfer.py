"""Trials of one sweep that another one can learn from: those whose hyperparameters it searches, too."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from search_spaces.joint import JointSpace
from tune_jobs.search.trial_views import by_name, by_path, frozen
from tune_jobs.state.events import LearnedTrial
from tune_jobs.state.trials import Records, Status, TrialRecord


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


def transfer(records: Records, space: JointSpace, objectives: Sequence[str], *, others: Sequence[str]) -> Transfer:
    """The finished and stopped trials of ``records`` that ``space`` could have drawn, with its distributions.

    ``objectives`` are those of this sweep, ``others`` those of the other one. Ranges may differ as long as the trial's
    values lie inside those of ``space``; names may not. The notes of the other sampler are left behind.
    """
    result = Transfer()
    for record in records.all():
        try:
            result.taken.append(_transferred(record, space, objectives, others))
        except ValueError as error:
            result.dropped[record.number] = str(error)
    return result


def _transferred(
    record: TrialRecord, space: JointSpace, objectives: Sequence[str], others: Sequence[str]
) -> LearnedTrial:
    if record.status not in (Status.COMPLETE, Status.STOPPED):
        raise ValueError("failed" if record.status is Status.FAILED else "never ended")
    if record.status is Status.COMPLETE and tuple(objectives) != tuple(others):
        raise ValueError(f"has the objectives {', '.join(others)}, this sweep {', '.join(objectives)}")
    if record.strategy not in space.strategies:
        raise ValueError(f"strategy '{record.strategy}' is not in this sweep")
    if record.strategy not in space.searchable():
        raise ValueError(f"{record.strategy} has nothing to search")
    draft = space.redraw(record.strategy, by_name(record.strategy, record.params))
    trial = frozen(record, space, others)
    return LearnedTrial(
        strategy=record.strategy,
        params=by_path(record.strategy, draft.params),
        complete=record.status is Status.COMPLETE,
        values=tuple(trial.values or ()),
        curve=trial.intermediate_values,
    )
