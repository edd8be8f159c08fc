"""How good a search is for its GPU-hours: regret of random search, of TPE, and of TPE with two kinds of early stopping.

Each method drives the real proposer and rung table on simulated learning curves, 40 worlds a scenario, the same worlds
for all, and on surrogates of recorded sweeps. Regret is the best true score of the world minus the true score of the
trial that the sweep would name its winner. Intervals are 95 % bootstrap intervals over worlds; differences are paired.

Run: python -m benchmarks.search_quality [--worlds 40] [--only NAME ...] [--recorded SWEEP_FOLDER ...]
"""

import argparse
import heapq
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.recorded_worlds import read_records, recorded_world
from benchmarks.search_worlds import SCENARIOS, Curve, Floats, World
from tests.tune_jobs.made_up import MadeUpSweep
from tune_jobs.config.search import SamplerKind, Search, StrategyBandit
from tune_jobs.config.settings import SweepSettings
from tune_jobs.scheduling.early_stopping import AshaRungs
from tune_jobs.search.proposer import SearchProposer
from tune_jobs.state.trial import TrialView

WORKERS = 4
"""Trials at a time in the simulated sweeps."""
PROCESSES = 2
MOST_TRIALS = 100_000
"""More than any of these sweeps begins; GPU-hours end them."""
RIVALS, OURS = slice(0, 3), 3
"""Places among the methods of what the default is compared with, and of the default."""
FULL_TRIALS = (10, 20, 40)
"""GPU-hours at which regret is taken, in trials of the dearest strategy that run to the end."""


class Compared(StrEnum):
    """Whose trials are judged together at a rung."""

    ALL = "all"
    OWN = "own"


@dataclass(frozen=True)
class Method:
    """A way to search."""

    name: str
    search: Search
    compared: Compared | None
    """Whose trials are compared at a rung; None without early stopping."""

    def group(self, strategy: str) -> str | None:
        """The group in which a trial is judged."""
        return {None: None, Compared.ALL: "all", Compared.OWN: strategy}[self.compared]


METHODS = (
    Method("random", Search(sampler=SamplerKind.RANDOM, strategy_bandit=StrategyBandit.EQUAL), None),
    Method("TPE, no stopping", Search(), None),
    Method("TPE, one ASHA", Search(), Compared.ALL),
    Method("TPE, rungs a strategy", Search(), Compared.OWN),
    Method("the same, equal shares", Search(strategy_bandit=StrategyBandit.EQUAL), Compared.OWN),
)


@dataclass(order=True)
class Running:
    """A trial on a worker; ordered by when its unit ends."""

    ends: float
    number: int
    view: TrialView = field(compare=False)
    curve: Curve = field(compare=False)
    unit: int = field(default=0, compare=False)


def regrets(world: World, method: Method, seed: int) -> list[float]:
    """Regret once each of ``FULL_TRIALS`` has been spent."""
    sweep = Sweep(world, method, seed)
    limits = [number * world.budget * world.dearest for number in FULL_TRIALS]
    running = [sweep.begin(now=0.0) for _ in range(WORKERS)]
    heapq.heapify(running)
    found: list[float] = []
    best_seen, its_truth, spent = -np.inf, -np.inf, 0.0
    while len(found) < len(limits):
        trial = heapq.heappop(running)
        trial.unit += 1
        spent += trial.curve.cost
        seen = float(trial.curve.seen[trial.unit - 1])
        if seen > best_seen:
            best_seen, its_truth = seen, float(trial.curve.true[trial.unit - 1])
        found += [world.best - its_truth for limit in limits[len(found) :] if spent >= limit]
        heapq.heappush(running, sweep.after_unit(trial, seen))
    return found


class Sweep:
    """A search in a world: the events so far, and what follows from them."""

    def __init__(self, world: World, method: Method, seed: int) -> None:
        settings = SweepSettings(strategies=world.strategies, trials=MOST_TRIALS, seed=seed, search=method.search)
        self._world, self._method = world, method
        self._trials, self._proposer = MadeUpSweep(), SearchProposer(settings)
        self._rungs = AshaRungs(grace=max(1, world.budget // 9), reduction=3, budget=world.budget)

    def begin(self, *, now: float) -> Running:
        """The next trial, which takes a worker at ``now``."""
        view = self._trials.begin(self._proposer.next(self._trials.all_trials))
        params = {name.partition("/")[2]: value for name, value in view.params.items()}
        curve = self._world.curve(view.strategy, params, view.number)
        return Running(now + curve.cost, view.number, view, curve)

    def after_unit(self, trial: Running, seen: float) -> Running:
        """The trial itself if it goes on after a unit that scored ``seen``, else the one that takes its worker."""
        self._trials.score(trial.view, seen)
        if trial.unit == self._world.budget:
            self._trials.end(trial.view, "complete")
            return self.begin(now=trial.ends)
        group, best = self._method.group(trial.view.strategy), trial.view.score
        if group is not None and not self._rungs.report(group=group, trial=trial.number, unit=trial.unit, score=best):
            self._trials.end(trial.view, "stopped")
            return self.begin(now=trial.ends)
        trial.ends += trial.curve.cost
        return trial


def interval(values: Floats, *, resamples: int = 4000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of ``values`` [worlds]."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (resamples, len(values)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def compare(name: str, what: str, worlds: Callable[[int], World], seeds: int) -> None:
    """Print the regret of every method, and how far each is from the best of the others."""
    tasks = [(worlds(seed), method, seed) for method in METHODS for seed in range(seeds)]
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        rows = np.array(list(pool.map(regrets, *zip(*tasks, strict=True), chunksize=4)))
    table = rows.reshape(len(METHODS), seeds, len(FULL_TRIALS))
    print(f"\n{name}: {what}; after {', '.join(map(str, FULL_TRIALS))} full trials' GPU-hours, {seeds} worlds")
    for method, found in zip(METHODS, table, strict=True):
        cells = [f"{100 * found[:, k].mean():6.2f} [{_span(found[:, k])}]" for k in range(len(FULL_TRIALS))]
        print(f"  {method.name:24s} {'   '.join(cells)}")
    ours = table[OURS]
    for k, count in enumerate(FULL_TRIALS):
        rival = int(table[RIVALS, :, k].mean(axis=1).argmin())
        gap = ours[:, k] - table[rival, :, k]
        against = f"ours minus '{METHODS[rival].name}', the best of the first three, after {count}"
        print(f"  {against}: {100 * gap.mean():+.2f} [{_span(gap)}]", flush=True)


def _span(values: Floats) -> str:
    low, high = interval(values)
    return f"{100 * low:.2f}, {100 * high:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Regret of searches at equal GPU-hours.")
    parser.add_argument("--worlds", type=int, default=40)
    parser.add_argument("--only", nargs="*", default=list(SCENARIOS), choices=SCENARIOS)
    parser.add_argument("--recorded", nargs="*", type=Path, default=[], help="folders of sweeps")
    asked = parser.parse_args()
    print("regret in hundredths of mAP, lower is better; 95 % bootstrap intervals over worlds")
    for name in asked.only:
        compare(name, SCENARIOS[name].what, SCENARIOS[name].world, asked.worlds)
    if asked.recorded:
        all_trials = read_records(asked.recorded)
        what = f"{len(all_trials)} finished trials of {', '.join(str(path) for path in asked.recorded)}"
        compare("recorded", what, partial(recorded_world, all_trials), asked.worlds)


if __name__ == "__main__":
    main()
