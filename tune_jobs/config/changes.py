"""Which settings a sweep may be resumed with other values of; each says so itself, where it is declared."""

from dataclasses import dataclass
from typing import Annotated, TypeVar

from handclip_core.config import Config

Value = TypeVar("Value")


@dataclass(frozen=True)
class _MayChange:
    """Marks a setting that no trial's result depends on."""


MayChange = Annotated[Value, _MayChange()]
"""A setting that a sweep may be resumed with another value of, and all that is below it."""


def changeable(settings: type[Config], prefix: str = "") -> tuple[str, ...]:
    """The settings that may change, by dotted keys: ``limits``, ``search.storage``."""
    found: list[str] = []
    for name, field in settings.model_fields.items():
        if any(isinstance(mark, _MayChange) for mark in field.metadata):
            found.append(f"{prefix}{name}")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            found += changeable(field.annotation, f"{prefix}{name}.")
    return tuple(found)
