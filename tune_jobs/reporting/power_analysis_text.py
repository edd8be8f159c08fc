"""What the power analysis means, in words."""

from tune_jobs.config.settings import SweepSettings
from tune_jobs.scheduling import power_analysis as power
from tune_jobs.scheduling.power_analysis import SEEDS, PowerAnalysis
from tune_jobs.scheduling.seeds import is_power_baseline
from tune_jobs.state.trials import Trials


def power_analysis_of(all_trials: Trials, settings: SweepSettings) -> list[str]:
    """What the power analysis has shown, in words; nothing if there is none, or not yet."""
    for view in all_trials.all():
        if is_power_baseline(view, all_trials, settings) and len(view.seeds) >= SEEDS:
            found = PowerAnalysis(tuple(view.score_of(seed) for seed in view.seeds))
            replicas = settings.search.replicas
            return power_analysis_lines(
                view.arm, found, settings.task.metrics.objective.label, trials=settings.trials, replicas=replicas
            )
    return []


def power_analysis_lines(name: str, found: PowerAnalysis, label: str, *, trials: int, replicas: int) -> list[str]:
    """What the baseline ``name`` over seeds says about a sweep of ``trials`` configurations of ``replicas`` seeds."""
    seeds, runs, (low, high) = len(found.scores), trials * replicas, found.sd_interval
    if found.sd == 0:
        what = f"validation {label} {found.mean:.4f} each time"
        return [f"{name} on {seeds} seeds: {what}; seeds make no difference here"]
    return [
        f"{name} on {seeds} seeds: validation {label} {found.mean:.4f}, sd {found.sd:.4f} "
        f"({low:.4f} to {high:.4f} with {power.SD_CONFIDENCE:.0%} confidence)",
        f"smallest difference that can be seen (unpaired t-test, level {power.LEVEL:.0%}, power {power.POWER:.0%}):",
        *(
            f"  {_times(n, 'seed'):<9} {found.smallest_difference(n):.4f}"
            for n in sorted({replicas, *power.FINAL_SEEDS})
        ),
        f"the best of {_times(trials, 'equally good configuration')} would look "
        f"{found.flattery(trials, replicas=replicas):.4f} better than it is",
        f"how {_times(runs, 'run')} {'is' if runs == 1 else 'are'} best spent depends on how much configurations "
        "differ in truth:",
        *(_advice(found, runs=runs, spread=ratio * found.sd) for ratio in power.SPREADS),
    ]


def _advice(found: PowerAnalysis, *, runs: int, spread: float) -> str:
    split, seeds = power.best_split(runs, sd=found.sd, spread=spread), len(found.scores)
    doubled = power.expected_gain(2 * split.trials, split.replicas, sd=found.sd, spread=spread) - split.gain
    needed = power.trials_worth_running(found, spread=spread, seeds=seeds) or f"more than {power.MOST_TRIALS}"
    return (
        f"  sd {spread:.4f}: {_times(split.trials, 'trial')} of {_times(split.replicas, 'seed')}, "
        f"the chosen one {split.gain:.4f} above their mean; twice as many trials add {doubled:.4f}; "
        f"a gain that {seeds} seeds can see takes {needed} trials"
    )


def _times(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
