"""What the finals say in sentences."""

from collections.abc import Sequence

import numpy as np

from handclip_core.tasks import AnyTask
from tune_jobs.finals.final_test import FinalTest
from tune_jobs.finals.past_sweep import PastSweep
from tune_jobs.finals.ranking import MIN_BUDGETS, MIN_TRIALS, Standing, Standings
from tune_jobs.finals.tables import mean_sd
from tune_jobs.reporting.page import percent, signed, span

NOTABLE_DROP, EARLY = 0.01, 0.8
"""What had its best unit in the first 80 % of the budget, and has lost so much since, is named."""


NOTES = (
    "{shown} are means over {averaged} and seeds on validation "
    "{clusters}, in percent, after the last unit of the whole budget. No run was stopped and no unit was picked: a "
    "fit on all training {clusters} has none left to pick by.",
    "The interval of {objective} comes from resampling {clusters} (95 %). Differences and P(A beats B) "
    "resample {clusters} and seeds, the same ones for both. Few seeds understate what another seed may do.",
    "'No difference shown' says that the interval of the difference to the winner reaches zero, not that there is no "
    "difference. The winner is the best of several, so differences to it flatter it a little, and comparisons are not "
    "corrected for their number.",
    "Trials with a score, and the units that they trained in the sweep, stand beside the verdict. 'Not searched enough "
    "to say' is a strategy that is behind and of which the sweep saw too little to call it worse: one with "
    f"hyperparameters takes {MIN_TRIALS} trials and, if it trains, the units of {MIN_BUDGETS} whole budgets.",
    "Hours and speed of a GPU are by the clock. Those of CPUs count the time that processors spent on training, all "
    "cores together, which other work on the machine does not lengthen. Core-hours of search are cores held, by the "
    "clock.",
    "The members of greedy soups and the shares of WiSE-FT were chosen on the same validation {clusters}.",
)
"""How to read the report, with places for what the task calls things."""
OF_BASELINES = (
    "Baselines are descriptors of pixels and gradients, some with a closed form fitted to the training images. No seed "
    "moves them; the winner has to beat the best of them by an interval without zero, or the report begins with that. "
    "P(beats zero-shot) of a baseline is against the best zero-shot, of any backbone; that of the others against "
    "zero-shot on their own backbone."
)
"""The same of baselines, where the task has any."""
OF_FUSIONS = (
    "The fusion is the best configuration of each backbone on these {clusters}, their scores added with weights. Each "
    "half of the {clusters} is scored by weights that were fitted to the other half (equal ones if there are too few "
    "to halve). It takes the time and disk of all its members wherever it is used, and is held against the best "
    "zero-shot of its backbones."
)
"""The same of a fusion, where there is one."""


def notes(task: AnyTask, *, fusion: bool = False) -> tuple[str, ...]:
    """How to read the report."""
    metrics = task.metrics
    words = {
        "shown": " and ".join(metric.label for metric in metrics.in_finals),
        "objective": metrics.objective.label,
        "clusters": task.clusters,
        "averaged": task.averaged,
    }
    more = [*([OF_BASELINES] if task.baselines else []), *([OF_FUSIONS] if fusion else [])]
    return tuple(note.format(**words) for note in (*NOTES, *more))


def headline(past: PastSweep, seeds: Sequence[int], standings: Standings, *, cost: str) -> list[str]:
    """The result and its ``cost``, then what the sweep had promised; first, if a baseline is not beaten, that."""
    winner, swept, task = standings.winner, past.tried[0], standings.task
    label = task.metrics.objective.label
    shown = ", ".join(str(seed) for seed in seeds)
    lines = [
        f"Winner: {winner.entrant.name}, validation {label} {mean_sd(winner.score)} over {len(seeds)} fresh "
        f"seeds ({shown}), 95 % {span(winner.score)} over {winner.score.num_identities} {task.clusters}, "
        f"at {cost}.",
        f"The sweep's own maximum, {percent(swept.score)} by trial {swept.number} ({swept.arm}), is the best unit "
        f"of the best of {len(past.tried)} trials: optimistic, and no result.",
    ]
    again = next((row for row in standings.rows if row.entrant.single and _trial(row) == swept.number), None)
    if again is not None:
        lines[1] += f" The same settings on fresh seeds: {mean_sd(again.score)}."
    beaten = _to_baseline(standings) if standings.baseline_beaten else []
    return [*unbeaten(standings), *lines, *_over_zero_shot(standings), *beaten]


def unbeaten(standings: Standings) -> list[str]:
    """That the winner is not shown to beat the best baseline, or nothing if it is, or if there is none."""
    return [] if standings.baseline_beaten else _to_baseline(standings)


def _over_zero_shot(standings: Standings) -> list[str]:
    """How far the winner is above its own backbone as it is, unless that is the winner or did not run."""
    own = standings.zero_shot
    if own is None or own.gap is None:
        return []
    gap, label = own.gap, standings.task.metrics.objective.label
    above = f"{label} {signed(-gap.difference)}, 95 % {signed(-gap.high)} to {signed(-gap.low)}"
    return [f"To {standings.as_it_is}: {above} over seeds and {standings.task.clusters}."]


def _to_baseline(standings: Standings) -> list[str]:
    """The winner beside the best baseline, if there is any."""
    label = standings.task.metrics.objective.label
    return [best.to_winner.sentence(label, of=len(standings.baselines)) for best in standings.baselines[:1]]


def test_lines(test: FinalTest, task: AnyTask) -> list[str]:
    """The look at the test data, and which look at them it is."""
    lines = [
        f"{test.chosen}, fitted on all training {task.clusters}. Access {test.number} of {len(test.accesses)} to these "
        f"{task.clusters} so far."
    ]
    for metric in task.metrics.in_finals:
        ours, clip, gap = test.figures[metric.name], test.baseline[metric.name], test.gaps[metric.name]
        lines.append(
            f"{metric.label} {percent(ours.value)} (95 % {span(ours)}), {test.as_it_is} {percent(clip.value)} "
            f"({span(clip)}), difference {signed(gap.difference)} ({span(gap)}), P(better) {gap.probability:.3f}; "
            f"{gap.num_identities} {task.clusters}."
        )
    for place, access in enumerate(test.accesses, start=1):
        if place != test.number:
            lines.append(f"Access {place}: {access.time}, sweep {access.values['sweep']}, {access.values['chosen']}.")
    if len(test.accesses) > 1:
        lines.append("Whoever chooses by what an earlier access showed makes a later one optimistic.")
    return [*lines, f"Access log entry {test.entry}."]


def drops(standings: Standings) -> list[str]:
    """Configurations that were clearly better before the end of their budget."""
    lines, label = [], standings.task.metrics.objective.label
    for row in standings.rows:
        facts = row.entrant.facts[0]
        peak = float(np.mean([one.peak for one in facts]))
        unit = float(np.mean([one.peak_unit for one in facts]))
        early = unit <= EARLY * facts[0].units
        if row.entrant.single and early and peak - row.score.mean >= NOTABLE_DROP:
            lines.append(
                f"{row.entrant.name} lost {percent(peak - row.score.mean)} {label} after unit {unit:.0f} "
                f"of {facts[0].units}: a smaller budget may suit it."
            )
    return lines


def _trial(row: Standing) -> int | None:
    return row.entrant.recipe.members[0].trial
