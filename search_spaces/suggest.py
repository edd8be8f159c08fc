"""Ranges for the fields of settings classes, drawn by an Optuna trial or read back from settings.

A range stands beside the field it belongs to, as a keyword, so a misspelt field is a TypeError. The name that Optuna
sees is the field's path under a prefix: ``full/optim/lr``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

from handclip_core.config import Config

Primitive = bool | int | float | str | None
"""What Optuna stores for a parameter."""

Settings = TypeVar("Settings", bound=Config)


class TrialLike(Protocol):
    """The part of ``optuna.Trial`` that spaces use."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in [low, high]."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """An integer in [low, high]."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of ``choices``."""
        ...


class Range(Protocol):
    """Values that a field may take."""

    def draw(self, trial: TrialLike, name: str) -> object:
        """The field's value in ``trial``, in which it is called ``name``."""
        ...


@dataclass(frozen=True)
class Float:
    """Real numbers from ``low`` to ``high``, both included."""

    low: float
    high: float

    def draw(self, trial: TrialLike, name: str) -> float:
        """A number, evenly distributed."""
        return trial.suggest_float(name, self.low, self.high)


@dataclass(frozen=True)
class LogFloat:
    """Positive numbers from ``low`` to ``high``, whose logarithm is what matters."""

    low: float
    high: float

    def draw(self, trial: TrialLike, name: str) -> float:
        """A number, its logarithm evenly distributed."""
        return trial.suggest_float(name, self.low, self.high, log=True)


@dataclass(frozen=True)
class LogInt:
    """Positive integers from ``low`` to ``high``, whose logarithm is what matters."""

    low: int
    high: int

    def draw(self, trial: TrialLike, name: str) -> int:
        """An integer, its logarithm evenly distributed."""
        return trial.suggest_int(name, self.low, self.high, log=True)


@dataclass(frozen=True)
class Choice:
    """One of ``values``; Optuna sees their labels."""

    values: tuple[object, ...]

    def draw(self, trial: TrialLike, name: str) -> object:
        """One of the values."""
        by_label = {label(value): value for value in self.values}
        assert len(by_label) == len(self.values), f"two values of {name} share a label"
        return by_label[trial.suggest_categorical(name, list(by_label))]


@dataclass(frozen=True)
class When:
    """``range``, if an earlier field of the same settings has one of ``values``; elsewhere the field has no effect.

    ``field`` is a dotted path.
    """

    field: str
    values: tuple[object, ...]
    range: "Range | Nested"

    def met(self, drawn: dict[str, Any]) -> bool:
        """Whether the fields ``drawn`` so far give the range a meaning."""
        first, *others = self.field.split(".")
        value = drawn[first]
        for part in others:
            value = getattr(value, part)
        return value in self.values


class Nested:
    """Ranges for some fields of a nested settings class; the other fields keep the outer class's defaults."""

    def __init__(self, kind: type[Config], /, **ranges: "Range | Nested | When") -> None:
        """``kind`` is the class of the nested settings; an unknown field is a TypeError."""
        refuse_unknown(kind, ranges)
        self.kind = kind
        self.ranges = ranges


def suggest(trial: TrialLike, kind: type[Settings], /, *, prefix: str, **ranges: Range | Nested | When) -> Settings:
    """Settings of class ``kind``: fields with a range are drawn in its order, all others keep their defaults.

    Raises TypeError for a keyword that is no field of ``kind``, and pydantic's ValidationError if a range allows
    what the field forbids.
    """
    refuse_unknown(kind, ranges)
    return _drawn(trial, kind(), prefix, ranges)


def refuse_unknown(kind: type[Config], ranges: dict[str, Any]) -> None:
    """Raise TypeError for a range whose name is no field of ``kind``."""
    unknown = sorted(ranges.keys() - kind.model_fields.keys())
    if unknown:
        raise TypeError(f"{kind.__name__} has no field {unknown[0]!r}; it has {', '.join(kind.model_fields)}")


def label(value: object) -> Primitive:
    """What Optuna stores for ``value``: itself if it can, an enum's value, a row of values joined by ' > '."""
    if isinstance(value, Enum):
        return label(value.value)
    if isinstance(value, tuple):
        return " > ".join(str(label(item)) for item in value)
    assert value is None or isinstance(value, bool | int | float | str), f"no label for {value!r}"
    return value


def _drawn(trial: TrialLike, base: Settings, path: str, ranges: dict[str, Range | Nested | When]) -> Settings:
    values: dict[str, Any] = dict(base)
    for name, given in ranges.items():
        where = f"{path}/{name}"
        if isinstance(given, When):
            if not given.met(values):
                continue
            given = given.range
        if isinstance(given, Nested):
            assert isinstance(values[name], given.kind), f"{where} is no {given.kind.__name__}"
            values[name] = _drawn(trial, values[name], where, given.ranges)
        else:
            values[name] = given.draw(trial, where)
    return type(base)(**values)


class SettingsTrial:
    """Stands in for a trial and answers with what ``settings`` hold; ``params`` are the answers by Optuna's names."""

    def __init__(self, settings: Config) -> None:
        self._settings = settings
        self.params: dict[str, Primitive] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """The settings' number; raises ValueError if it lies outside the range."""
        del log
        return float(self._within(name, low, high))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """The settings' integer; raises ValueError if it lies outside the range."""
        del log
        return int(self._within(name, low, high))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """The label of the settings' value; raises ValueError if it is none of ``choices``."""
        value = label(self._at(name))
        if value not in choices:
            raise ValueError(f"{name} = {value!r} is none of {', '.join(map(repr, choices))}")
        self.params[name] = value
        return value

    def _within(self, name: str, low: float, high: float) -> float:
        value = self._at(name)
        assert isinstance(value, int | float)
        if not low <= value <= high:
            raise ValueError(f"{name} = {value:g} lies outside {low:g} to {high:g}")
        self.params[name] = value
        return value

    def _at(self, name: str) -> object:
        return value_at(self._settings, name)


def value_at(settings: Config, name: str) -> object:
    """What the settings hold at ``name``, as Optuna sees it: a prefix and the field's path."""
    value: object = settings
    for part in name.split("/")[1:]:
        value = getattr(value, part)
    return value
