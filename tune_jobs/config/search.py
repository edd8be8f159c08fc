"""How a sweep searches: sampler, shares of the strategies, points to try, narrowed ranges, objectives, seeds."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from handclip_core.config import Config
from handclip_core.evaluation.metrics import Metrics
from handclip_core.runs.context import IDENTITIES
from handclip_core.tasks.base import Task
from search_spaces.joint import Draft, JointSpace
from search_spaces.narrowing import Narrowing
from tune_jobs.config.changes import MayChange

STRATEGY_KEY = "strategy"


class SamplerKind(StrEnum):
    """What suggests settings inside a strategy."""

    TPE = "tpe"
    RANDOM = "random"
    GP = "gp"
    CMAES = "cmaes"


class StrategyBandit(StrEnum):
    """Which strategy the next trial gets."""

    EQUAL = "equal"
    ADAPTIVE = "adaptive"


PARAMS_TRAINED, SECONDS = "params_trained", "seconds"
"""What a trial costs, which a sweep may search for beside metrics."""


def possible_objectives(metrics: Metrics) -> tuple[str, ...]:
    """All that a sweep may search for whose task has these metrics."""
    return (*metrics.names, PARAMS_TRAINED, SECONDS)


def maximized(objective: str) -> bool:
    """Whether more of ``objective`` is better."""
    return objective not in (PARAMS_TRAINED, SECONDS)


class Search(Config):
    """How the trials of a sweep are chosen and judged."""

    renamed: ClassVar[dict[str, str]] = {"calibrate": "power_analysis", "allocation": "strategy_bandit"}

    sampler: SamplerKind = SamplerKind.TPE
    """``tpe``: tree-structured Parzen estimators (Bergstra 2011; Watanabe 2023, arXiv 2304.11127). ``random``. ``gp``:
    a Gaussian process on what every trial of a strategy has, and TPE on the rest. ``cmaes``: CMA-ES on a strategy's
    numbers and TPE on its choices."""
    startup_trials: int = Field(10, ge=1)
    """Finished trials, defaults included, before the sampler trusts what it has seen; until then it draws at random.
    Inside a strategy its even share of them, and at least three."""
    strategy_bandit: StrategyBandit = StrategyBandit.ADAPTIVE
    """``equal`` gives every strategy as many trials; ``adaptive`` gives the next one to the strategy from which the
    largest improvement is expected, after two trials of each."""
    points: tuple[dict[str, Any], ...] = ()
    """Settings to try after the defaults: a strategy, and values by the path below it, as in
    ``{strategy: full, optim/lr: 1.0e-4}``; what is not given keeps its default."""
    ranges: dict[str, tuple[Any, ...]] = Field({})
    """Narrower ranges by path, ``optim/lr`` for every strategy that searches it or ``full/optim/lr`` for one: [low,
    high] for a number, the choices that stay for anything else."""
    replicas: int = Field(1, ge=1, le=100)
    """Seeds a configuration: its score is the mean over them. Those that the first seed's early stopping ends get no
    more."""
    objectives: tuple[str, ...] = ()
    """What to search for; the task's objective (of identities ``map``, validation mAP) is always among them. Beside it
    ``params_trained``, ``seconds`` of
    training and validation, ``retention``: the share of zero-shot mAP that fine-tuning leaves in place, or any other
    validation metric. With several there is no winner but a Pareto front."""
    power_analysis: bool = False
    """Run the baseline on five seeds first, and say what difference the sweep can see."""
    storage: MayChange[Annotated[str, Field(min_length=1)] | None] = None
    """URL of the database of the study, as in ``postgresql://user@host/base``; leave the password to PGPASSWORD or
    ~/.pgpass, since these settings are written beside the results. None for SQLite in the sweep's
    folder."""

    def judged_by(self, metrics: Metrics) -> "Search":
        """The same with the objective of ``metrics`` first; raises ValueError for an objective that is none of them."""
        main, known = metrics.objective.name, possible_objectives(metrics)
        unknown = [name for name in self.objectives if name not in known]
        if unknown:
            raise ValueError(f"objectives: unknown objective '{unknown[0]}'; choose from {', '.join(known)}")
        if self.objectives and (main not in self.objectives or len(set(self.objectives)) != len(self.objectives)):
            raise ValueError(f"objectives: name {main}, and each objective once")
        others = tuple(name for name in self.objectives if name != main)
        return self.model_copy(update={"objectives": (main, *others)})

    def space(self, strategies: Sequence[str], task: Task = IDENTITIES) -> JointSpace:
        """The spaces of ``strategies`` for ``task`` as narrowed here."""
        return JointSpace(tuple(strategies), Narrowing(self.ranges), task)

    def drafts(self, strategies: Sequence[str], task: Task = IDENTITIES) -> tuple[Draft, ...]:
        """The points to try, in order; raises ValueError for one that the narrowed space does not hold."""
        space = self.space(strategies, task)
        return tuple(_draft(space, number, point) for number, point in enumerate(self.points))

    def check(self, strategies: Sequence[str], task: Task = IDENTITIES) -> None:
        """Raise ValueError where ranges or points do not fit the spaces of ``strategies``, or sampler and objective."""
        if self.sampler is SamplerKind.CMAES and len(self.objectives) > 1:
            raise ValueError("search.sampler: cmaes knows one objective only; choose tpe, gp or random")
        try:
            self.space(strategies, task).check()
        except ValueError as error:
            raise ValueError(f"search.ranges: {error}") from None
        self.drafts(strategies, task)


def _draft(space: JointSpace, number: int, point: dict[str, Any]) -> Draft:
    where = f"search.points[{number}]"
    strategy = point.get(STRATEGY_KEY)
    if strategy not in space.strategies:
        what = f"'{strategy}' is not" if STRATEGY_KEY in point else "give a strategy,"
        raise ValueError(f"{where}: {what} one of {', '.join(space.strategies)}")
    try:
        return space.point(strategy, {path: value for path, value in point.items() if path != STRATEGY_KEY})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
