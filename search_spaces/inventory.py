"""What each strategy's space can ask for, found by looking."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from handclip_core.tasks import IDENTITIES
from handclip_core.tasks.base import Task
from search_spaces.by_task import spaces_of
from search_spaces.narrowing import nearest
from search_spaces.recording import RecordingTrial, Source
from search_spaces.spaces import default_of
from search_spaces.suggest import Primitive, label, value_at

NUM_RANDOM_DRAWS = 100
"""Random draws by which the hyperparameters of all branches of a space are found."""


@cache
def inventory(strategy: str, task: Task = IDENTITIES) -> Mapping[str, BaseDistribution]:
    """Every hyperparameter of a strategy with its full range, by Optuna's name: the default's, and those of other
    branches.
    """
    settings, space = default_of(strategy), spaces_of(task)[strategy]
    recording = RecordingTrial(lambda name, part: nearest(label(value_at(settings, name)), part), _whole)
    space(recording)
    found = dict(recording.distributions)
    for source in random_sources() if found else ():
        recording = RecordingTrial(source, _whole)
        space(recording)
        found = recording.distributions | found
    return found


def random_sources() -> Iterator[Source]:
    """Sources of values, the same each time, that between them lead into every branch of a space."""
    rng = np.random.default_rng(0)
    for _ in range(NUM_RANDOM_DRAWS):
        yield lambda _, part: _any_of(part, rng)


def unknown_path(key: str, strategies: Sequence[str], task: Task = IDENTITIES) -> str:
    """Why ``key`` is no hyperparameter of the strategies, and which are."""
    paths = list(dict.fromkeys(name.partition("/")[2] for name in _names(strategies, task)))
    path = key.partition("/")[2] if key.partition("/")[0] in strategies else key
    close = get_close_matches(path, paths, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    where = strategies[0] if len(strategies) == 1 else "the sweep"
    return f"unknown hyperparameter '{key}': {hint}{where} searches {', '.join(paths) if paths else 'nothing'}"


def _names(strategies: Sequence[str], task: Task) -> list[str]:
    return [name for strategy in strategies for name in inventory(strategy, task)]


def _whole(name: str, distribution: BaseDistribution) -> BaseDistribution:
    del name
    return distribution


def _any_of(distribution: BaseDistribution, rng: np.random.Generator) -> Primitive:
    """One of the choices, or the lower end of a range; only choices open branches."""
    if isinstance(distribution, CategoricalDistribution):
        chosen: Primitive = distribution.choices[rng.integers(len(distribution.choices))]
        return chosen
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low
