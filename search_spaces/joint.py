"""The spaces of a sweep's arms together, as the user narrowed them: defaults, points to try, draws."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution
from pydantic import ValidationError

from handclip_core.config import describe
from handclip_core.strategies import Strategy
from handclip_core.tasks import IDENTITIES
from handclip_core.tasks.base import Task
from search_spaces.arms import AT, arm_of, strategy_in, under
from search_spaces.by_task import spaces_of
from search_spaces.fixed import Fixed
from search_spaces.inventory import inventory, random_sources, unknown_path
from search_spaces.narrowing import Narrowing, nearest, stored
from search_spaces.recording import RecordingTrial, Source
from search_spaces.spaces import default_of, searchable
from search_spaces.suggest import Primitive, SettingsTrial, label, value_at


@dataclass(frozen=True)
class Draft:
    """A strategy to try on the backbone of an arm, and the draws that lead to it, by Optuna's names."""

    arm: str
    strategy: Strategy
    params: dict[str, Primitive]
    distributions: dict[str, BaseDistribution]


@dataclass(frozen=True)
class JointSpace:
    """The arms of a sweep, the ranges that its user narrowed, and the settings that stay as the user says.

    A path is that of a field below a strategy, ``optim/lr``; a name has the arm before it, ``full/optim/lr`` or, of
    several backbones, ``full@ViT-B-32/optim/lr``.
    """

    arms: tuple[str, ...]
    narrowing: Narrowing = field(default_factory=Narrowing)
    task: Task = IDENTITIES
    fixed: Fixed = field(default_factory=Fixed)

    def searchable(self) -> tuple[str, ...]:
        """Those of the arms that have anything to search."""
        found = searchable(self.strategies, spaces_of(self.task))
        return tuple(arm for arm in self.arms if strategy_in(arm) in found)

    @property
    def strategies(self) -> tuple[str, ...]:
        """The strategies of the arms, each once."""
        return tuple(dict.fromkeys(map(strategy_in, self.arms)))

    def draw(self, arm: str, source: Source) -> Draft:
        """The strategy of ``arm`` with settings from ``source``, which sees the narrowed distributions."""
        recording = RecordingTrial(source, self.narrowing.apply, arm)
        settings = self.fixed.apply(arm, spaces_of(self.task)[strategy_in(arm)](recording))
        return Draft(arm, settings, recording.params, recording.distributions)

    def default(self, arm: str) -> Draft:
        """The published default; if a narrowed range leaves it out, the nearest that it allows."""
        settings = default_of(strategy_in(arm))
        return self.draw(arm, lambda name, part: nearest(label(value_at(settings, name)), part))

    def point(self, arm: str, values: Mapping[str, Any]) -> Draft:
        """The default with ``values`` by path; raises ValueError if the narrowed space does not hold them."""
        strategy = strategy_in(arm)
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

        draft = self._valid(arm, source)
        for path in values:
            if path not in used and f"{strategy}/{path}" in inventory(strategy, self.task):
                raise ValueError(f"{path}: has no effect beside this point's other values; leave it out")
            if path not in used:
                raise ValueError(unknown_path(path, (strategy,), self.task))
        return draft

    def redraw(self, arm: str, params: Mapping[str, Primitive]) -> Draft:
        """What exactly ``params``, by name, lead to; raises ValueError if the space asks for others."""

        def source(name: str, part: BaseDistribution) -> Primitive:
            if name not in params:
                raise ValueError(f"{name} was not drawn")
            try:
                return stored(params[name], part)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None

        draft = self._valid(arm, source)
        for name in params:
            if name not in draft.params:
                raise ValueError(f"{name} is not searched")
        return draft

    def hold(self, settings: Strategy, *, backbone: str = "") -> Draft:
        """The draws that lead to ``settings`` on the backbone called so.

        Raises ValueError if the narrowed space does not hold them.
        """
        arm, reader = arm_of(settings.name, backbone), SettingsTrial(settings)
        spaces_of(self.task)[settings.name](reader)
        draft = self.redraw(arm, {under(arm, name): value for name, value in reader.params.items()})
        if draft.strategy != settings:
            raise ValueError(f"{settings.name}: settings that are not searched differ from those of this sweep")
        return draft

    def _valid(self, arm: str, source: Source) -> Draft:
        try:
            return self.draw(arm, source)
        except ValidationError as error:
            raise ValueError(describe(error)) from None

    def check(self) -> None:
        """Raise ValueError if a narrowed range has an unknown key, or is no part of what a strategy searches."""
        every = {
            under(arm, name): distribution
            for arm in self.arms
            for name, distribution in inventory(strategy_in(arm), self.task).items()
        }
        for key in self.narrowing.ranges:
            if not any(self.narrowing.key(name) == key for name in every):
                owner = key.partition("/")[0]
                if AT in owner and owner not in self.arms:
                    raise ValueError(f"{key}: there is no '{owner}'; choose from {', '.join(self.arms)}")
                known = strategy_in(owner) in self.strategies
                raise ValueError(unknown_path(key, (strategy_in(owner),) if known else self.strategies, self.task))
        for name, distribution in every.items():
            self.narrowing.apply(name, distribution)

    def check_fixed(self) -> None:
        """Raise ValueError for settings that cannot stay as they are wanted, also beside something that is drawn."""
        searched = {
            arm: [name.partition("/")[2] for name in inventory(strategy_in(arm), self.task)] for arm in self.arms
        }
        self.fixed.check({arm: default_of(strategy_in(arm)) for arm in self.arms}, searched)
        for arm in self.arms if self.fixed.values else ():
            for source in random_sources():
                self.draw(arm, source)
