"""Optuna's samplers as functions of the past: what a trial draws depends on the seed, its number and earlier trials.

No generator lives from one trial to the next, so a search that is reopened goes on as if it had never stopped.
"""

import logging
import warnings
import zlib
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search_spaces.narrowing import first_of, stored
from search_spaces.suggest import Primitive
from tune_jobs.config.search import SamplerKind
from tune_jobs.search.cma_es import PlainCmaEsSampler

# The Gaussian process is fitted without greenlet, too; a line about that would stand amid a sweep's.
logging.getLogger("optuna._gp.batched_lbfgsb").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Sampling:
    """A kind of sampler, its seed, and how many finished trials it waits for."""

    kind: SamplerKind
    seed: int
    startup: int
    directions: tuple[StudyDirection, ...] = (StudyDirection.MAXIMIZE,)

    def sampler(self, *key: int | str) -> BaseSampler:
        """A fresh sampler whose random numbers are a function of the seed and ``key``."""
        seed = seed_of(self.seed, *key)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            match self.kind:
                case SamplerKind.RANDOM:
                    return RandomSampler(seed=seed)
                case SamplerKind.GP | SamplerKind.CMAES:
                    return (GPSampler if self.kind is SamplerKind.GP else PlainCmaEsSampler)(
                        seed=seed,
                        n_startup_trials=self.startup,
                        independent_sampler=self._tpe(seed),
                        warn_independent_sampling=False,
                    )
                case SamplerKind.TPE:
                    return self._tpe(seed)

    def _tpe(self, seed: int) -> TPESampler:
        return TPESampler(n_startup_trials=self.startup, multivariate=True, group=True, constant_liar=True, seed=seed)


class Suggestion:
    """The source of the draws of trial ``number`` after the trials ``past``, finished or running.

    If what came of it is not wanted, the next ``attempt`` draws other numbers.
    """

    def __init__(self, sampling: Sampling, past: Sequence[FrozenTrial], number: int, *, attempt: int = 0) -> None:
        self._sampling = sampling
        self._key: tuple[int | str, ...] = (number, f"attempt {attempt}") if attempt else (number,)
        self._memory = _Memory(past)
        self._study = optuna.create_study(storage=self._memory, directions=sampling.directions)
        self._trial = optuna.trial.create_trial(state=TrialState.RUNNING)
        self._trial.number = number

    @property
    def attributes(self) -> dict[str, Any]:
        """What the sampler needs to find again with the trial."""
        return self._memory.attributes

    def __call__(self, name: str, distribution: BaseDistribution) -> Primitive:
        """A value for the hyperparameter ``name``."""
        together = self._drawn_together
        # As in Optuna, no sampler is asked for what cannot vary.
        if distribution.single():
            value: Any = first_of(distribution)
        elif name in together and holds(distribution, together[name]):
            value = together[name]
        else:
            sampler = self._sampling.sampler(*self._key, name)
            value = sampler.sample_independent(self._study, self._trial, name, distribution)
        # As a study gives it back, without types of NumPy.
        plain: Primitive = distribution.to_external_repr(distribution.to_internal_repr(value))
        return plain

    @cached_property
    def _drawn_together(self) -> dict[str, Any]:
        """What the sampler draws jointly, for all that it has seen before."""
        sampler = self._sampling.sampler(*self._key)
        space = sampler.infer_relative_search_space(self._study, self._trial)
        return sampler.sample_relative(self._study, self._trial, space)


class _Memory(InMemoryStorage):
    """Shows a sampler the trials ``past``, and keeps what it notes on the trial that it is asked for."""

    def __init__(self, past: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._past = list(past)
        self.attributes: dict[str, Any] = {}

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Trials of the past that are in one of ``states``; samplers do not change them."""
        del study_id, deepcopy
        return [trial for trial in self._past if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Keep a note."""
        del trial_id
        self.attributes[key] = value


def seed_of(*key: int | str) -> int:
    """A seed that differs from that of any other key."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def holds(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a distribution can give a value."""
    try:
        stored(value, distribution)
    except ValueError:
        return False
    return True
