"""All keys of a settings class with meaning, default and bounds: as text for a terminal, and as a JSON schema."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from textwrap import fill
from typing import Any

from handclip_core.config import Config
from handclip_core.errors import InputError

DIALECT = "https://json-schema.org/draft/2020-12/schema"
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
KINDS = {
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "string": "text",
    "array": "list",
    "object": "mapping",
    "null": "none",
}
MIN_WIDTH, MAX_WIDTH = 60, 120


def json_schema(settings: type[Config]) -> str:
    """The JSON schema of ``settings``, by which editors complete and check settings files."""
    return json.dumps({"$schema": DIALECT} | settings.model_json_schema(), indent=1)


def describe_settings(settings: type[Config], key: str | None = None) -> str:
    """Every key of ``settings`` with its kind, bounds, default and meaning; of those below or called ``key``.

    ``key`` is any run of parts of a path (``strategy.optim``, ``lr``), or one of the choices that a group has (a
    strategy, a source of data). Raises InputError, with the closest key, if nothing is called so.
    """
    schema = settings.model_json_schema()
    every = list(_walk(schema, schema, ()))
    keys = [found for found in every if key is None or found.is_called(key)]
    if key is not None and not keys:
        words = {word for found in every for word in (*found.path, *found.choices, found.name)}
        close = get_close_matches(key, sorted(words), n=1)
        raise InputError(f"no setting is called '{key}'" + (f"; did you mean '{close[0]}'?" if close else ""))
    alike: dict[_Key, list[str]] = {}
    for found in keys:
        alike.setdefault(replace(found, choices=()), []).extend(found.choices)
    possible = {found.name: tuple(found.tags) for found in every if found.tags}
    width = min(max(shutil.get_terminal_size().columns, MIN_WIDTH), MAX_WIDTH)
    return "\n".join(_text(found, _whose(found, owners, possible), width) for found, owners in alike.items())


@dataclass(frozen=True)
class _Key:
    """A key as the schema tells it: ``choices`` are those that its path leads through, ``tags`` those it offers."""

    path: tuple[str, ...]
    choices: tuple[str, ...]
    tags: tuple[str, ...]
    kind: str
    default: str
    meaning: str

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def is_called(self, key: str) -> bool:
        return f".{key}." in f".{self.name}." or key in self.choices


def _walk(
    schema: dict[str, Any],
    group: dict[str, Any],
    path: tuple[str, ...],
    choices: tuple[str, ...] = (),
    tag: str = "",
    defaults: Any = None,
) -> Iterator[_Key]:
    """The keys of ``group`` and of what lies below them, but for ``tag``, which tells one choice from another.

    ``defaults`` are those of the place where the group stands, if it has other ones there than its keys say.
    """
    for name, own in group["properties"].items():
        if name == tag:
            continue
        field = own | {"default": defaults[name]} if isinstance(defaults, dict) and name in defaults else own
        below = _resolved(schema, field)
        told_by = below.get("discriminator", {"propertyName": "", "mapping": {}})
        tags = tuple(told_by["mapping"])
        kind = f"group, whose {told_by['propertyName']} is one of {', '.join(tags)}" if tags else _kind(schema, below)
        meaning = field.get("description", "" if tags else below.get("description", ""))
        default = _default(schema, field, required=name in group.get("required", ()))
        yield _Key((*path, name), choices, tags, kind, default, " ".join(meaning.replace("``", "").split()))
        if "properties" in (alone := _one_group(schema, below)):
            yield from _walk(schema, alone, (*path, name), choices, defaults=field.get("default"))
        for choice, reference in told_by["mapping"].items():
            part = _resolved(schema, {"$ref": reference})
            yield from _walk(schema, part, (*path, name), (*choices, choice), told_by["propertyName"])


def _default(schema: dict[str, Any], field: dict[str, Any], *, required: bool) -> str:
    """The default of a key; that of a group is told by its keys."""
    if "default" not in field:
        return "has to be given" if required else ""
    value, below = field["default"], _resolved(schema, field)
    if "discriminator" in below and isinstance(value, dict):
        value = value.get(below["discriminator"]["propertyName"])
    elif "properties" in _one_group(schema, below) and isinstance(value, dict):
        return ""
    return f"default {_value(value)}"


def _resolved(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    reference = field.get("$ref")
    return schema["$defs"][reference.rpartition("/")[2]] if reference else field


def _one_group(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    """The group that a field takes, or else the field: one that may be a list of groups takes one alone, too."""
    alone = (_resolved(schema, choice) for choice in field.get("anyOf", ()))
    return next((choice for choice in alone if "properties" in choice), field)


def _kind(schema: dict[str, Any], field: dict[str, Any]) -> str:
    """The values that a field takes, in words."""
    field = _resolved(schema, field)
    if "anyOf" in field:
        return ", or ".join(_kind(schema, choice) for choice in field["anyOf"])
    if "const" in field:
        return f"always {_value(field['const'])}"
    if "enum" in field:
        return f"one of {', '.join(map(_value, field['enum']))}"
    if "properties" in field:
        return "group"
    kind = "path" if field.get("format") == "path" else KINDS.get(field.get("type", ""), "any value")
    if kind == "list" and "items" in field:
        kind = f"list, each {_kind(schema, field['items'])}"
    return ", ".join([kind, *(f"{words} {field[bound]:.12g}" for bound, words in BOUNDS.items() if bound in field)])


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) and value else json.dumps(value)


def _whose(found: _Key, owners: list[str], possible: dict[str, tuple[str, ...]]) -> str:
    """Which of the choices above have this key, in as few words as say so; none if all have it."""
    above = next((tags for name, tags in possible.items() if found.name.startswith(f"{name}.")), ())
    others = [choice for choice in above if choice not in owners]
    if not others:
        return ""
    return f"of {', '.join(owners)}" if len(owners) <= len(others) else f"of all but {', '.join(others)}"


def _text(found: _Key, whose: str, width: int) -> str:
    head = f"{found.name}: {'; '.join(filter(None, [found.kind, found.default, whose]))}"
    indented: dict[str, Any] = {
        "width": width, "subsequent_indent": "    ", "break_long_words": False, "break_on_hyphens": False
    }  # fmt: skip
    lines = [fill(head, **indented)]
    return "\n".join([*lines, fill(found.meaning, initial_indent="    ", **indented)] if found.meaning else lines)
