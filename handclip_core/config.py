"""Settings: frozen, unknown keys refused, a docstring under every field."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from handclip_core.documents import read_document, shortened
from handclip_core.errors import InputError
from handclip_core.paths import user_path

TAGGED = ("strategy", "data", "task")
"""Fields whose class is told by a tag, which pydantic puts into the path behind the field."""
KIND = "kind"
"""The key of a group that says what sort it is, on which the meaning of its other keys depends."""
TOLD = 4
"""Problems that are told of at a time."""
PLAIN_WORDS = {
    "int": "is no whole number",
    "float": "is no number",
    "finite_number": "is no finite number",
    "bool": "is neither true nor false",
    "string": "is no text; put it into quotes",
    "tuple": "is no list; write [one, another]",
    "dict": "is no mapping of keys to values",
}
"""By the first part of pydantic's kind of error, for values that are of another kind than wanted."""

# A text, since pydantic takes nothing else for a path when it reads JSON.
UserPath = Annotated[
    Path, BeforeValidator(lambda given: str(user_path(given)) if isinstance(given, str | Path) else given)
]
"""A path in settings: ``~`` and ``$VARIABLES`` are put in, and what can be no path is refused."""


class Config(BaseModel):
    """Base of all settings classes."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    renamed: ClassVar[dict[str, str]] = {}
    """Keys of earlier versions and what they are called now; an old key is refused with the new one named."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_renamed(cls, values: Any) -> Any:
        for old, new in cls.renamed.items():
            if isinstance(values, dict) and old in values:
                raise ValueError(f"'{old}' is now called '{new}'")
        return values

    @model_validator(mode="before")
    @classmethod
    def _refuse_yes_for_a_number(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {key: _no_number(value, cls.model_fields.get(key)) for key, value in values.items()}

    @model_validator(mode="before")
    @classmethod
    def _groups_keep_their_defaults(cls, values: Any) -> Any:
        """What a group leaves out is as in the default of the group, which may differ from that of its class."""
        if not isinstance(values, dict):
            return values
        return {key: _filled_up(value, cls.model_fields.get(key)) for key, value in values.items()}

    @classmethod
    def parse(cls, values: Any, *, source: str) -> Self:
        """Validate ``values``; raises InputError with one line that names every wrong key of ``source``."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(f"{source}: {describe(error, cls)}") from None

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a YAML or JSON file; raises InputError if it is missing, unreadable or wrong."""
        return cls.parse(read_document(path), source=str(path))


def _filled_up(given: Any, field: FieldInfo | None) -> Any:
    """A group with the values of its default that it leaves out; one of another kind has other values."""
    default = None if field is None else field.default
    if field is None or not isinstance(given, dict) or not isinstance(default, Config):
        return given
    values = default.model_dump(exclude_unset=True)
    if field.annotation is not type(default) or given.get(KIND, values.get(KIND)) != values.get(KIND):
        return given
    return _merged(values, given)


def _merged(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    both = {key for key in values.keys() & given if isinstance(values[key], dict) and isinstance(given[key], dict)}
    return {**values, **given, **{key: _merged(values[key], given[key]) for key in both}}


class _Answer:
    """What YAML made of ``yes`` or ``true``, which Python would take for a 1."""

    def __init__(self, value: bool) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "true (or yes)" if self._value else "false (or no)"


def _no_number(value: Any, field: FieldInfo | None) -> Any:
    if not isinstance(value, bool) or field is None:
        return value
    kinds = _kinds(field.annotation)
    return _Answer(value) if kinds & {int, float} and bool not in kinds else value


def describe(error: ValidationError, settings: type[Config] = Config) -> str:
    """One line for the first problems of a validation (of ``settings``), each with the dotted path of its key."""
    found = error.errors()
    told = [_describe_one(item["loc"], item["type"], _message(item), item["input"], settings) for item in found[:TOLD]]
    return "; ".join([*told, *([f"and {len(found) - TOLD} more"] if len(found) > TOLD else [])])


def _message(item: ErrorDetails) -> str:
    """What is said of a group whose tag is missing or unknown; pydantic's words of all else."""
    kind, context = item["type"], item.get("ctx", {})
    tag = str(context.get("discriminator", "")).strip("'")
    if kind == "union_tag_not_found":
        return f"say which one it is, by its '{tag}'"
    if kind == "union_tag_invalid":
        choices = context["expected_tags"].replace("'", "")
        return f"unknown {tag} '{shortened(str(context['tag']))}'; choose from {choices}"
    return item["msg"]


def _describe_one(location: tuple[int | str, ...], kind: str, message: str, value: Any, settings: type[Config]) -> str:
    parts = [str(part) for part in location]
    key = ".".join(part for part, before in zip(parts, ["", *parts], strict=False) if before not in TAGGED)
    if kind == "extra_forbidden":
        close = get_close_matches(parts[-1], _keys_at(settings, location), n=1)
        return f"unknown key '{shortened(key)}'" + (f"; did you mean '{close[0]}'?" if close else "")
    words = PLAIN_WORDS.get(kind) or PLAIN_WORDS.get(kind.partition("_")[0])
    if kind in ("model_type", "model_attributes_type"):
        message = "not a mapping of settings"
    elif kind == "missing":
        message = "has to be given"
    elif words:
        message = f"{shortened(repr(value))} {words}"
    else:
        message = message.removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def _keys_at(settings: type[Config], location: tuple[int | str, ...]) -> list[str]:
    """The keys that settings have where ``location`` ends."""
    found = [settings]
    for part in location[:-1]:
        tagged = [kind for kind in found if part in _tags(kind)]
        below = [field.annotation for kind in found if (field := kind.model_fields.get(str(part)))]
        found = tagged or [kind for annotation in below for kind in _kinds(annotation) if _is_config(kind)] or found
    return list(dict.fromkeys(name for kind in found for name in kind.model_fields))


def _tags(settings: type[Config]) -> list[Any]:
    fields = settings.model_fields.values()
    return [
        value for field in fields if get_origin(field.annotation) is Literal for value in get_args(field.annotation)
    ]


def _is_config(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Config)


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation allows for a value: those of a union, but not those within a list."""
    if get_origin(annotation) is Annotated or annotation is None:
        return _kinds(get_args(annotation)[0]) if annotation is not None else set()
    arguments = get_args(annotation)
    if get_origin(annotation) in {tuple, list, dict, Literal} or not arguments:
        return {annotation}
    return {kind for argument in arguments for kind in _kinds(argument)}
