"""The backbones of a sweep: one, or several among which it searches; and what each is called."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter

from handclip_core.models.backbone import BackboneSettings
from handclip_core.strategies import ALL

READ_TEXT = tuple(kind.model_fields["name"].default for kind in ALL if kind.reads_text)
"""Names of the strategies that read texts."""
_NO_PART_OF_A_LABEL = re.compile(r"[^\w.+-]+")
_EACH: TypeAdapter[tuple[BackboneSettings, ...]] = TypeAdapter(tuple[BackboneSettings, ...])


def _listed(given: Any) -> Any:
    """One or several backbones as settings, each by its name or with more; a list of one is that one."""
    if not isinstance(given, list | tuple):
        return given if isinstance(given, BackboneSettings) else BackboneSettings.model_validate(_by_name(given))
    several = _EACH.validate_python([_by_name(one) for one in given])
    if not several:
        raise ValueError("name at least one backbone")
    twice = [one.name for one, count in Counter(several).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]} is named twice; name each backbone once")
    # Of a list of one nothing is chosen, so no table and no hyperparameter names it.
    return several if len(several) > 1 else several[0]


def _by_name(given: Any) -> Any:
    return {"name": given} if isinstance(given, str) else given


SearchedBackbones = Annotated[BackboneSettings | tuple[BackboneSettings, ...], BeforeValidator(_listed)]
"""One backbone, or a list of several, each by its name or with more settings."""
_SEARCHED: TypeAdapter[BackboneSettings | tuple[BackboneSettings, ...]] = TypeAdapter(SearchedBackbones)


def as_tuple(given: BackboneSettings | tuple[BackboneSettings, ...]) -> tuple[BackboneSettings, ...]:
    """The backbones of a sweep, however many."""
    return given if isinstance(given, tuple) else (given,)


def can_use(strategy: str, backbone: BackboneSettings) -> bool:
    """Whether a strategy has all that it needs of a backbone: some read texts, which an image tower alone does not."""
    return not backbone.images_only or strategy not in READ_TEXT


def as_it_is(backbone: BackboneSettings) -> str:
    """What a backbone that nothing was trained of is called in sentences; an image tower alone is no CLIP."""
    return "its backbone as it is" if backbone.images_only else "CLIP as it is"


def labels_in(stored: Any) -> dict[BackboneSettings, str]:
    """What the backbones in a sweep's stored settings are called; nothing if there is one."""
    return labels(as_tuple(_SEARCHED.validate_python(stored))) if isinstance(stored, list) else {}


def labels(backbones: Sequence[BackboneSettings]) -> dict[BackboneSettings, str]:
    """What each of several backbones is called in tables and in names of hyperparameters; a single one has no name.

    That is the last part of its own name, with that of its weights if others are called so too, and a number if that
    does not tell them apart either. No slash and no space is in it.
    """
    if len(backbones) == 1:
        return {backbones[0]: ""}
    short = [_label(PurePath(one.name).name) for one in backbones]
    named = [
        f"{name}-{_label(PurePath(one.pretrained).stem)}" if short.count(name) > 1 and one.pretrained else name
        for name, one in zip(short, backbones, strict=True)
    ]
    numbered = [
        f"{name}-{named[: at + 1].count(name)}" if named.count(name) > 1 else name for at, name in enumerate(named)
    ]
    if len(set(numbered)) < len(numbered):  # one may be called as another with its number
        numbered = [f"{at}-{name}" for at, name in enumerate(short, start=1)]
    return dict(zip(backbones, numbered, strict=True))


def _label(name: str) -> str:
    return _NO_PART_OF_A_LABEL.sub("-", name)
