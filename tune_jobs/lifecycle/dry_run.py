"""What a sweep would take, said before it begins."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from rich.console import Console
from rich.table import Table

from handclip_core.devices import MIB
from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import UNTRAINED
from search_spaces.arms import backbone_in
from tune_jobs.config.settings import SweepSettings
from tune_jobs.execution.cluster import TrialResources, WorkerError, run_in_own_process
from tune_jobs.lifecycle.fitting import fitted
from tune_jobs.lifecycle.folders import refuse_unknown_sweep, resolved
from tune_jobs.lifecycle.profile import Profile, profile, unprofiled
from tune_jobs.lifecycle.run import prepare
from tune_jobs.reporting import summary
from tune_jobs.scheduling.early_stopping import decisions_for
from tune_jobs.scheduling.limits import GIB
from tune_jobs.scheduling.power_analysis import SEEDS
from tune_jobs.state.submission import in_ray_job
from tune_jobs.state.usage import HOUR_S

REHEARSALS = 20


@dataclass(frozen=True)
class Estimate:
    """Hours, GPU-hours and disk of a sweep; ``most`` is what it takes if no trial is stopped early."""

    hours: float
    most_hours: float
    gpu_hours: float
    most_gpu_hours: float
    disk_bytes: int
    least_disk_bytes: int
    """With the weights of the best trial alone."""


def estimate(settings: SweepSettings) -> int:
    """Try a few steps of every arm's default, and print what the sweep would take; nothing is left behind.

    Returns an exit code: 0, or 1 if no strategy could be tried. Raises InputError as the sweep would.
    """
    settings = fitted(resolved(settings, in_ray_job=in_ray_job()))
    if settings.warm_start is not None:
        refuse_unknown_sweep(settings.warm_start, option="warm_start")
    trial_resources = prepare(settings)
    space = settings.space
    profiles = []
    for arm in settings.arms:
        summary.log(f"trying {arm}")
        experiment = settings.experiment(space.default(arm).strategy, settings.backbone_of(arm))
        profiles.append(replace(_profiled(experiment, trial_resources), backbone=backbone_in(arm)))
    tried = [found for found in profiles if not found.reason]
    Console(soft_wrap=True).print(table(profiles, settings))
    if tried:
        print("\n".join(lines(expected(tried, settings, trial_resources), settings, trial_resources)))
    return 0 if tried else 1


def _profiled(experiment: Experiment, trial_resources: TrialResources) -> Profile:
    """Profile in a process of its own on a trial's resources, so that its memory is its own, and its end too."""
    try:
        return run_in_own_process(trial_resources, profile, experiment)
    except WorkerError as error:
        cause = error.__cause__
        return unprofiled(experiment, cause if isinstance(cause, Exception) else error)


def expected(profiles: Sequence[Profile], settings: SweepSettings, trial_resources: TrialResources) -> Estimate:
    """What the sweep takes by what the defaults of its arms take."""
    trials, replicas, analysis = shares(settings), settings.search.replicas, settings.search.power_analysis
    spent = most = longest = 0.0
    for found in profiles:
        seeds = 1 if found.strategy in UNTRAINED else replicas
        share = share_of_budget(settings, trials[found.arm])
        finished, whole = share.finished * (seeds - 1) * found.seconds, found.seconds - found.setup_s
        spent += trials[found.arm] * (found.setup_s + share.units * whole + finished)
        most += trials[found.arm] * seeds * found.seconds
        # However many trials run at a time, the seeds of one run one after another.
        longest = max(longest, seeds * found.seconds)
    # The first that trains anything is what the power analysis repeats.
    baseline = next((found for found in profiles if found.strategy not in UNTRAINED), None)
    if analysis and baseline is not None and replicas < SEEDS:
        longest = max(longest, SEEDS * baseline.seconds)
        spent, most = (taken + (SEEDS - replicas) * baseline.seconds for taken in (spent, most))
    gpus = trial_resources.gpus * trial_resources.workers
    at_a_time = min(trial_resources.concurrent, sum(trials.values()))
    state_bytes = max(found.state_bytes for found in profiles)
    # A trial of several seeds keeps the state of the first while it trains on the others.
    running = (3 if replicas > 1 or analysis else 2) * at_a_time
    return Estimate(
        hours=max(spent / at_a_time, longest) / HOUR_S,
        most_hours=max(most / at_a_time, longest) / HOUR_S,
        gpu_hours=spent * gpus / HOUR_S,
        most_gpu_hours=most * gpus / HOUR_S,
        disk_bytes=(min(settings.keep_checkpoints, settings.trials) + running) * state_bytes,
        least_disk_bytes=(1 + running) * state_bytes,
    )


def shares(settings: SweepSettings) -> dict[str, int]:
    """Trials of each arm if all get as many: its default, and its part of the others."""
    arms = settings.arms
    drawn = settings.space.searchable()
    more = settings.trials - len(arms) if drawn else 0
    part, rest = divmod(more, max(1, len(drawn)))
    place = {name: number for number, name in enumerate(drawn)}
    return {name: 1 + (part + (place[name] < rest) if name in place else 0) for name in arms}


@dataclass(frozen=True)
class Share:
    """Parts of a whole, means over trials: units trained, and trials that are not stopped."""

    units: float
    finished: float


def share_of_budget(settings: SweepSettings, trials: int) -> Share:
    """What early stopping leaves ``trials`` trials of one arm of their budgets, if their ranks never change."""
    units, finished = [], []
    for seed in range(REHEARSALS):
        decisions, rng = decisions_for(settings.early_stopping, budget=settings.budget), random.Random(seed)
        for trial in range(trials):
            score, unit, goes_on = rng.random(), 0, True
            while goes_on and unit < settings.budget:
                unit += 1
                goes_on = unit == settings.budget or decisions.goes_on(trial=trial, arm="", unit=unit, score=score)
            units.append(unit / settings.budget)
            finished.append(float(unit == settings.budget))
    return Share(fmean(units), fmean(finished))


def table(profiles: Sequence[Profile], settings: SweepSettings) -> Table:
    """What a trial of each strategy takes, on each backbone."""
    trials, several = shares(settings), len(settings.backbones) > 1
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("strategy", *(("backbone",) if several else ())):
        found.add_column(heading, no_wrap=True)
    for heading in ("trials", "s a unit", "s a trial", "memory MiB", "state MiB"):
        found.add_column(heading, justify="right", no_wrap=True)
    for item in profiles:
        unit_s = (item.train_s + item.validate_s) / settings.budget
        values = (unit_s, item.seconds, item.memory_bytes / MIB, item.state_bytes / MIB)
        cells = [item.reason] if item.reason else [f"{value:,.1f}" for value in values]
        named = (item.strategy, *((item.backbone,) if several else ()))
        found.add_row(*named, str(trials[item.arm]), *cells)
    return found


def lines(found: Estimate, settings: SweepSettings, trial_resources: TrialResources) -> list[str]:
    """The estimate in words, and whether a limit would end the sweep before."""
    limits, price = settings.limits, settings.limits.price_per_gpu_hour
    told = [
        f"trials     {settings.trials}, {trial_resources.concurrent} at a time on {trial_resources.device}",
        f"time       {found.hours:.2f} h; {found.most_hours:.2f} h if no trial is stopped early",
    ]
    if trial_resources.gpus:
        told.append(f"GPU-hours  {found.gpu_hours:.2f}; {found.most_gpu_hours:.2f} if no trial is stopped early")
    if price is not None:
        told.append(f"cost       {found.gpu_hours * price:.2f}; {found.most_gpu_hours * price:.2f} at most")
    told.append(f"disk       {found.disk_bytes / GIB:.2f} GiB of saved states")
    taken = {"hours": found.hours, "gpu_hours": found.gpu_hours, "disk_gib": found.least_disk_bytes / GIB}
    for key, limit in limits.model_dump(include=set(taken)).items():
        if limit is not None and taken[key] > limit:
            told.append(f"limits.{key}: {limit:g} would end the sweep before its last trial")
    return told
