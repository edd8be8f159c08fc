"""Settings that every trial of a sweep has, whatever else is drawn: values by path that no space searches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import ValidationError

from handclip_core.config import Config, describe
from search_spaces.arms import strategy_in

Settings = TypeVar("Settings", bound=Config)


@dataclass(frozen=True)
class Fixed:
    """Values by key: a path that goes for every strategy with such a setting, or one below a strategy or an arm.

    The longer key counts before the shorter, as with narrowed ranges.
    """

    values: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, arm: str, settings: Settings) -> Settings:
        """``settings`` of ``arm`` with the values in place; raises ValueError for one that the settings refuse."""
        found = dict(self._of(arm, settings))
        if not found:
            return settings
        changed = settings.model_dump()
        for path, (_, value) in found.items():
            *groups, last = path.split("/")
            place = changed
            for group in groups:
                place = place[group]
            place[last] = value
        try:
            return type(settings).model_validate(changed)
        except ValidationError as error:
            raise ValueError(f"{', '.join(key for key, _ in found.values())}: {describe(error)}") from None

    def check(self, settings: Mapping[str, Config], searched: Mapping[str, Sequence[str]]) -> None:
        """Raise ValueError for a key that is no setting of any arm, or is searched, and for values that are refused.

        ``settings`` are the defaults of the arms, ``searched`` the paths that each of them searches.
        """
        used: set[str] = set()
        for arm, default in settings.items():
            for path, (key, _) in self._of(arm, default):
                used.add(key)
                inside = next((one for one in searched[arm] if f"{one}/".startswith(f"{path}/")), None)
                if inside is not None:
                    raise ValueError(f"{key}: {arm} searches {inside}; narrow it by search.ranges")
            self.apply(arm, default)
        for key in self.values:
            if key not in used:
                paths = list(dict.fromkeys(path for default in settings.values() for path in _paths(default)))
                close = get_close_matches(key, [*paths, *(f"{arm}/{path}" for arm in settings for path in paths)], n=1)
                hint = f"; did you mean '{close[0]}'?" if close else ""
                raise ValueError(f"{key}: is no setting of {', '.join(settings)}{hint}")

    def _of(self, arm: str, settings: Config) -> Iterator[tuple[str, tuple[str, Any]]]:
        """Path, key and value of what goes for ``arm``, the longest key of each path."""
        found: dict[str, tuple[str, Any]] = {}
        for start in ("", f"{strategy_in(arm)}/", f"{arm}/"):
            for key, value in self.values.items():
                path = key.removeprefix(start)
                if key.startswith(start) and has_setting(settings, path):
                    found[path] = (key, value)
        yield from found.items()


def has_setting(settings: Config, path: str) -> bool:
    """Whether there is such a field, all groups on the way to it being there."""
    *groups, last = path.split("/")
    place: object = settings
    for group in groups:
        place = getattr(place, group, None) if isinstance(place, Config) and group in type(place).model_fields else None
    return isinstance(place, Config) and last in type(place).model_fields and path != "name"


def _paths(settings: Config, prefix: str = "") -> Iterator[str]:
    for name in type(settings).model_fields:
        yield f"{prefix}{name}"
        value = getattr(settings, name)
        if isinstance(value, Config):
            yield from _paths(value, f"{prefix}{name}/")
