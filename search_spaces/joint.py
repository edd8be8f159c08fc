"""The spaces of a sweep's strategies together, as the user narrowed them: defaults, points to try, draws."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution
from pydantic import ValidationError

from handclip_core.config import describe
from handclip_core.runs.context import IDENTITIES
from handclip_core.strategies import Strategy
from handclip_core.tasks.base import Task
from search_spaces.by_task import spaces_of
from search_spaces.inventory import inventory, unknown_path
from search_spaces.narrowing import Narrowing, nearest, stored
from search_spaces.recording import RecordingTrial, Source
from search_spaces.spaces import default_of, params_of, searchable
from search_spaces.suggest import Primitive, label, value_at


@dataclass(frozen=True)
class Draft:
    """A strategy to try and the draws that lead to it, by Optuna's names."""

    strategy: Strategy
    params: dict[str, Primitive]
    distributions: dict[str, BaseDistribution]


@dataclass(frozen=True)
class JointSpace:
    """The strategies of a sweep, and the ranges that its user narrowed.

    A path is that of a field below a strategy, ``optim/lr``; a name has the strategy before it, ``full/optim/lr``.
    """

    strategies: tuple[str, ...]
    narrowing: Narrowing = field(default_factory=Narrowing)
    task: Task = IDENTITIES

    def searchable(self) -> tuple[str, ...]:
        """Those of the strategies that have anything to search."""
        return searchable(self.strategies, spaces_of(self.task))

    def draw(self, strategy: str, source: Source) -> Draft:
        """A strategy with settings from ``source``, which sees the narrowed distributions."""
        recording = RecordingTrial(source, self.narrowing.apply)
        settings = spaces_of(self.task)[strategy](recording)
        return Draft(settings, recording.params, recording.distributions)

    def default(self, strategy: str) -> Draft:
        """The published default; if a narrowed range leaves it out, the nearest that it allows."""
        settings = default_of(strategy)
        return self.draw(strategy, lambda name, part: nearest(label(value_at(settings, name)), part))

    def point(self, strategy: str, values: Mapping[str, Any]) -> Draft:
        """The default with ``values`` by path; raises ValueError if the narrowed space does not hold them."""
        settings = default_of(strategy)
        used: set[str] = set()

        def source(name: str, part: BaseDistribution) -> Primitive:
            path = name.partition("/")[2]
            if path not in values:
                return nearest(label(value_at(settings, name)), part)
            used.add(path)
            try:
                return stored(values[path], part)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None

        draft = self._valid(strategy, source)
        for path in values:
            if path not in used and f"{strategy}/{path}" in inventory(strategy, self.task):
                raise ValueError(f"{path}: has no effect beside this point's other values; leave it out")
            if path not in used:
                raise ValueError(unknown_path(path, (strategy,), self.task))
        return draft

    def redraw(self, strategy: str, params: Mapping[str, Primitive]) -> Draft:
        """What exactly ``params``, by name, lead to; raises ValueError if the space asks for others."""

        def source(name: str, part: BaseDistribution) -> Primitive:
            if name not in params:
                raise ValueError(f"{name} was not drawn")
            try:
                return stored(params[name], part)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None

        draft = self._valid(strategy, source)
        for name in params:
            if name not in draft.params:
                raise ValueError(f"{name} is not searched")
        return draft

    def hold(self, settings: Strategy) -> Draft:
        """The draws that lead to ``settings``; raises ValueError if the narrowed space does not hold them."""
        params = params_of(settings, spaces_of(self.task))
        draft = self.redraw(settings.name, params)
        assert draft.strategy == settings, "params_of has compared them"
        return draft

    def _valid(self, strategy: str, source: Source) -> Draft:
        try:
            return self.draw(strategy, source)
        except ValidationError as error:
            raise ValueError(describe(error)) from None

    def check(self) -> None:
        """Raise ValueError if a narrowed range has an unknown key, or is no part of what a strategy searches."""
        names = {strategy: inventory(strategy, self.task) for strategy in self.strategies}
        every = [name for found in names.values() for name in found]
        for key in self.narrowing.ranges:
            if not any(self.narrowing.key(name) == key for name in every):
                owner = key.partition("/")[0]
                raise ValueError(unknown_path(key, (owner,) if owner in names else self.strategies, self.task))
        for found in names.values():
            for name, distribution in found.items():
                self.narrowing.apply(name, distribution)
