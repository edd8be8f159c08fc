"""Trials of one study that another one can use: those whose hyperparameters it searches too."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces.joint import JointSpace
from search_spaces.spaces import STRATEGY
from tune_jobs.search.trial_views import STRATEGY_ATTRIBUTE

USABLE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Transfer:
    """What was taken over, and why the rest was not."""

    taken: list[FrozenTrial] = field(default_factory=list)
    dropped: dict[int, str] = field(default_factory=dict)
    """The reason by the trial's number in the other study."""

    def lines(self) -> list[str]:
        """In words: how many were taken, and each reason with the number of trials that it dropped."""
        reasons = Counter(self.dropped.values())
        total = len(self.taken) + len(self.dropped)
        told = [f"  {count} dropped: {reason}" for reason, count in reasons.most_common()]
        return [f"{len(self.taken)} of {total} trials are used", *told]


def transfer(trials: Sequence[FrozenTrial], space: JointSpace, *, num_objectives: int) -> Transfer:
    """The finished and stopped ones of ``trials`` that ``space`` could have drawn, with its distributions.

    Ranges may differ as long as the trial's values lie inside those of ``space``; names may not. The notes of the other
    study's sampler are left behind.
    """
    result = Transfer()
    for trial in trials:
        try:
            result.taken.append(_transferred(trial, space, num_objectives))
        except ValueError as error:
            result.dropped[trial.number] = str(error)
    return result


def _transferred(trial: FrozenTrial, space: JointSpace, num_objectives: int) -> FrozenTrial:
    if trial.state not in USABLE:
        raise ValueError({TrialState.FAIL: "failed"}.get(trial.state, "never ended"))
    if trial.state is TrialState.COMPLETE and len(trial.values) != num_objectives:
        raise ValueError(f"has {len(trial.values)} objectives, this sweep {num_objectives}")
    strategy = trial.user_attrs.get(STRATEGY_ATTRIBUTE)
    if strategy not in space.strategies:
        raise ValueError(f"strategy '{strategy}' is not in this sweep")
    if strategy not in space.searchable():
        raise ValueError(f"{strategy} has nothing to search")
    draft = space.redraw(strategy, {name: value for name, value in trial.params.items() if name != STRATEGY})
    return create_trial(
        state=trial.state,
        values=trial.values,
        params=draft.params,
        distributions=draft.distributions,
        user_attrs=dict(trial.user_attrs),
        intermediate_values=dict(trial.intermediate_values),
    )
