"""Worlds made of recorded sweeps: what a forest learned of their finished trials, and the noise that it left.

A forest of trees predicts the whole learning curve from where a configuration lies in its space (a surrogate
benchmark, Eggensperger 2015). Each world draws the trials that it learns from anew, so that worlds differ by what few
records leave open.
"""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from benchmarks.search_worlds import Curve, Floats, place
from handclip_core.errors import InputError
from handclip_core.runs.run_folder import CONFIG, LOG, read_experiment
from search_spaces.inventory import inventory
from search_spaces.joint import JointSpace
from search_spaces.spaces import params_of
from search_spaces.suggest import Primitive
from tune_jobs.config.search import SamplerKind
from tune_jobs.search.samplers import Sampling, Suggestion

LEAST = 6
"""Finished trials of a strategy without which nothing is learned of it."""
LOOKS = 400
"""Random configurations a strategy among which the best one is looked for."""
ABSENT = -1.0
"""The place of a hyperparameter that a configuration does not have."""


@dataclass(frozen=True)
class Record:
    """A finished trial: its place in its space, its scores [budget], its seconds a unit."""

    strategy: str
    at: Floats
    scores: Floats
    seconds: float


def read_records(sweeps: Sequence[Path]) -> list[Record]:
    """The trials of the sweeps' folders that used the largest budget among them; others do not tell how they end."""
    found = [view for sweep in sweeps for folder in sorted(sweep.glob("trials/*")) for view in _read(folder)]
    budget = max((len(view.scores) for view in found), default=0)
    return [view for view in found if len(view.scores) == budget]


def _read(folder: Path) -> list[Record]:
    logs = sorted(folder.rglob(LOG))
    if not logs or not (folder / CONFIG).exists():
        return []
    with logs[-1].open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["unit"]) > 0 and row["map"]]
    strategy = read_experiment(folder).strategy
    try:
        at = features(strategy.name, _paths(params_of(strategy)))
    except ValueError:
        return []  # drawn from a space that has changed since
    scores = np.array([float(row["map"]) for row in rows])
    return [Record(strategy.name, at, scores, fmean(float(row["train_s"]) for row in rows))] if rows else []


def _paths(params: Mapping[str, Primitive]) -> dict[str, Primitive]:
    return {name.partition("/")[2]: value for name, value in params.items()}


def features(strategy: str, params: Mapping[str, Primitive]) -> Floats:
    """Where ``params`` lie in a strategy's space [hyperparameters]."""
    space = {name.partition("/")[2]: part for name, part in inventory(strategy).items()}
    return np.array([place(params[path], space[path]) if path in params else ABSENT for path in sorted(space)])


@dataclass(frozen=True)
class Recorded:
    """One world: a forest a strategy, and how validation scores jumped about in the recorded trials."""

    forests: dict[str, RandomForestRegressor]
    jumps: dict[str, Floats]
    """By strategy [trials, budget]: recorded scores minus their running mean over three units."""
    seconds: dict[str, float]
    budget: int
    seed: int

    @property
    def strategies(self) -> tuple[str, ...]:
        """What a sweep searches in it."""
        return tuple(self.forests)

    @property
    def dearest(self) -> float:
        """Seconds a unit of the dearest strategy."""
        return max(self.seconds.values())

    @cached_property
    def best(self) -> float:
        """The highest true score of many random configurations."""
        space, draws = JointSpace(self.strategies), Sampling(SamplerKind.RANDOM, seed=self.seed, startup=1)
        found = []
        for strategy, forest in self.forests.items():
            drafts = [space.draw(strategy, Suggestion(draws, [], number)) for number in range(LOOKS)]
            at = np.stack([features(strategy, _paths(draft.params)) for draft in drafts])
            found.append(float(forest.predict(at).max()))
        return max(found)

    def curve(self, strategy: str, params: Mapping[str, Primitive], number: int) -> Curve:
        """The curve of trial ``number``; ``params`` by the path below the strategy."""
        true = self.forests[strategy].predict(features(strategy, params)[None])[0]
        jumps = self.jumps[strategy]
        noise = jumps[np.random.default_rng((self.seed, number)).integers(len(jumps))]
        return Curve(true + noise, true, self.seconds[strategy])


def recorded_world(all_trials: Sequence[Record], seed: int) -> Recorded:
    """The world of a seed; raises InputError where no strategy has trials enough."""
    by_strategy: dict[str, list[Record]] = defaultdict(list)
    for view in all_trials:
        by_strategy[view.strategy].append(view)
    known = {name: found for name, found in by_strategy.items() if len(found) >= LEAST}
    if not known:
        raise InputError(f"the recorded sweeps hold no strategy with {LEAST} finished trials; record longer ones")
    rng = np.random.default_rng((29, seed))
    return Recorded(
        forests={name: _forest(found, rng) for name, found in known.items()},
        jumps={name: np.stack([_jumps(view.scores) for view in found]) for name, found in known.items()},
        seconds={name: fmean(view.seconds for view in found) for name, found in known.items()},
        budget=len(all_trials[0].scores),
        seed=seed,
    )


def _forest(all_trials: Sequence[Record], rng: np.random.Generator) -> RandomForestRegressor:
    drawn = [all_trials[place] for place in rng.integers(0, len(all_trials), len(all_trials))]
    forest = RandomForestRegressor(n_estimators=30, max_features=0.5, random_state=int(rng.integers(2**31)))
    return forest.fit(np.stack([r.at for r in drawn]), np.stack([r.scores for r in drawn]))


def _jumps(scores: Floats) -> Floats:
    padded = np.pad(scores, 1, mode="edge")
    return scores - (padded[:-2] + padded[1:-1] + padded[2:]) / 3
