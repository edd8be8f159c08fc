"""How a sweep searches: sampler, shares of the strategies, points to try, narrowed ranges, objectives, seeds."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from handclip_core.config import Config
from handclip_core.evaluation.metrics import Metrics
from handclip_core.tasks import IDENTITIES
from handclip_core.tasks.base import Task
from search_spaces.arms import backbone_in, strategy_in
from search_spaces.fixed import Fixed
from search_spaces.joint import Draft, JointSpace
from search_spaces.narrowing import Narrowing
from tune_jobs.config.changes import MayChange

STRATEGY_KEY, BACKBONE_KEY = "strategy", "backbone"


class SamplerKind(StrEnum):
    """What suggests settings inside a strategy."""

    TPE = "tpe"
    RANDOM = "random"
    GP = "gp"
    CMAES = "cmaes"


class StrategyBandit(StrEnum):
    """Which strategy the next trial gets, and which of several backbones."""

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
    Inside a strategy, on one of several backbones, its even share of them, and at least three."""
    strategy_bandit: StrategyBandit = StrategyBandit.ADAPTIVE
    """``equal`` gives every strategy as many trials; ``adaptive`` gives the next one to the strategy from which the
    largest improvement is expected, after two trials of each. With several backbones that goes for every strategy on
    each, and what counts is the improvement a second at first, the improvement a trial at the end."""
    points: tuple[dict[str, Any], ...] = ()
    """Settings to try after the defaults: a strategy, and values by the path below it, as in
    ``{strategy: full, optim/lr: 1.0e-4}``; what is not given keeps its default. A ``backbone``, as tables call it,
    says on which of several; without it, on each."""
    ranges: dict[str, tuple[Any, ...]] = Field({})
    """Narrower ranges by path, ``optim/lr`` for every strategy that searches it, ``full/optim/lr`` for one or
    ``full@ViT-B-32/optim/lr`` for one on one of several backbones: [low, high] for a number, the choices that stay for
    anything else."""
    fixed: dict[str, Any] = Field({})
    """Settings that every trial has in place of its default, by path: ``losses/own`` for every strategy with that
    setting, ``full/optim/clip_norm`` for one. What is searched is narrowed by ``ranges``."""
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

    def space(self, arms: Sequence[str], task: Task = IDENTITIES) -> JointSpace:
        """The spaces of ``arms`` for ``task`` as narrowed here."""
        return JointSpace(tuple(arms), Narrowing(self.ranges), task, Fixed(self.fixed))

    def drafts(self, arms: Sequence[str], task: Task = IDENTITIES) -> tuple[tuple[int, Draft], ...]:
        """The points to try, in order, each by its place; raises ValueError for one that the space does not hold."""
        space = self.space(arms, task)
        return tuple(
            (place, draft) for place, point in enumerate(self.points) for draft in _drafts(space, place, point)
        )

    def check(self, arms: Sequence[str], task: Task = IDENTITIES) -> None:
        """Raise ValueError where ranges, settings that stay or points do not fit the spaces of ``arms``, or sampler
        and objective."""
        if self.sampler is SamplerKind.CMAES and len(self.objectives) > 1:
            raise ValueError("search.sampler: cmaes knows one objective only; choose tpe, gp or random")
        space = self.space(arms, task)
        for key, check in (("ranges", space.check), ("fixed", space.check_fixed)):
            try:
                check()
            except ValueError as error:
                raise ValueError(f"search.{key}: {error}") from None
        self.drafts(arms, task)


def _drafts(space: JointSpace, number: int, point: dict[str, Any]) -> list[Draft]:
    """What a point leads to on every backbone that it means."""
    where = f"search.points[{number}]"
    strategy, backbone = point.get(STRATEGY_KEY), point.get(BACKBONE_KEY)
    if strategy not in space.strategies:
        what = f"'{strategy}' is not" if STRATEGY_KEY in point else "give a strategy,"
        raise ValueError(f"{where}: {what} one of {', '.join(space.strategies)}")
    possible = [arm for arm in space.arms if strategy_in(arm) == strategy]
    arms = [arm for arm in possible if backbone in (None, backbone_in(arm))]
    if not arms:
        known = ", ".join(map(backbone_in, possible))
        mend = f"choose from {known}" if known else "the sweep has one backbone; leave it out"
        raise ValueError(f"{where}: backbone: there is no '{backbone}' for {strategy}; {mend}")
    values = {path: value for path, value in point.items() if path not in (STRATEGY_KEY, BACKBONE_KEY)}
    try:
        return [space.point(arm, values) for arm in arms]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
