"""Settings: frozen, unknown keys refused, a docstring under every field."""

from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from handclip_core.errors import InputError

TAGGED = ("strategy", "data", "task")
"""Fields whose class is told by a tag, which pydantic puts into the path behind the field."""


class Config(BaseModel):
    """Base of all settings classes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)

    renamed: ClassVar[dict[str, str]] = {}
    """Keys of earlier versions and what they are called now; an old key is refused with the new one named."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_renamed(cls, values: Any) -> Any:
        for old, new in cls.renamed.items():
            if isinstance(values, dict) and old in values:
                raise ValueError(f"'{old}' is now called '{new}'")
        return values

    @classmethod
    def parse(cls, values: Any, *, source: str) -> Self:
        """Validate ``values``; raises InputError with one line that names every wrong key of ``source``."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(f"{source}: {describe(error)}") from None

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a YAML or JSON file; raises InputError if it is missing, unreadable or wrong."""
        return cls.parse(read_yaml(path), source=str(path))


def read_yaml(path: Path) -> Any:
    """The contents of a YAML or JSON file, loaded safely; raises InputError if it cannot be read."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, not a settings file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not readable as YAML or JSON: {reason}") from None


def describe(error: ValidationError) -> str:
    """One line for all problems of a validation, each with the dotted path of its key."""
    return "; ".join(_describe_one(item["loc"], item["type"], item["msg"]) for item in error.errors())


def _describe_one(location: tuple[int | str, ...], kind: str, message: str) -> str:
    parts = [str(part) for part in location]
    key = ".".join(part for part, before in zip(parts, ["", *parts], strict=False) if before not in TAGGED)
    if kind == "extra_forbidden":
        return f"unknown key '{key}'"
    message = "not a mapping of settings" if kind == "model_type" else message.removeprefix("Value error, ")
    return f"{key}: {message}" if key else message
