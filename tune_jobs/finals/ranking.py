"""The finals' result: who is how good, who beats whom, and what that says of each strategy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isnan
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from handclip_core.evaluation.bootstrap import Comparison
from handclip_core.evaluation.metrics import Metrics
from handclip_core.evaluation.seeds import SeedEstimate, beats, compare_seeds, estimate_seeds, sample_seeds
from handclip_core.evaluation.units import Evaluation
from handclip_core.runs.baselines import BaselineGap
from handclip_core.runs.final_scores import Facts
from handclip_core.strategies import UNTRAINED
from handclip_core.tasks import IDENTITIES, AnyTask
from search_spaces.arms import strategy_in
from search_spaces.inventory import inventory
from tune_jobs.config.backbones import as_it_is
from tune_jobs.finals.candidates import Finalist
from tune_jobs.finals.mixtures import Entrant, Kind
from tune_jobs.finals.past_sweep import Searched
from tune_jobs.reporting.summary import BASELINE
from tune_jobs.state.usage import HOUR_S

MIN_TRIALS, MIN_BUDGETS = 10, 3
"""A strategy with hyperparameters is searched enough by so many trials (random ones hit the best fifth of all settings
with a probability of 0.89), and if it trains by the units of so many whole budgets, as early stopping ends trials."""


class Verdict(StrEnum):
    """What the finals say of a strategy."""

    WINNER = "winner"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference shown"
    NOT_SEARCHED = "not searched enough to say"


@dataclass(frozen=True, eq=False)
class Standing:
    """An entrant with its figures: the objective, its gap to the first, and P(it beats its backbone as it is).

    ``others`` are means over seeds of the other metrics that the finals show, by name. ``gap`` is None for the first,
    ``beats_zero_shot`` where that did not run or is the entrant itself; a fusion is held against the best of its own.
    """

    entrant: Entrant
    score: SeedEstimate
    others: dict[str, float]
    gap: Comparison | None
    beats_zero_shot: float | None

    @property
    def name(self) -> str:
        """What the entrant is called."""
        return self.entrant.name


@dataclass(frozen=True, eq=False)
class BaselineStanding:
    """A baseline of pixels or gradients: its figures, which no seed moves, and its ``gap`` to the winner.

    ``beats_zero_shot`` is against the best of the backbones as they are; None if none of them ran.
    """

    name: str
    score: SeedEstimate
    others: dict[str, float]
    gap: Comparison
    beats_zero_shot: float | None

    @property
    def to_winner(self) -> BaselineGap:
        """By how much the winner is above it."""
        return BaselineGap(
            name=self.name,
            value=self.score.mean,
            difference=-self.gap.difference,
            low=-self.gap.high,
            high=-self.gap.low,
        )


@dataclass(frozen=True, eq=False)
class Standings:
    """All entrants, best mean first, and so the ``baselines``; ``wins`` [M, M] holds P(row beats column)."""

    rows: tuple[Standing, ...]
    wins: NDArray[np.float64]
    baselines: tuple[BaselineStanding, ...] = ()

    @property
    def winner(self) -> Standing:
        """The first."""
        return self.rows[0]

    @property
    def baseline_beaten(self) -> bool:
        """Whether the winner is shown to beat the best baseline; not if there is none."""
        return bool(self.baselines) and self.baselines[0].to_winner.beaten

    @property
    def zero_shot(self) -> Standing | None:
        """The winner's backbone as it is, of a fusion the best of them; None if that did not run."""
        of_winner = self.winner.entrant.recipe.backbones
        rows = (row for row in self.rows if _is_zero_shot(row.entrant))
        return next((row for row in rows if row.entrant.recipe.backbone in of_winner), None)

    @property
    def untrained(self) -> Finalist:
        """A configuration on the backbone that the winner is held against before any training."""
        return (self.zero_shot or self.winner).entrant.recipe.members[0]

    @property
    def as_it_is(self) -> str:
        """What that backbone is called in sentences; with its name if the winner has several."""
        called = as_it_is(self.untrained.experiment.backbone)
        several = len(self.winner.entrant.recipe.backbones) > 1
        return f"{called} ({self.untrained.backbone})" if several else called

    @property
    def task(self) -> AnyTask:
        """What the entrants learned."""
        return self.rows[0].entrant.recipe.task

    @property
    def with_baselines(self) -> list[Standing | BaselineStanding]:
        """Entrants and baselines together, best mean first."""
        return sorted((*self.rows, *self.baselines), key=lambda row: -row.score.mean)


@dataclass(frozen=True)
class Cost:
    """What a trial holds while it runs, ``each`` of them: GPUs if ``on_gpus``, else CPU cores.

    GPUs are counted by the clock. The work of CPUs is counted in the time that processors spent on it, which neighbours
    on the machine do not lengthen as they do the clock's.
    """

    on_gpus: bool
    each: float

    def held_hours(self, seconds: float) -> float:
        """GPU-hours or core-hours that are held for so many seconds."""
        return seconds * self.each / HOUR_S

    def work_s(self, facts: Facts) -> float:
        """Seconds of training of a run: by the clock on GPUs, of processors on CPUs; NaN if those were not measured."""
        return facts.train_s if self.on_gpus else facts.cpu_s

    def work_hours(self, seconds: float) -> float:
        """GPU-hours or CPU-hours of so many such seconds."""
        return self.held_hours(seconds) if self.on_gpus else seconds / HOUR_S


@dataclass(frozen=True, eq=False)
class StrategyVerdict:
    """A strategy at its ``best`` on a backbone, against the winner.

    ``searched`` is what the sweep spent on its trials, ``search_hours`` the hours that their GPUs or cores were held
    for it; ``fit_hours`` is what training it once took (all its members), in GPU-hours or CPU-hours;
    ``images_s`` images trained a second by the clock or of a CPU, None where nothing is trained.
    """

    best: Standing
    verdict: Verdict
    searched: Searched
    fit_hours: float
    search_hours: float
    params_trained: int
    images_s: float | None

    @property
    def strategy(self) -> str:
        """Its name."""
        return self.best.entrant.recipe.strategy

    @property
    def backbone(self) -> str:
        """What the sweep calls its backbone; empty if there is only one."""
        return self.best.entrant.recipe.backbone


def rank(entrants: Sequence[Entrant], baselines: Mapping[str, Evaluation] | None = None) -> Standings:
    """Put ``entrants`` in order and compare every one with every other, on the same identities and seeds.

    ``baselines`` are held against the first and the best zero-shot of all backbones, on the same queries.

    Raises InputError if theirs are others.
    """
    metrics = entrants[0].recipe.task.metrics
    samples = [sample_seeds(entrant.scores, metrics.objective.name) for entrant in entrants]
    order = sorted(range(len(entrants)), key=lambda position: -float(samples[position].values.mean()))
    as_it_is = [i for i in order if _is_zero_shot(entrants[i])]
    own = {entrants[i].recipe.backbone: order.index(i) for i in as_it_is}
    wins = beats([samples[position] for position in order])

    def beats_zero_shot(place: int) -> float | None:
        other = min((own[name] for name in entrants[order[place]].recipe.backbones if name in own), default=place)
        return None if other == place else float(wins[place, other])

    rows = tuple(
        Standing(
            entrant=entrants[position],
            score=estimate_seeds(samples[position]),
            others=_others(entrants[position].scores, metrics),
            gap=None if place == 0 else compare_seeds(samples[position], samples[order[0]]),
            beats_zero_shot=beats_zero_shot(place),
        )
        for place, position in enumerate(order)
    )
    zero_shot = entrants[as_it_is[0]].scores if as_it_is else None
    held = [_baseline(name, scores, rows[0], zero_shot) for name, scores in (baselines or {}).items()]
    return Standings(rows, wins, tuple(sorted(held, key=lambda one: -one.score.mean)))


def _is_zero_shot(entrant: Entrant) -> bool:
    return entrant.single and entrant.recipe.strategy == BASELINE


def _baseline(
    name: str, scores: Evaluation, winner: Standing, zero_shot: Sequence[Evaluation] | None
) -> BaselineStanding:
    metrics = winner.entrant.recipe.task.metrics
    objective = metrics.objective.name

    def against(runs: Sequence[Evaluation]) -> Comparison:
        scores.check_same(runs[0])
        # A baseline is the same on every seed, so the seeds of the other are resampled alone.
        return compare_seeds(*(sample_seeds(side, objective) for side in ([scores] * len(runs), runs)))

    return BaselineStanding(
        name=name,
        score=estimate_seeds(sample_seeds([scores], objective)),
        others=_others([scores], metrics),
        gap=against(winner.entrant.scores),
        beats_zero_shot=None if zero_shot is None else against(zero_shot).probability,
    )


def _others(runs: Sequence[Evaluation], metrics: Metrics) -> dict[str, float]:
    """Means over seeds of the metrics beside the objective, by name."""
    return {metric.name: fmean(scores.mean(metric.name) for scores in runs) for metric in metrics.in_finals[1:]}


def verdicts(
    standings: Standings, searched: Mapping[str, Searched], cost: Cost, *, budget: int
) -> list[StrategyVerdict]:
    """Each strategy's best entrant on each backbone against the winner, best first; a fusion as a strategy of its own.

    ``searched`` is what the sweep spent on each arm, ``budget`` the units of a whole run in it.
    """
    best: dict[str, Standing] = {}
    for row in standings.rows:
        best.setdefault(row.entrant.recipe.arm, row)
    found = []
    for row in best.values():
        own = {arm: searched.get(arm, Searched()) for arm in row.entrant.recipe.arms}
        enough = all(
            searched_enough(strategy_in(arm), one, budget=budget, task=standings.task) for arm, one in own.items()
        )
        found.append(_verdict(row, verdict_of(row.gap, enough=enough), sum(own.values(), Searched()), cost))
    return found


def searched_enough(strategy: str, searched: Searched, *, budget: int, task: AnyTask = IDENTITIES) -> bool:
    """Whether a sweep tried enough of a strategy to call it worse; what trains nothing needs no units."""
    # Without hyperparameters there is one configuration to try.
    if not inventory(strategy, task):
        return searched.trials >= 1
    units = 0 if strategy in UNTRAINED else MIN_BUDGETS * budget
    return searched.trials >= MIN_TRIALS and searched.units >= units


def _verdict(row: Standing, said: Verdict, searched: Searched, cost: Cost) -> StrategyVerdict:
    members = row.entrant.facts
    trained = [max(facts.params_trained for facts in runs) for runs in members]
    images = sum(facts.images for runs in members for facts in runs)
    work_s = sum(cost.work_s(facts) for runs in members for facts in runs)
    return StrategyVerdict(
        best=row,
        verdict=said,
        searched=searched,
        fit_hours=cost.work_hours(work_s / len(row.entrant.scores)),
        search_hours=cost.held_hours(searched.seconds),
        params_trained=sum(trained) if row.entrant.recipe.kind is Kind.FUSION else max(trained),
        # NaN, which was not measured, is told from None, where nothing is trained.
        images_s=images / work_s if work_s > 0 or isnan(work_s) else None,
    )


def verdict_of(gap: Comparison | None, *, enough: bool) -> Verdict:
    """What a gap to the winner says: worse only if the whole interval lies below zero after ``enough`` search."""
    if gap is None:
        return Verdict.WINNER
    if gap.high >= 0:
        return Verdict.NO_DIFFERENCE
    return Verdict.WORSE if enough else Verdict.NOT_SEARCHED
